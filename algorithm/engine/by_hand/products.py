"""Products of matrices by one of two libraries: PyTorch's own (MKL), or oneDNN."""

from __future__ import annotations

import functools
from typing import Optional

import torch
from torch import Tensor

# MKL uses AVX2 on processors that are not Intel's, oneDNN uses AVX-512 where there is it; on Intel's either may be the
# faster one. So both are timed (`by_hand.timing`).
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
LEAST = 1_500_000       # multiply-adds; a call of oneDNN costs about 20 us more


def sizes(x: Tensor) -> tuple[int, ...]:
    """The shape of `x` in numbers: while TorchScript traces, `x.shape` has tensors, which round as float32."""
    return tuple(map(int, x.shape))


def is_large(rows: int, inner: int, columns: int) -> bool:
    """Whether a product (rows, inner) x (inner, columns) may be oneDNN's."""
    return rows * inner * columns > LEAST


def onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """(B, I), (O, I), (O,) -> (B, O), new memory."""
    # columns cut out of a matrix would be multiplied a hundred times slower than a copy of them
    x, weight = (m if m.is_contiguous() or m.t().is_contiguous() else m.contiguous() for m in (x, weight))
    call = _scripted() if is_tracing() else _linear
    return call(x, weight, bias, "relu" if relu else "none")


def is_tracing() -> bool:
    """Whether TorchScript traces in this thread; a PyTorch without it never does."""
    return hasattr(torch, "jit") and torch.jit.is_tracing()


def _linear(x: Tensor, weight: Tensor, bias: Optional[Tensor], after: str) -> Tensor:    # noqa: UP045 (TorchScript)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], "")


@functools.cache
def _scripted():
    """`_linear` as a script: the tracer does not accept its empty list of scalars."""
    return torch.jit.script(_linear)
