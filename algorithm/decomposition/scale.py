"""What a model divides returns by before it fits them, and multiplies its payments by."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.errors import ConfigError
from utils.floats import widest
from utils.moments import Moments
from utils.settings.fields import Config


class ReturnScale(nn.Module):
    """The number `return_scale`, or where that is 0 the standard deviation of the returns that the model has fitted."""

    def __init__(self, config: Config):
        """Build it; it has state only where it counts.

        Raises:
            ConfigError: it would have to count, but the model learns in the agent's updates, which count nothing.
        """
        super().__init__()
        self.fixed = config.return_scale
        if self.fixed == 0:
            if config.fit_every == 0:
                raise ConfigError("return_scale: got 0 with fit_every=0, expected a number above 0, or bursts such as "
                                  "--fit_every=1000")
            # The count, mean and variance of `utils.moments`.
            self.register_buffer("moments", torch.zeros(3, dtype=widest(torch.device(config.device))))

    @torch.no_grad()
    def count(self, returns: Tensor) -> None:
        """Count the returns of a batch, (N, 1)."""
        if self.fixed:
            return
        moments = Moments(device=self.moments.device, dtype=self.moments.dtype)
        moments.count, moments.mean, moments.var = self.moments
        moments.update(returns[:, 0])
        self.moments.copy_(torch.stack([moments.count, moments.mean, moments.var]))

    def forward(self) -> float | Tensor:
        """Return the scale; 1 as long as the returns that were counted do not differ."""
        if self.fixed:
            return self.fixed
        std = self.moments[2].sqrt()
        return torch.where(std > 0, std, 1.0)
