"""Products of matrices: by PyTorch's own library (MKL), by oneDNN, or in bfloat16."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Optional

import torch
from torch import Tensor

# MKL uses AVX2 on processors that are not Intel's, oneDNN uses AVX-512 where there is it; on Intel's either may be the
# faster one. So both are timed (`by_hand.timing`).
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
LEAST = 1_500_000       # multiply-adds; a call of oneDNN costs about 20 us more
MM, BY_ONEDNN, BF16 = "mm", "onednn", "bf16"


def sizes(x: Tensor) -> tuple[int, ...]:
    """The shape of `x` in numbers: while TorchScript traces, `x.shape` has tensors, which round as float32."""
    return tuple(map(int, x.shape))


def is_large(rows: int, inner: int, columns: int) -> bool:
    """Whether a product (rows, inner) x (inner, columns) may be oneDNN's, or in bfloat16."""
    return rows * inner * columns > LEAST


class Products:
    """How the large products of float32 matrices on a CPU are computed; the others are `torch.mm`'s.

    In bfloat16 both operands are rounded to 8 binary digits and their products added in float32. PyTorch rounds the
    sums to bfloat16 again: it has no product on CPUs that returns them in float32.
    """

    def __init__(self, name: str = MM):
        """name: "mm", PyTorch's own; "onednn"; or "bf16"."""
        self.name = name
        self.copies: dict[Tensor, Tensor] = {}      # in bfloat16, of the weights that large products read

    def rounds(self, rows: int, inner: int, columns: int) -> bool:
        """Whether the products of a layer of these sizes, in any order, are in bfloat16."""
        return self.name == BF16 and is_large(rows, inner, columns)

    def weight(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """A weight or a bias in this type: itself, or a copy that `refresh` brings up to date."""
        if dtype == tensor.dtype:
            return tensor
        if tensor not in self.copies:
            self.copies[tensor] = tensor.to(dtype)
        return self.copies[tensor]

    def refresh(self) -> None:
        """Round the weights again, after they have changed."""
        if self.copies:
            torch._foreach_copy_(list(self.copies.values()), list(self.copies))

    def by_onednn(self, rows: int, inner: int, columns: int) -> bool:
        """Whether oneDNN computes a product of these sizes in float32."""
        return self.name == BY_ONEDNN and is_large(rows, inner, columns)

    def fused(self, x: Tensor, columns: int) -> bool:
        """Whether oneDNN adds a bias and applies ReLU in the product of x and a weight of so many rows."""
        return has_bf16() if x.dtype == torch.bfloat16 else self.by_onednn(*sizes(x), columns)


def onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """(B, I), (O, I), (O,) -> (B, O), new memory."""
    # columns cut out of a matrix would be multiplied a hundred times slower than a copy of them
    x, weight = (m if m.is_contiguous() or m.t().is_contiguous() else m.contiguous() for m in (x, weight))
    call = _scripted() if is_tracing() else _linear
    return call(x, weight, bias, "relu" if relu else "none")


@functools.cache
def has_bf16() -> bool:
    """Whether oneDNN multiplies matrices of bfloat16 here: that of PyTorch 2.13 does not without AVX-512."""
    x = torch.full((16, 16), 0.25, dtype=torch.bfloat16)
    try:
        return ONEDNN and bool((_linear(x, x, x[0], "relu") == 1.25).all())
    except RuntimeError:
        return False


def is_tracing() -> bool:
    """Whether TorchScript traces in this thread; a PyTorch without it never does."""
    return hasattr(torch, "jit") and torch.jit.is_tracing()


def _linear(x: Tensor, weight: Tensor, bias: Optional[Tensor], after: str) -> Tensor:    # noqa: UP045 (TorchScript)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], "")


@functools.cache
def _scripted() -> Callable[..., Tensor]:
    """`_linear` as a script: the tracer does not accept its empty list of scalars."""
    return torch.jit.script(_linear)
