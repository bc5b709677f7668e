"""What a model divides returns by before it fits them, and multiplies its payments by."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.errors import ConfigError
from utils.floats import widest
from utils.moments import Moments
from utils.settings.fields import Config
from utils.torch_utils import resolve_device


class ReturnScale(nn.Module):
    """The number `return_scale`, or where that is 0 the standard deviation of the returns that the model has fitted.

    Attributes:
        fixed: the number, 1 where the algorithm does not read `return_scale`.
        counts: whether the scale is counted from returns.
    """

    def __init__(self, config: Config):
        """Build it; it has state only where it counts.

        Raises:
            ConfigError: it would have to count, but the model learns in the agent's updates, which count nothing.
        """
        super().__init__()
        self.fixed = 1.0 if config.return_scale is None else config.return_scale
        self.counts = self.fixed == 0
        if self.counts:
            check_bursts(config)
            device = resolve_device(config.device)
            # The count, mean and variance of `utils.moments`.
            self.register_buffer("moments", torch.zeros(3, dtype=widest(device), device=device))

    @torch.no_grad()
    def count(self, returns: Tensor) -> None:
        """Count the returns of a batch, (N, 1)."""
        if not self.counts:
            return
        moments = Moments(device=self.moments.device, dtype=self.moments.dtype)
        moments.count, moments.mean, moments.var = self.moments
        moments.update(returns[:, 0])
        self.moments.copy_(torch.stack([moments.count, moments.mean, moments.var]))

    def forward(self) -> float | Tensor:
        """Return the scale; 1 as long as the returns that were counted do not differ."""
        if not self.counts:
            return self.fixed
        std = self.moments[2].sqrt()
        return torch.where(std > 0, std, 1.0)

    def over(self, values: Tensor) -> Tensor:
        """Return returns or rewards over the scale; the tensor itself where the scale is fixed at 1."""
        return values if self.fixed == 1 else values / self()

    def times(self, values: Tensor) -> Tensor:
        """Return values times the scale; the tensor itself where the scale is fixed at 1."""
        return values if self.fixed == 1 else values * self()


def check_bursts(config: Config) -> None:
    """Raise a ConfigError if a model learns in the agent's updates; on policy it learns before a rollout is paid."""
    if config.fit_every or config.on_policy:
        return
    if config.fit_every is None:
        raise ConfigError(f"return_scale: got 0 with {config.alg}, which learns in each update of the agent and counts "
                          "no returns; expected a number above 0, or a decomposition that learns in bursts, such as rd "
                          "with --fit_every=1000")
    raise ConfigError("return_scale: got 0 with fit_every=0, expected a number above 0, or bursts such as "
                      "--fit_every=1000")
