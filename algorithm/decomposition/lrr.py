"""Likelihood reward redistribution (arXiv 2503.17409, v1): the mean and the std of every step's reward.

The leave-one-out target of a step is R less the predicted means of all others. Its residual, R - sum mu, is the same
for every step, so at the optimum sigma measures the residual of the episode, not that of a step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from algorithm.batch import Spec
from algorithm.decomposition.base import Decomposition, Info
from algorithm.decomposition.networks import StepNet
from algorithm.decomposition.scale import ReturnScale
from algorithm.decomposition.whole import Bags, Episodes, bags_of, check_bags, episodes_of, episodes_spec
from utils.optimizers import reward_adam
from utils.settings.fields import Config


class LRR(Decomposition):
    """A Gaussian of each step's reward from (s, a); its mean is paid."""

    reads = ("r_lr", "fit_episodes", "sigma_floor", "return_scale", "target", "detach")
    metrics = ("R_loss", "R_error")

    def __init__(self, config: Config, generator: torch.Generator | None = None):
        """Build the network, whose outputs are mu and log sigma, and its optimiser; see `Decomposition`."""
        super().__init__(config, generator)
        self.scale = ReturnScale(config)
        self.reward = StepNet(config, self.weights_generator, outputs=2).to(self.device)
        self.opts = [reward_adam(self.reward.parameters(), config.r_lr)]

    def loss_spec(self) -> Spec:
        """Return the fields of whole episodes."""
        return episodes_spec(self.config)

    def check(self, batch: dict[str, Tensor]) -> None:
        """Raise a ValueError for a bag beyond its episode."""
        check_bags(batch)

    def gaussian(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log sigma of steps, (...), over `return_scale`; sigma is at least `sigma_floor`.

        Without a floor the loss has none either: as the residual vanishes, sigma does.
        """
        mu, log_sigma = self.reward(obs, self.encode_acts(acts), obs_next).unbind(-1)
        return mu, log_sigma.clamp_min(math.log(self.config.sigma_floor))

    def predict(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """Return mu times `return_scale`, (..., 1); see `Decomposition.predict`."""
        return self.gaussian(obs, acts, obs_next)[0][..., None] * self.scale()

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """R_loss = mean_M mean_t [log sigma_t + e^2 / (2 sigma_t^2)], e = R / scale - sum mu, over the steps of a bag.

        With `target` return the sum over t instead of the mean. With `detach` the value is the same, but a step's mu
        gets the gradient of its own term alone. R_error = mean_M e^2.
        """
        episodes, bags = episodes_of(batch), bags_of(batch)
        terms, error = self.terms(episodes, bags)
        loss = bags.mean(terms / bags.sizes if self.config.target == "mean" else terms)
        return loss, {"R_loss": loss, "R_error": bags.mean(error.square())}

    def terms(self, episodes: Episodes, bags: Bags) -> tuple[Tensor, Tensor]:
        """Return sum_t [log sigma_t + e^2 / (2 sigma_t^2)] and e of each bag, (M,) each.

        Held constant, the others' means make e_t = e + d_t with d_t = 0 in value and -1 in its derivative by mu_t.
        """
        mu, log_sigma = (episodes.within(value) for value in
                         self.gaussian(episodes.obs, episodes.acts, episodes.obs_next))             # (N, L) each
        weight = (-2 * log_sigma).exp() / 2
        error = bags.labels / self.scale() - bags.sums(mu)                              # (M,)
        if not self.config.detach:
            return bags.sums(log_sigma) + error.square() * bags.sums(weight), error
        own, error = mu.detach() - mu, error.detach()
        squares = error.square() * bags.sums(weight) + 2 * error * bags.sums(own * weight)
        return bags.sums(log_sigma) + squares + bags.sums(own.square() * weight), error
