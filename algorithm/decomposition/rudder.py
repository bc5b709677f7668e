"""RUDDER (Arjona-Medina et al., 2019, arXiv 1806.07857): a step is paid the change of the predicted return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from algorithm.batch import Array, Spec
from algorithm.decomposition import outcome
from algorithm.decomposition.base import Decomposition, Info
from algorithm.decomposition.features import StepInputs
from algorithm.decomposition.recurrent import RudderCell, library_cell
from algorithm.decomposition.scale import ReturnScale
from algorithm.decomposition.whole import Bags, Episodes, bags_of, check_bags, episodes_of, episodes_spec
from utils.floats import widened
from utils.optimizers import reward_adam
from utils.settings.fields import Config
from utils.torch_utils import dense

KEPT = 0.99                     # of the running moments of errors and returns, at each update
FIRST_ERROR = 0.3               # of the running error that `lesson_goal` is compared with, as published


class RUDDER(Decomposition):
    """A recurrent network that predicts the return after every step; what it misses is spread evenly.

    The payments of an episode add up to its return. With `quality_floor`, every step is paid the mean reward as long as
    the running R2 of the predicted return is below it. With `likelihood` bernoulli g is the log-odds of success.
    """

    markov = False
    reads = ("r_lr", "fit_episodes", "return_scale", "cell", "cell_size", "aux_weight", "quality_floor")
    metrics = ("R_loss", "R_aux", "R2_return")

    def __init__(self, config: Config, generator: torch.Generator | None = None):
        """Build the network and its optimiser; see `Decomposition`."""
        super().__init__(config, generator)
        self.scale = ReturnScale(config)
        published, draws = config.cell == "rudder", self.weights_generator
        self.inputs = StepInputs(config, not published, draws)
        make = RudderCell if published else library_cell(config.cell)
        self.cell = make(self.inputs.size, config.cell_size, draws)
        self.out = dense(config.cell_size, 1, draws)
        self.register_buffer("moments", torch.zeros(4, dtype=torch.float64))    # of (g - R)^2, R, R^2; and the weight
        self.outcomes = config.likelihood == "bernoulli"
        if config.lesson_goal:
            self.register_buffer("running", torch.tensor(FIRST_ERROR))
        self.to(self.device)
        self.opts = [reward_adam(self.parameters(), config.r_lr)]

    def loss_spec(self) -> Spec:
        """Return the fields of whole episodes."""
        return episodes_spec(self.config)

    def predictions(self, episodes: Episodes) -> Tensor:
        """Return g, the predicted return over `return_scale` after each step, (N, L).

        The published cell reads [s_t - s_(t-1), a_t], s_(-1) = 0; the others [s, a, s - s'], with the last state too.
        Pictures pass through the convolutions of the reward network.
        """
        obs, acts = episodes.obs, self.encode_acts(episodes.acts)
        if self.config.cell == "rudder" and len(self.obs_dims) == 1:
            obs = torch.cat([obs[:, :1], obs[:, 1:] - obs[:, :-1]], dim=1)
        return self.out(self.cell(self.inputs(obs, acts, episodes.obs_next)))[..., 0]

    def check(self, batch: dict[str, Tensor]) -> None:
        """Raise a ValueError for a bag beyond its episode, or labels that are no outcomes of episodes."""
        check_bags(batch)
        if self.outcomes:
            outcome.check_whole(batch)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """Return main + aux_weight aux, main = mean_N (g_T - y)^2, aux = mean_N mean_t (g_t - y)^2, y = R / scale.

        For labels on intervals y is the prediction before the bag plus its label / scale, and T its last step; the
        means are over bags, and over the steps of a bag. With `likelihood` bernoulli each square is the cross-entropy
        of sigma(g) and R instead.
        """
        episodes, bags = episodes_of(batch), bags_of(batch)
        g = episodes.within(self.predictions(episodes))
        last, aux = (self.entropies if self.outcomes else self.squares)(g, bags)                    # (M,) each
        main, aux = bags.mean(last), bags.mean(aux / bags.sizes).to(g.dtype)
        if self.config.lesson_size:
            self.episode_errors = of_episodes(last.detach(), bags, len(g))
        if self.outcomes:
            self.error = (g.detach().gather(1, episodes.lengths[:, None] - 1).sigmoid() - batch["ep_return"]).square()
        return main + self.config.aux_weight * aux, {"R_loss": main, "R_aux": aux}

    def squares(self, g: Tensor, bags: Bags) -> tuple[Tensor, Tensor]:
        """Return the squared error of the last prediction of each bag, and the sum of those of all, (M,) each."""
        episode, first, end = bags.where.unbind(1)
        before = torch.where(first > 0, g[episode, (first - 1).clamp_min(0)], 0.0)                  # (M,)
        y = before + bags.labels / self.scale()
        exact, aim = widened(g), widened(y)             # a small difference of larger sums
        squares = bags.sums(exact.square()) - 2 * aim * bags.sums(exact) + bags.sizes * aim.square()
        return (g[episode, (end - 1).clamp_min(0)] - y).square(), squares

    def entropies(self, g: Tensor, bags: Bags) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of the last prediction of each episode, and the sum of those of all, (M,) each."""
        episode, _, end = bags.where.unbind(1)
        each = outcome.cross_entropy(g, of_episodes(bags.labels, bags, len(g))[:, None].expand_as(g))       # (N, L)
        return each[episode, (end - 1).clamp_min(0)], bags.sums(each)

    def update(self, batch: Mapping[str, Array], inspect: Callable[[Info], None] | None = None) -> Info:
        """Take one step, and count how good the predicted returns are; see `Decomposition.update`."""
        info = super().update(batch, inspect)
        where, labels = (torch.as_tensor(batch[name], device=self.device) for name in ("ep_bags", "ep_bag_return"))
        error = self.error.mean() if self.outcomes else info["R_loss"] * self.scale() ** 2
        self.count(error, labels[where[:, 2] > where[:, 1]])
        if self.config.lesson_goal:
            self.running.lerp_(info["R_loss"].to(self.running.dtype), 1 - KEPT)
        return info | {"R2_return": self.quality().to(info["R_loss"].dtype)}

    def ready(self, replay: Any) -> bool:
        """Whether there are `lesson_start` episodes, of different returns."""
        return not self.config.lesson_start or (replay.episodes >= self.config.lesson_start and replay.returns_differ())

    def satisfied(self) -> bool:
        """Whether the running error of the last prediction is below `lesson_goal`."""
        return bool(self.config.lesson_goal and self.running < self.config.lesson_goal)

    def count(self, error: Tensor, returns: Tensor) -> None:
        """Count the mean squared error of a batch, (), and its labels, (M, 1), in the running moments."""
        r = widened(returns)
        found = torch.stack([widened(error), r.mean(), r.square().mean(), torch.ones_like(r[0, 0])])
        self.moments.lerp_(found.to(self.moments.dtype), 1 - KEPT)

    def quality(self) -> Tensor:
        """Return the running R2 of the predicted return, (); 0 before the first batch, or where returns do not differ.
        """
        error, mean, square, weight = self.moments
        variance = square / weight - (mean / weight).square()
        return torch.where(variance > 0, 1 - error / weight / variance, 0.0).nan_to_num(0.0)

    def differences(self, episodes: Episodes) -> Tensor:
        """Return the change of the predicted return: scale (g_t - g_(t-1)), g_(-1) = 0, (N, L).

        With `likelihood` bernoulli that of the probability of success, sigma(g_t) - sigma(g_(t-1)), from 0.
        """
        g = self.predictions(episodes)
        g = g.sigmoid() if self.outcomes else g
        before = torch.cat([torch.zeros_like(g[:, :1]), g[:, :-1]], dim=1)
        return episodes.within((g - before) * (1.0 if self.outcomes else self.scale()))

    def credit(self, episodes: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Return the differences of the predictions plus the evenly spread rest, (N, L)."""
        steps = Episodes(episodes["obs"], episodes["acts"], episodes["obs_next"], mask)
        found = self.differences(steps)
        returns = widened(episodes["rews"]).sum((1, 2))
        if self.config.quality_floor:
            found = torch.where(self.quality() >= self.config.quality_floor, found, 0.0)            # R/T is left
        return outcome.with_residual(found, mask, returns)


def of_episodes(values: Tensor, bags: Bags, count: int) -> Tensor:
    """Return the mean of the values of an episode's bags, (M,) -> (N,); 0 of an episode without bags."""
    real = (bags.where[:, 2] > bags.where[:, 1]).to(values.dtype)
    sums, counts = (values.new_zeros(count).index_add(0, bags.where[:, 0], each) for each in (values * real, real))
    return sums / counts.clamp_min(1)
