"""Decompositions that learn nothing: the replay pays each step by its episode's return, in the field `rews`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from algorithm.batch import Array, Doubles
from algorithm.decomposition.base import Decomposition
from algorithm.decomposition.episodes import return_of
from algorithm.payments import mean_reward, scaled_return
from utils.errors import ConfigError
from utils.floats import widened, widest
from utils.settings.fields import Config


class Uniform(Decomposition):
    """The baseline that pays every step of an episode its mean reward, R/T."""

    markov = joint = False

    def credit(self, episodes: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Return R/T, float64, (N, L)."""
        returns = widened(episodes["rews"]).sum((1, 2))
        return mean_reward(returns, mask.sum(1))[:, None].expand(mask.shape)


class IRCR(Decomposition):
    """Iterative Relative Credit Refinement (Gangwani et al., 2020, arXiv 2010.12718).

    Each step is paid (R - min R) / (max R - min R), over the returns that a replay holds or that were fitted.
    """

    markov = joint = False
    unit = "share"
    of_replay = {"return_range": Doubles(("N", 2))}         # min R and max R of the replay  # noqa: RUF012

    def __init__(self, config: Config, generator: torch.Generator | None = None):
        """Build the model; it knows no range yet."""
        super().__init__(config, generator)
        unknown = torch.full((1, 2), torch.nan, dtype=widest(self.device), device=self.device)
        self.register_buffer("fitted", unknown)             # the range of the episodes of `fit`

    def parts(self) -> dict[str, nn.Module]:
        """Return nothing: in an agent the replay knows the range."""
        return {}

    def credit(self, episodes: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Return the scaled return, float64, (N, L); below 0 or above 1 for an episode beyond the range.

        Raises:
            ConfigError: the range is not known.
        """
        span = episodes.get("return_range", self.fitted)
        if span.isnan().any():
            raise ConfigError("return_range: missing, expected the least and the greatest return of a replay; give it "
                              "with the episode, or call fit(episodes, 0)")
        returns = widened(episodes["rews"]).sum((1, 2))
        return scaled_return(returns, *span.unbind(-1))[:, None].expand(mask.shape)

    def observe(self, episodes: Sequence[Mapping[str, Array]]) -> None:
        """Take the range of the returns of these episodes."""
        returns = [return_of(episode) for episode in episodes]
        self.fitted.copy_(torch.tensor([[min(returns), max(returns)]], dtype=torch.float64))
