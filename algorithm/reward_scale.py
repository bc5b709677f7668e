"""Rewards divided by the running standard deviation of their discounted sum, as VecNormalize divides them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.moments import Moments


class RewardScale(nn.Module):
    """r / sqrt(var R + 1e-8), clipped to [-10, 10], with R_t = gamma R_{t-1} + r_t, which restarts with each episode.

    The moments are float64, see `utils.moments`. Each step of all environments is counted before it is scaled.
    """

    def __init__(self, gamma: float, clip: float = 10.0, eps: float = 1e-8):
        """Begin with no count."""
        super().__init__()
        self.gamma, self.clip, self.eps = gamma, clip, eps
        for name, value in (("mean", 0.0), ("var", 1.0), ("count", 0.0)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))

    @torch.no_grad()
    def forward(self, rews: Tensor, over: Tensor, running: Tensor, mask: Tensor | None = None
                ) -> tuple[Tensor, Tensor]:
        """Count and scale the steps of a rollout.

        Args:
            rews: (T, N).
            over: whether the episode ended with the step, (T, N).
            running: R of each environment before the first step, float64 (N,).
            mask: which steps count, bool (T, N); None: all. R is 0 after one that does not.
        Returns:
            the scaled rewards, (T, N), and R after the last step, (N,).
        """
        scaled = torch.empty_like(rews)
        for t, (reward, end) in enumerate(zip(rews.double(), over, strict=True)):
            running = self.gamma * running + reward
            self._count(running, None if mask is None else mask[t])
            scaled[t] = (reward / (self.var + self.eps).sqrt()).clamp(-self.clip, self.clip)
            running = running.masked_fill(end if mask is None else end | ~mask[t], 0.0)
        return scaled, running

    def _count(self, values: Tensor, taken: Tensor | None) -> None:
        """Count a batch of numbers, (N,)."""
        moments = Moments(device=values.device)
        moments.mean, moments.var, moments.count = self.mean, self.var, self.count
        moments.update(values, taken)
        for name in ("mean", "var", "count"):
            getattr(self, name).copy_(getattr(moments, name))
