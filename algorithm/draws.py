"""Random steps of episodes, and episodes of different lengths in one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_steps(lengths: Tensor, count: int, width: int, generator: torch.Generator, repeat: bool) -> Tensor:
    """Draw K = `count` steps from each of N episodes: without replacement, with replacement only where K > T.

    The K largest of T random keys are K distinct steps, and each set of them is equally likely.

    Args:
        lengths: T of each episode, (N,).
        width: at least the greatest T and at least K.
        repeat: whether a T may be less than K; False saves time.
    Returns:
        steps in [0, T), (N, K).
    """
    keys = torch.rand(len(lengths), width, generator=generator, device=lengths.device)
    outside = torch.arange(width, device=lengths.device) >= lengths[:, None]
    without = keys.masked_fill_(outside, -1.0).topk(count, dim=1, sorted=False).indices
    if not repeat:
        return without
    fractions = torch.rand(len(lengths), count, dtype=torch.float64, generator=generator, device=lengths.device)
    return torch.where(lengths[:, None] >= count, without, (fractions * lengths[:, None]).long())


def variance_coefficient(sample_size: int, lengths: Tensor) -> Tensor:
    """Return c of RRD-L(RD) by episode length T, float64: 1 - K/T if K <= T and T > 1, 1 if K > T, 0 if T = 1."""
    c = torch.where(lengths >= sample_size, 1 - sample_size / lengths.double(), 1.0)
    return torch.where(lengths == 1, 0.0, c)


def pad(episodes: Sequence[Tensor]) -> Tensor:
    """Stack N tensors (T, ...) of different T into (N, L, ...), L the greatest T; zeros beyond each episode's end."""
    return torch.nn.utils.rnn.pad_sequence(list(episodes), batch_first=True)
