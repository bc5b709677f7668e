"""What the programs are made of."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.engine.by_hand.mlp import MLP
from algorithm.engine.by_hand.onednn import sizes

Fields = dict[str, Tensor]
Task = Callable[[Fields], Info]
Phase = tuple[Task, Task | None]


def mean(x: Tensor) -> Tensor:
    """(B, 1) -> (), (S, B, 1) -> (S,)."""
    return x.mean(dim=(-2, -1))


def fit(critic: MLP, y: Tensor, *inputs: Tensor) -> Tensor:
    """The gradients of mean (Q - y)^2, and its value, ()."""
    return regress(critic, critic.forward(*inputs), y)


def regress(critic: MLP, q: Tensor, y: Tensor) -> Tensor:
    """The same, given Q, what the critic has put out last."""
    error = q - y
    critic.backward(error * (2 / sizes(error)[-2]))
    return mean(error.square())
