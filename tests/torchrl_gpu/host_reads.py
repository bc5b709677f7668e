"""A block in which the host may not read a tensor: on a GPU each such read would wait for the device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# What returns numbers to Python, or needs them to know how large its result is.
OPERATORS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "unique_dim", "_unique2",
             "unique_consecutive", "repeat_interleave.Tensor"}
METHODS = {"cpu", "numpy", "tolist", "item", "__bool__", "__float__", "__int__", "__index__",
           "__array__"}


class HostRead(AssertionError):
    """The host has read a tensor."""


class _Operators(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if {func.overloadpacket.__name__, func.__name__} & OPERATORS:
            raise HostRead(str(func))
        if any(isinstance(index, torch.Tensor) and index.dtype == torch.bool
               for index in (args[1] if func.overloadpacket.__name__ in ("index", "index_put_", "index_put") else ())
               if index is not None):
            raise HostRead(f"{func} by a mask")
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in METHODS:
            raise HostRead(str(func))
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def none_allowed() -> Iterator[None]:
    """Raise HostRead where the host reads a tensor inside the block."""
    with _Operators(), _Methods():
        yield
