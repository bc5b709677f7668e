"""A reward of (s, a) that learns what a model of whole episodes pays."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.decomposition.whole import Episodes


def distillation(rewards: Tensor, targets: Tensor, episodes: Episodes, rows: Tensor | None = None) -> Tensor:
    """Return the mean squared error of rewards (N, L, 1) against targets (N, L), held constant, ().

    Args:
        rows: the numbers n L + t of the steps that count, (B,); None: every step of the episodes, once.
    """
    squares = (rewards[..., 0] - targets.detach()).square()
    if rows is not None:
        return squares.flatten()[rows].mean()
    return torch.where(episodes.inside, squares, 0.0).sum() / episodes.inside.sum()
