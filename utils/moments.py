"""Running mean and variance of everything that was seen, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Moments:
    """Mean and population variance of all rows seen so far, by the rule of Chan, Golub and LeVeque (1979):

        d = mean_B - mean,   mean += d n_B / n,   n var = n_A var_A + n_B var_B + d^2 n_A n_B / n,   n = n_A + n_B
    """

    def __init__(self, *shape: int, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float64):
        """shape: of a row. Before the first one the mean is 0, the variance 1 and the count 0."""
        self.mean = torch.zeros(shape, dtype=dtype, device=device)
        self.var, self.count = torch.ones_like(self.mean), torch.zeros((), dtype=dtype, device=device)

    def update(self, rows: Tensor, taken: Tensor | None = None) -> None:
        """Count a batch of rows, (B, *shape).

        Args:
            taken: (B,) bool, the rows that count; None: all. It is not read by the CPU, so a GPU is not waited for.
        """
        rows = rows.to(self.mean.dtype)
        weights = rows.new_ones(len(rows)) if taken is None else taken.to(rows.dtype)
        weights = weights.view(-1, *[1] * (rows.dim() - 1))                     # (B, 1, ...)
        some = weights.sum()
        mean = (rows * weights).sum(0) / some.clamp(min=1)
        squares = ((rows - mean).square() * weights).sum(0)                     # n_B var_B
        count = self.count + some
        shift, share = mean - self.mean, some / count.clamp(min=1)
        total = self.var * self.count + squares + shift.square() * self.count * share
        self.var = torch.where(some > 0, total / count.clamp(min=1), self.var)
        self.mean = self.mean + shift * share
        self.count = count

    def state(self) -> dict[str, Tensor]:
        """Return copies of the moments, on the CPU."""
        return {name: getattr(self, name).to("cpu", copy=True) for name in ("mean", "var", "count")}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        for name in ("mean", "var", "count"):
            setattr(self, name, state[name].to(self.mean, copy=True))
