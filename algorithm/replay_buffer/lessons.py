"""RUDDER's lesson buffer: a model learns from the episodes that it predicts badly, and from those that are unusual."""

from __future__ import annotations

import torch
from torch import Tensor


class Lessons:
    """The last error of each episode, by slot, and draws of those that have most to teach."""

    def __init__(self, capacity: int, size: int, device: torch.device):
        """size: how many of the episodes held are drawn at all."""
        self.errors = torch.full((capacity,), torch.inf, device=device)         # inf: the model has not seen it
        self.size = size
        self.drawn = torch.zeros(0, dtype=torch.int64, device=device)           # the slots of the last batch

    def add(self, slot: int) -> None:
        """Enter a new episode."""
        self.errors[slot] = torch.inf

    def draw(self, slots: Tensor, returns: Tensor, fractions: Tensor) -> Tensor:
        """Draw slots of episodes in proportion to `weights`, (E,), (E,), uniform (N,) -> (N,)."""
        ends = weights(self.errors[slots], returns, self.size).cumsum(0)
        chosen = torch.searchsorted(ends, fractions * ends[-1], right=True).clamp_max(len(slots) - 1)
        self.drawn = slots[chosen]
        return self.drawn

    def note(self, errors: Tensor) -> None:
        """Take the errors of the episodes that were drawn last, (N,)."""
        self.errors[self.drawn] = errors.to(self.errors)


def weights(errors: Tensor, returns: Tensor, size: int) -> Tensor:
    """Return the weights of episodes: e / mean e + |R - mean R| / mean |R - mean R|, (E,), (E,) -> (E,) float64.

    An error that is not known counts as the largest that is. All but the `size` largest weights are 0; of equal ones
    the later episode stays.
    """
    known = errors.isfinite()
    largest = torch.where(known, errors, 0.0).amax()
    parts = (torch.where(known, errors, torch.where(known.any(), largest, 1.0)).double(),
             (returns.double() - returns.double().mean()).abs())
    means = [part.mean() for part in parts]
    found = sum(torch.where(mean > 0, part / mean, 0.0) for part, mean in zip(parts, means, strict=True))
    found = torch.where(found.sum() > 0, found, 1.0)
    if size >= len(found):
        return found
    order = found.argsort(stable=True)                              # ascending
    return found.index_fill(0, order[:-size], 0.0)
