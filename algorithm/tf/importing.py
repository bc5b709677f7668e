"""The one place that imports TensorFlow: quietly, and after what PyTorch imports late."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator

from utils.errors import ConfigError
from utils.installed import pip_install


def import_tensorflow():
    """TensorFlow, for a process that may use PyTorch as well.

    PyTorch imports triton with its first optimiser, if its build has it. A process that has loaded TensorFlow before
    dies of that by a segmentation fault, so PyTorch is completed here first.

    Raises:
        ConfigError: TensorFlow is not installed, or cannot be imported here.
    """
    check_tensorflow()
    if "tensorflow" not in sys.modules:
        complete_pytorch()
    return import_tensorflow_alone()


def complete_pytorch() -> None:
    """Import PyTorch with all that it imports with its first optimiser, and triton."""
    import torch
    with contextlib.suppress(Exception):                # a broken triton does not concern TensorFlow
        torch.optim.SGD([torch.zeros(1)], lr=1.0)
        importlib.import_module("triton")


def check_tensorflow() -> None:
    """Raises ConfigError if TensorFlow is not installed; imports nothing."""
    if sys.modules.get("tensorflow") is None and importlib.util.find_spec("tensorflow") is None:
        raise ConfigError(f"tensorflow: is not installed; {pip_install('tensorflow')} installs it")


def import_tensorflow_alone():
    """TensorFlow, without its greetings on standard error; for a process that never imports PyTorch.

    Raises:
        ConfigError: it cannot be imported here.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with no_standard_error():                       # some of its messages obey no setting (its issue 100442)
            return importlib.import_module("tensorflow")
    except Exception as error:                          # a broken installation raises anything
        raise ConfigError(f"tensorflow: cannot be imported here ({error}); {pip_install('tensorflow')} installs "
                          "it") from None


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
    tf = import_tensorflow()
    with contextlib.suppress(RuntimeError), no_standard_error():        # RuntimeError: it has started already
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        for gpu in tf.config.get_visible_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.constant(0) + 0
