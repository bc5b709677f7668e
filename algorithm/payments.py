"""The reward of a step by the return R and the length T of its episode, where nothing is learned."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_reward(returns: Tensor, lengths: Tensor) -> Tensor:
    """Return R/T, in the precision of R: (N,), (N,) -> (N,)."""
    return returns / lengths


def scaled_return(returns: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Return (R - min R) / (max R - min R), (N,); 0 while all returns are equal."""
    return torch.where(highest > lowest, (returns - lowest) / (highest - lowest), 0.0)
