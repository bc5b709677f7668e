"""A model as one safetensors file: tensors by name, a header that identifies the model, and a checksum over both.

No pickle is written or read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load, save
from torch import Tensor

from utils.errors import CheckpointError
from utils.files import read_file, write_file
from utils.text import did_you_mean

__all__ = ["CheckpointError", "check_same", "read_checkpoint", "read_identity", "write_checkpoint"]

FORMAT = "return-decomposition/2"           # format 1 had a checksum over the tensors alone
MARK = b'"sha256":"'                        # no JSON string can contain it: its quotes would be escaped


def write_checkpoint(path: str | Path, state: dict[str, Tensor], identity: dict[str, str]) -> None:
    """Write tensors and identity to `path`, whole or not at all.

    Args:
        state: tensors by name.
        identity: identifies the model, such as its algorithm and sizes.
    Raises:
        FileNotFoundError: the directory does not exist.
        SaveError: the file could not be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    data = save(state, metadata={"format": FORMAT, "sha256": "0" * 64, **identity})
    at = data.index(MARK) + len(MARK)
    data = data[:at] + _digest(data).encode() + data[at + 64:]
    write_file(path, data)


def read_checkpoint(path: str | Path, identity: Mapping[str, str], optional: Sequence[str] = ()) -> dict[str, Tensor]:
    """Return the tensors in `path`, on the CPU.

    Args:
        identity: what the file must say of itself.
        optional: names that `identity` and the file may leave out, if both do.
    Raises:
        CheckpointError: the file cannot be read, is damaged, or its identity differs.
    """
    state, metadata = _read(path)
    for name in dict.fromkeys([*identity, *optional]):
        got, expected = (_shown(of.get(name), name in optional) for of in (metadata, identity))
        if got != expected:
            raise CheckpointError(f"{path}: {name}: got {got}, expected {expected}")
    return state


def _shown(value: str | None, optional: bool) -> str:
    return "the default" if optional and value is None else repr(value)


def read_identity(path: str | Path) -> dict[str, str]:
    """Return the identity of the model in `path`, as given to `write_checkpoint`.

    Raises:
        CheckpointError: the file cannot be read, or is damaged.
    """
    return {name: value for name, value in _read(path)[1].items() if name not in ("format", "sha256")}


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        data = read_file(path)
        state = load(data)                              # checks every offset before it takes any memory
        metadata = _metadata(data)
    except Exception as error:                          # damaged bytes make safetensors and torch raise any kind
        what = str(error) or type(error).__name__
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"not a checkpoint ({what})"
        raise CheckpointError(f"{path}: {reason}") from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: got format {metadata.get('format')!r}, expected {FORMAT!r}")
    if metadata.get("sha256") != _digest(data):
        raise CheckpointError(f"{path}: damaged, its checksum does not match")
    return state, metadata


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8:8 + size], object_pairs_hook=_no_duplicates).get("__metadata__") or {}


def _no_duplicates(pairs: list[tuple]) -> dict:
    """Refuse equal names: one reader would take the first, another one the last."""
    if len(names := dict(pairs)) < len(pairs):
        raise ValueError("its header contains a name twice")
    return names


def _digest(data: bytes) -> str:
    """Return the SHA-256 of the file without the digest itself."""
    at = data.find(MARK) + len(MARK)
    digest = hashlib.sha256(data[:at])
    digest.update(memoryview(data)[at + 64:])
    return digest.hexdigest()


def check_same(given: Mapping, wanted: Mapping, what: str, known: Mapping | None = None) -> None:
    """Check tensors or arrays by name: they must have the names, shapes and types of `wanted`.

    Args:
        what: the name of `given` in the message.
        known: all names that exist, if not all of them are wanted.
    Raises:
        ValueError: some are unknown, missing, or of another shape or type; the message lists them.
    """
    known = wanted if known is None else known
    wrong = [f"{name}: missing" for name in wanted if name not in given]
    unknown = [name for name in given if name not in known]         # a hostile file may hold a million
    wrong += [f"{name}: unknown{did_you_mean(name, known) if at < 8 else ''}" for at, name in enumerate(unknown)]
    for name in (name for name in wanted if name in given):
        got, expected = tuple(given[name].shape), tuple(wanted[name].shape)
        if got != expected:
            wrong.append(f"{name}: got shape {got}, expected {expected}")
        elif isinstance(given[name], np.ndarray) and given[name].dtype.kind not in "fiu":
            wrong.append(f"{name}: got dtype {given[name].dtype}, expected float32")
        elif isinstance(given[name], Tensor) and given[name].dtype != wanted[name].dtype:
            wrong.append(f"{name}: got dtype {given[name].dtype}, expected {wanted[name].dtype}")
    if wrong:
        more = f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise ValueError(f"{what}: {'; '.join(wrong[:8])}{more}")
