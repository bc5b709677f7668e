"""Activations and their derivatives, in memory that is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

aten = torch.ops.aten


class Activation(NamedTuple):
    """h = f(z), element by element.

    Where f'(z) is a function of h, z is not kept: `apply` writes h over it.
    """

    apply: Callable[[Tensor, Tensor], Tensor]       # (z, out) -> h in `out`, of any shape
    slope: Callable[[Tensor, Tensor], Tensor]       # (dL/dh, h or z) -> dL/dz, written over dL/dh
    keeps_z: bool = False                           # whether `slope` takes z


ACTIVATIONS = {
    "relu": Activation(lambda z, out: aten.relu.out(z, out=out),
                       lambda g, h: aten.threshold_backward.grad_input(g, h, 0, grad_input=g)),
    "tanh": Activation(lambda z, out: aten.tanh.out(z, out=out),
                       lambda g, h: aten.tanh_backward.grad_input(g, h, grad_input=g)),
    "elu": Activation(lambda z, out: aten.elu.out(z, out=out),
                      lambda g, h: aten.elu_backward.grad_input(g, 1, 1, 1, True, h, grad_input=g)),
    "silu": Activation(lambda z, out: aten.silu.out(z, out=out),
                       lambda g, z: aten.silu_backward.grad_input(g, z, grad_input=g), keeps_z=True),
    "gelu": Activation(lambda z, out: aten.gelu.out(z, out=out),
                       lambda g, z: aten.gelu_backward.grad_input(g, z, grad_input=g), keeps_z=True),
}
