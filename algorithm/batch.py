"""A batch is a mapping from field names to arrays; here it is checked and brought to the agent's device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

Batch = Mapping[str, Any]                       # names to tensors or NumPy arrays
Spec = dict[str, tuple[int | str, ...]]         # names to shapes; a letter is a size that must agree everywhere


def check_batch(batch: Batch, required: Spec, optional: Spec, device: torch.device) -> dict[str, Tensor]:
    """The named fields as float32 tensors on `device`; whatever else the batch holds is left out.

    Raises:
        ValueError: a field is missing, or has the wrong shape or dtype. Floating-point arrays of any width are
            taken; only `done` may be boolean or integer.
    """
    if not isinstance(batch, Mapping):
        raise ValueError(f"batch: got {type(batch).__name__}, wants a mapping with {', '.join(required)}")
    sizes: dict[str, int] = {}
    fields = {}
    for name, shape in (required | {name: optional[name] for name in optional if name in batch}).items():
        if name not in batch:
            raise ValueError(f"batch[{name!r}]: missing, wants shape {_show(shape)}; "
                             f"the batch has {', '.join(map(str, batch)) or 'no fields'}")
        value = _tensor(name, batch[name])
        _check_shape(name, tuple(value.shape), shape, sizes)
        fields[name] = value.to(device, torch.float32)
    return fields


def _tensor(name: str, value: Any) -> Tensor:
    """A detached tensor: PyTorch's own as it is, anything else through a NumPy copy of any layout and byte order."""
    if isinstance(value, Tensor):
        kind, got = _KINDS.get((value.is_floating_point(), value.is_complex()), "i"), str(value.dtype)
    else:
        try:
            value = np.asarray(value)
            kind, got = value.dtype.kind, str(value.dtype)
        except (TypeError, ValueError, RuntimeError):   # rows of different lengths, lists of tensors with gradients
            kind, got = "O", "object"
    if kind != "f" and not (name == "done" and kind in "biu"):
        raise ValueError(f"batch[{name!r}]: got dtype {got.removeprefix('torch.')}, wants float32")
    if isinstance(value, Tensor):
        return value.detach()
    with np.errstate(over="ignore"):                    # a float64 beyond float32 is infinite
        return torch.from_numpy(np.array(value, np.float32))


_KINDS = {(True, False): "f", (False, True): "c"}       # NumPy's letters


def _check_shape(name: str, got: tuple[int, ...], wants: tuple[int | str, ...], sizes: dict[str, int]) -> None:
    def agrees(size: int, want: int | str) -> bool:
        return size == want if isinstance(want, int) else size == sizes.setdefault(want, size)

    if len(got) != len(wants) or not all(agrees(size, want) for size, want in zip(got, wants, strict=True)):
        known = ", ".join(f"{letter} = {size}" for letter, size in sizes.items() if letter in wants)
        raise ValueError(f"batch[{name!r}]: got shape {got}, wants {_show(wants)}{' with ' + known if known else ''}")
    if 0 in got:
        raise ValueError(f"batch[{name!r}]: got shape {got}, which is empty; wants {_show(wants)}")


def _show(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
