"""Distributions of returns over fixed atoms (C51: Bellemare, Dabney and Munos, 2017, arXiv 1707.06887)."""

from __future__ import annotations

import torch
from torch import Tensor


def atoms(v_min: float, v_max: float, count: int) -> Tensor:
    """Return returns at equal distances from v_min to v_max, (Z,)."""
    return torch.linspace(v_min, v_max, count, dtype=torch.float32)


def project(probs: Tensor, rews: Tensor, discounts: Tensor, support: Tensor) -> Tensor:
    """Return the distribution of r + discount z over the atoms of `support`, (B, Z) (algorithm 1).

    The probability of a return between two atoms is shared between them by its distance from each; one beyond the ends
    is that of the end.

    Args:
        probs: of each atom z, (B, Z).
        rews: (B, 1).
        discounts: (B, 1), 0 where the episode ended.
        support: the atoms, (Z,), at equal distances.
    """
    low, high, last = support[0], support[-1], len(support) - 1
    moved = (rews + discounts * support).clamp(low, high)                                       # (B, Z)
    place = ((moved - low) / ((high - low) / last)).clamp(0, last)
    below = place.floor()
    share = place - below                                                                       # of the atom above
    found = torch.zeros_like(probs)
    found.scatter_add_(1, below.long(), probs * (1 - share))
    return found.scatter_add_(1, (below + 1).clamp(max=last).long(), probs * share)
