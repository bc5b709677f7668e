"""A batch is a mapping from field names to arrays; here it is checked and brought to the agent's device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any                                     # a tensor, a NumPy array, or what NumPy makes one of
Batch = Mapping[str, Array]
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
        kinds = "fiub" if name == "done" else "f"
        fields[name] = to_tensor(f"batch[{name!r}]", batch[name], device, kinds)
        _check_shape(name, tuple(fields[name].shape), shape, sizes)
    return fields


def to_tensor(name: str, value: Array, device: torch.device, kinds: str = "f") -> Tensor:
    """A float32 tensor on `device`, without history; arrays are copied, whatever their layout and byte order.

    Args:
        name: how a complaint names it.
        kinds: NumPy's letters of the number types that are taken: f, and i, u, b where integers and flags make sense.
    Raises:
        ValueError: it holds other things.
    """
    if isinstance(value, Tensor):
        kind, got = _kind(value.dtype), str(value.dtype).removeprefix("torch.")
    else:
        try:
            value = np.asarray(value)
            kind, got = value.dtype.kind, str(value.dtype)
        except (TypeError, ValueError, RuntimeError):   # rows of different lengths, lists of tensors with gradients
            kind, got = "O", "object"
    if kind not in kinds:
        raise ValueError(f"{name}: got dtype {got}, wants float32")
    if isinstance(value, Tensor):
        return value.detach().to(device, torch.float32)
    with np.errstate(over="ignore"):                    # a float64 beyond float32 is infinite
        return torch.from_numpy(np.array(value, np.float32)).to(device)


def _kind(dtype: torch.dtype) -> str:
    """NumPy's letter for a number type."""
    return "f" if dtype.is_floating_point else "c" if dtype.is_complex else "i"


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
