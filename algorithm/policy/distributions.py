"""Distributions over actions, with the draws of a generator that can be saved."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0            # between which a policy's log std is clamped
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Gaussian(NamedTuple):
    """A diagonal Gaussian that is not squashed: mean (..., A), log std (A,) or (..., A)."""

    mean: Tensor
    log_std: Tensor

    def mode(self) -> Tensor:
        """The mean, (..., A)."""
        return self.mean

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """mean + std n, n standard normal, (..., A)."""
        noise = torch.randn(self.mean.shape, dtype=self.mean.dtype, device=self.mean.device, generator=generator)
        return self.mean + self.log_std.exp() * noise

    def log_prob(self, acts: Tensor) -> Tensor:
        """sum_A(-((a - mean) / std)^2 / 2 - log std - log(2 pi) / 2): (..., A) -> (...)."""
        z = (acts - self.mean) * (-self.log_std).exp()
        return -(0.5 * z.square() + self.log_std + HALF_LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        """sum_A(1/2 + log(2 pi) / 2 + log std): (...)."""
        return (0.5 + HALF_LOG_2PI + self.log_std).expand_as(self.mean).sum(-1)


class Categorical(NamedTuple):
    """One of A actions: logits (..., A)."""

    logits: Tensor

    def mode(self) -> Tensor:
        """The most probable index, (...)."""
        return self.logits.argmax(-1)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Draw indices, (...)."""
        rows = self.logits.flatten(0, -2).softmax(-1)
        return torch.multinomial(rows, 1, generator=generator).view(self.logits.shape[:-1])

    def log_prob(self, acts: Tensor) -> Tensor:
        """log softmax(logits)[a]: indices (...) -> (...)."""
        return self.logits.log_softmax(-1).gather(-1, acts[..., None])[..., 0]

    def entropy(self) -> Tensor:
        """-sum_A p log p: (...)."""
        log_p = self.logits.log_softmax(-1)
        return -(log_p.exp() * log_p).sum(-1)
