"""Products by oneDNN, where that is faster than MKL."""

from __future__ import annotations

import functools
from typing import Optional

import torch
from torch import Tensor

# PyTorch multiplies float32 by MKL, which uses AVX2 on processors that are not Intel's; oneDNN uses AVX-512 on all that
# have it, and registers of twice the width are up to twice as fast. The choice depends on the machine, never on a
# timing, so that the same run on the same machine gives the same bits.
ONEDNN = (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
          and torch.backends.cpu.get_cpu_capability() == "AVX512")
LEAST = 1_500_000       # multiply-adds; a call of oneDNN costs about 20 us more


def sizes(x: Tensor) -> tuple[int, ...]:
    """The shape of `x` in numbers: while TorchScript traces, `x.shape` has tensors, which round as float32."""
    return tuple(map(int, x.shape))


def by_onednn(rows: int, inner: int, columns: int, x: Tensor) -> bool:
    """Whether oneDNN computes a product (rows, inner) x (inner, columns) of tensors like `x`."""
    return ONEDNN and rows * inner * columns > LEAST and x.device.type == "cpu" and x.dtype == torch.float32


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
