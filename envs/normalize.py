"""Running normalisation of observations and rewards, as Stable-Baselines3's VecNormalize does it.

Each batch is counted before it is normalised. The moments are those of everything seen so far, by default float64.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from envs.state import below
from utils.moments import Moments


class ObsNormalizer:
    """clip((obs - mean) / sqrt(var + eps), -clip, clip), with the moments of all observations so far."""

    def __init__(self, *shape: int, clip: float = 10.0, eps: float = 1e-8, device: str | torch.device = "cpu",
                 dtype: torch.dtype = torch.float64):
        """
        Args:
            shape: of an observation.
            dtype: of the moments; figures of programs that keep them in float32 need it.
        """
        self.clip, self.eps, self.moments = clip, eps, Moments(*shape, device=device, dtype=dtype)

    def normalize(self, obs: Tensor, count: bool = True) -> Tensor:
        """Normalise observations, (N, *shape); `count` them first."""
        if count:
            self.moments.update(obs)
        scaled = (obs.to(self.moments.mean.dtype) - self.moments.mean) / (self.moments.var + self.eps).sqrt()
        return scaled.clamp(-self.clip, self.clip).to(obs.dtype)

    def state(self) -> dict[str, Tensor]:
        """Return copies of the moments."""
        return self.moments.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.moments.restore(state)


class RewardNormalizer:
    """clip(r / sqrt(var(R) + eps), -clip, clip), with R <- gamma R + r of each row, 0 after its episode's end.

    Rewards are divided and not shifted: a shift would change which policy is best.
    """

    def __init__(self, num_envs: int, gamma: float, clip: float = 10.0, eps: float = 1e-8,
                 device: str | torch.device = "cpu"):
        """num_envs: the number of rows, N."""
        self.gamma, self.clip, self.eps, self.moments = gamma, clip, eps, Moments(device=device)
        self.returns = torch.zeros(num_envs, dtype=torch.float64, device=device)

    def normalize(self, rews: Tensor, over: Tensor, active: Tensor | None = None) -> Tensor:
        """Count a step of all rows, and return its normalised rewards.

        Args:
            rews: (N,).
            over: (N,) bool, the rows whose episode ends with this step.
            active: (N,) bool, the rows that take part; None: all.
        """
        self.returns = self.gamma * self.returns + rews
        self.moments.update(self.returns, active)
        self.returns = self.returns.masked_fill(over if active is None else over | ~active, 0)
        return (rews / (self.moments.var + self.eps).sqrt()).clamp(-self.clip, self.clip).to(rews.dtype)

    def state(self) -> dict[str, Tensor]:
        """Return copies of the moments and of R of each row."""
        return {"returns": self.returns.to("cpu", copy=True)} | {
            f"moments/{name}": tensor for name, tensor in self.moments.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.returns = state["returns"].to(self.returns.device, copy=True)
        self.moments.restore(below("moments", state))
