"""One model, one safetensors file: tensors by name, a header that says whose they are, and a checksum.

No pickle is written or read.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from utils.config import CheckpointError, did_you_mean

__all__ = ["CheckpointError", "check_same", "read_checkpoint", "read_identity", "write_checkpoint"]

FORMAT = "return-decomposition/1"


def write_checkpoint(path: str | Path, state: dict[str, Tensor], identity: dict[str, str]) -> None:
    """Write tensors and identity to `path`, by a temporary file beside it: whole or not at all."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    data = save(state, metadata={"format": FORMAT, "sha256": _digest(state), **identity})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_checkpoint(path: str | Path, identity: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors in `path`, on the CPU.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or its identity differs.
    """
    state, metadata = _read(path)
    for name, wants in identity.items():
        if metadata.get(name) != wants:
            raise CheckpointError(f"{path}: {name}: got {metadata.get(name)!r}, wants {wants!r}")
    return state


def read_identity(path: str | Path) -> dict[str, str]:
    """Whose checkpoint it is: what `write_checkpoint` was given as identity.

    Raises:
        CheckpointError: the file cannot be read, or is damaged.
    """
    return {name: value for name, value in _read(path)[1].items() if name not in ("format", "sha256")}


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, safetensors.SafetensorError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"not a checkpoint ({error})"
        raise CheckpointError(f"{path}: {reason}") from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: got format {metadata.get('format')!r}, wants {FORMAT!r}")
    if metadata.get("sha256") != _digest(state):
        raise CheckpointError(f"{path}: damaged, its checksum does not match")
    return state, metadata


def check_same(given: Mapping, wanted: Mapping, what: str, known: Mapping | None = None) -> None:
    """Tensors or arrays by name must be those wanted, in name, shape and kind.

    Args:
        what: how a complaint calls `given`.
        known: all names that there are, where not all of them are wanted.
    Raises:
        ValueError: names every one that is unknown, missing, misshapen or no number.
    """
    known = wanted if known is None else known
    wrong = [f"{name}: missing" for name in wanted if name not in given]
    wrong += [f"{name}: unknown{did_you_mean(name, known)}" for name in given if name not in known]
    for name in (name for name in wanted if name in given):
        got, wants = tuple(given[name].shape), tuple(wanted[name].shape)
        if got != wants:
            wrong.append(f"{name}: got shape {got}, wants {wants}")
        elif isinstance(given[name], np.ndarray) and given[name].dtype.kind not in "fiu":
            wrong.append(f"{name}: got dtype {given[name].dtype}, wants float32")
    if wrong:
        more = f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise ValueError(f"{what}: {'; '.join(wrong[:8])}{more}")


def _digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
