"""TensorFlow, imported quietly."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import tensorflow as tf

from utils.errors import ConfigError
from utils.installed import pip_install


def import_tensorflow():
    """TensorFlow, without its greetings on standard error.

    Raises:
        ConfigError: it is not installed, or cannot be imported here.
    """
    if "tensorflow" in sys.modules and sys.modules["tensorflow"] is not None:
        return sys.modules["tensorflow"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with no_standard_error():                       # some of its messages obey no setting (its issue 100442)
            import tensorflow
    except Exception as error:                          # a broken installation raises anything
        absent = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "tensorflow"
        why = "is not installed" if absent else f"cannot be imported here ({error})"
        raise ConfigError(f"tensorflow: {why}; {pip_install('tensorflow')} installs it") from None
    return tensorflow


@contextlib.contextmanager
def no_standard_error() -> Iterator[None]:
    """Silence what native code writes to standard error, which Python's `sys.stderr` does not see."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def start(device: str) -> None:
    """Start TensorFlow quietly: for `cpu` without GPUs, else taking their memory as it is needed."""
    with contextlib.suppress(RuntimeError), no_standard_error():        # RuntimeError: it has started already
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        for gpu in tf.config.get_visible_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.constant(0) + 0
