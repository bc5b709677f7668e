"""Checkpoints of the original TensorFlow 1 program as files: read and written.

TensorFlow has two formats: `<prefix>.index` with `<prefix>.data-00000-of-00001`, and the first one, a single file
`<prefix>` or, sharded, `<prefix>-00000-of-00002` and so on (before TensorFlow 1.0, or by `Saver(write_version=V1)`).
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from algorithm.tf.importing import import_tensorflow, no_standard_error
from algorithm.tf.process import READER
from algorithm.tf.reader import one_line
from utils.errors import CheckpointError, ConfigError
from utils.files import read_file

Arrays = dict[str, np.ndarray]
PARTS = (".index", ".data-00000-of-00001", ".meta")     # the files of one checkpoint, `<prefix>.index` and so on
SHARD = re.compile(r"(.+)-[0-9]{5}-of-([0-9]{5})")
TABLE = bytes.fromhex("57fb808b247547db")               # the last bytes of a file in the first format, and of an index
MOST_BYTES = 2**20                                      # of an index; one variable takes about thirty


def read_checkpoint(path: str | Path) -> Arrays:
    """Every variable of a name-based checkpoint, which TensorFlow's `tf.train.Saver` wrote, in either format.

    TensorFlow reads it in a process of its own: see `algorithm.tf.reader`.

    Args:
        path: its prefix, such as DIR/model.ckpt, or the path of one of its files; of a checkpoint in TensorFlow's first
            format (before 1.0, or `write_version=V1`) its only file.
    Raises:
        CheckpointError: it is missing, damaged, or of another kind.
        ConfigError: TensorFlow is not installed, or cannot be imported here.
    """
    shards = _first_format(str(path))
    prefix = str(path) if shards else _prefix(str(path))
    try:
        with _plain_shards(shards) if shards else _plain_copy(prefix) as plain:
            return READER.read(plain)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {str(error).replace(plain, prefix)}") from None
    except ConfigError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: damaged, or not a checkpoint ({one_line(error)})") from None


@contextlib.contextmanager
def _plain_copy(prefix: str) -> Iterator[str]:
    """The prefix of the same checkpoint under a plain name: TensorFlow takes [ and a backslash for a pattern."""
    index = read_file(f"{prefix}{PARTS[0]}", MOST_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        plain = os.path.join(folder, "model")
        Path(f"{plain}{PARTS[0]}").write_bytes(index)
        os.symlink(os.path.abspath(f"{prefix}{PARTS[1]}"), f"{plain}{PARTS[1]}")
        yield plain


@contextlib.contextmanager
def _plain_shards(shards: list[str]) -> Iterator[str]:
    """The pattern of the same files of the first format under plain names."""
    with tempfile.TemporaryDirectory() as folder:
        for i, shard in enumerate(shards):
            os.symlink(os.path.abspath(shard), os.path.join(folder, f"model-{i:05}"))
        yield os.path.join(folder, "model-*")


def _first_format(path: str) -> list[str]:
    """The files of a checkpoint in TensorFlow's first format; none if it is in another one.

    Raises:
        CheckpointError: a shard is missing.
    """
    path = path.removesuffix(".meta")
    if os.path.isfile(path + PARTS[0]) or path.endswith(PARTS[0]):
        return []
    shard = SHARD.fullmatch(path)
    stem = shard[1] if shard and _is_table(path) else path
    found = sorted(str(file) for file in Path(stem).parent.glob(f"{glob.escape(Path(stem).name)}-*")
                   if SHARD.fullmatch(str(file)) and _is_table(file))
    if not found or (_is_table(path) and not shard):
        return [path] if _is_table(path) else []
    count = int(SHARD.fullmatch(found[0])[2])
    if len(found) != count:
        raise CheckpointError(f"{path}: got {len(found)} of its {count} shards, expected all of them")
    return found


def _is_table(path: str | Path) -> bool:
    """Whether a file ends as one of the first format does."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(-len(TABLE), os.SEEK_END)
        return file.read() == TABLE
    return False


def _prefix(path: str) -> str:
    prefix = next((path.removesuffix(part) for part in PARTS if path.endswith(part)), path)
    if os.path.isdir(prefix):
        found = sorted(file.name.removesuffix(".index") for file in Path(prefix).glob("*.index"))
        hint = f", such as {os.path.join(prefix, found[0])}" if found else f"; {prefix} holds no checkpoint"
        raise CheckpointError(f"{path}: a directory, expected the prefix of a checkpoint's files{hint}")
    for part in PARTS[:2]:
        if not os.path.isfile(prefix + part):
            what = "no such checkpoint" if not os.path.isfile(prefix) else \
                "is a single file, not a checkpoint's prefix (is it PyTorch's, for --to-tf?)"
            raise CheckpointError(f"{path}: {what}; {prefix + part} is not there")
    return prefix


def write_checkpoint(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as a checkpoint with the prefix `path`; the original's `load_model` reads it too."""
    tensorflow = import_tensorflow()
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    names = list(arrays)
    try:
        with no_standard_error():                       # the first operation starts TensorFlow, which greets again
            tensorflow.raw_ops.SaveV2(prefix=str(temporary), tensor_names=names, shape_and_slices=[""] * len(names),
                                      tensors=[tensorflow.constant(arrays[name]) for name in names])
        for part in reversed(PARTS[:2]):                # the index last: without it there is no checkpoint
            os.replace(f"{temporary}{part}", f"{path}{part}")
    except tensorflow.errors.OpError as error:
        raise OSError(errno.EIO, one_line(error), str(path)) from None
    finally:
        for part in PARTS:
            Path(f"{temporary}{part}").unlink(missing_ok=True)


def load_variables(own: Mapping[str, Any], arrays: Mapping[str, np.ndarray], known: Mapping | None = None) -> None:
    """Assign arrays to the TensorFlow variables of the same names; `known` holds all names, if `own` is a part.

    Raises:
        ValueError: names each array that is missing, unknown, or of a wrong shape or dtype; no variable is changed.
    """
    from utils.checkpoint import check_same
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    check_same(arrays, own, "variables", known)
    for name, variable in own.items():
        variable.assign(arrays[name].astype(np.float32))
