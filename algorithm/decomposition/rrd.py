"""Least-squares return decomposition, and its randomised form.

RD (Efroni et al., 2021) fits the sum of the rewards of an episode to its return. RRD (Ren et al., 2022, arXiv
2111.13485) estimates the mean of an episode's rewards by that of K random steps. Both are one class here: `estimator`
says which steps are read, `variance_penalty` how much of the variance of drawing K of them the loss keeps. Where mean
rewards are far from 1 the network learns them over `return_scale`; the losses are in that unit, payments are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from algorithm.batch import Array, Spec, check_sequences, sequence_spec
from algorithm.decomposition import outcome
from algorithm.decomposition.base import Decomposition, Info
from algorithm.decomposition.episodes import draw_sequences
from algorithm.decomposition.features import own_features
from algorithm.decomposition.networks import ConvRewardNet, FeatureRewardNet, MLPRewardNet
from algorithm.decomposition.scale import ReturnScale
from algorithm.decomposition.whole import Bags, bags_of, check_bags, episodes_of, episodes_spec
from algorithm.draws import variance_coefficient
from algorithm.networks import default_hidden, shape_of
from utils.errors import ConfigError
from utils.optimizers import reward_adam
from utils.settings.fields import Config


class RRD(Decomposition):
    """A reward network, fitted to the returns of episodes through all of their steps, or through K drawn ones."""

    reads = ("r_lr", "rrd_batch_size", "rrd_sample_size")

    def __init__(self, config: Config, generator: torch.Generator | None = None, reward: nn.Module | None = None):
        """Build the model and its optimiser; see `Decomposition`.

        Args:
            reward: the network, which maps (..., O), (..., A), (..., O) to (..., 1); the paper's if None.
        Raises:
            ConfigError: settings do not fit together.
        """
        super().__init__(config, generator)
        self.whole = config.estimator == "all"
        self.penalty = float(not config.rrd_bias_correction) if config.variance_penalty is None \
            else config.variance_penalty
        self.markov = config.outcome_credit in (None, "reward")
        check_estimator(config, self.whole, self.penalty)
        self.scale = ReturnScale(config)
        self.identity = {} if self.scale.fixed == 1 else {"return_scale": str(float(self.scale.fixed))}
        self.reward = (self._network() if reward is None else reward).to(self.device)
        self.outcome = outcome.Bias().to(self.device) if config.likelihood == "bernoulli" else None
        trained = [*self.reward.parameters(), *(self.outcome.parameters() if self.outcome else ())]
        self.opts = [reward_adam(trained, config.r_lr)]

    def _network(self) -> nn.Module:
        shape = shape_of(self.config, "reward", default_hidden(self.obs_dims))
        if (features := own_features(self.config)) is not None:
            return FeatureRewardNet(features, self.weights_generator, *shape)
        net, size = (ConvRewardNet, self.obs_dims) if len(self.obs_dims) == 3 else (MLPRewardNet, self.obs_dims[0])
        return net(size, self.act_dim, self.weights_generator, *shape)

    def parts(self) -> dict[str, nn.Module]:
        """Return the network by the original's name, of outcomes the bias, and the scale if it counts."""
        return {"rrd": self.reward} | ({"outcome": self.outcome} if self.outcome else {}) \
            | ({"return_scale": self.scale} if self.scale.counts else {})

    @property
    def metrics(self) -> tuple[str, ...]:
        """R_loss, and R_var if the loss differs from R_loss by some of it."""
        return ("R_loss", "R_var") if self.penalty != (0 if self.whole else 1) else ("R_loss",)

    def loss_spec(self) -> Spec:
        """Return the fields of whole episodes, or of sub-sequences, `rrd_obs` (N, K, O), ..."""
        if self.whole:
            return episodes_spec(self.config)
        counted = {"ep_return": ("N", 1)} if self.scale.counts else {}
        return sequence_spec(self.obs_dims, self.acts_shape, self.penalty != 1) | counted

    def check(self, batch: dict[str, Tensor]) -> None:
        """Raise a ValueError if K = 1 leaves no variance to correct by, for a wrong bag or an outcome beyond [0, 1]."""
        if self.whole:
            check_bags(batch)
            if self.outcome:
                outcome.check_outcomes(bags_of(batch).labels)
        elif self.penalty != 1:
            check_sequences(batch)

    def predict(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """Return the network's rewards times `return_scale`, (..., 1); see `Decomposition.predict`."""
        return self.scale.times(self.reward(obs, self.encode_acts(acts), obs_next))

    def credit(self, episodes: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Return the rises of the predicted probability, or rewards that add up to the return; see `outcome_credit`."""
        rewards = self.checked_rewards(episodes["obs"], episodes["acts"], episodes["obs_next"])[..., 0]
        rewards = torch.where(mask, rewards, 0.0)
        if self.config.outcome_credit == "probability":
            return outcome.rises(rewards, self.outcome.bias)
        return outcome.with_residual(rewards, mask, episodes["rews"].sum((1, 2)))

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """Return the loss of whole episodes, or of sub-sequences, by `estimator`."""
        return self.whole_loss(batch) if self.whole else self.drawn_loss(batch)

    def whole_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """R_loss = mean_M e_m^2, e_m = (sum of a bag's r^ - R) / T, plus variance_penalty times R_var.

        T is the length of the bag; with `target` return nothing is divided. An episode is one bag, unless it has labels
        on intervals. R_var = mean_M(c S^2 / K), S^2 the variance of a bag's r^ with divisor T - 1: what drawing K of
        the T steps would add to the loss, as it does in RRD. r^ and R are over `return_scale`. With `likelihood`
        bernoulli R_loss is the binary cross-entropy of the sigmoid of the sum and a learned bias.
        """
        episodes, bags = episodes_of(batch), bags_of(batch)
        rewards = self.checked_rewards(episodes.obs, episodes.acts, episodes.obs_next)[..., 0]
        pred = episodes.within(self.scale.over(rewards))                                                       # (N, L)
        sums = bags.sums(pred)                                                                                 # (M,)
        if self.outcome:
            loss = bags.mean(outcome.cross_entropy(sums + self.outcome.bias, bags.labels))
            return loss, {"R_loss": loss}
        error = (sums - self.scale.over(bags.labels)) / (bags.sizes if self.config.target == "mean" else 1)
        loss = bags.mean(error.square())
        if not self.penalty:
            return loss, {"R_loss": loss}
        var = bags.mean(self.variance(pred, bags))
        return loss + self.penalty * var, {"R_loss": loss, "R_var": var}

    def variance(self, pred: Tensor, bags: Bags) -> Tensor:
        """Return the variance of the mean of K steps drawn from each bag, c S^2 / K, (M,).

        Without replacement c = 1 - K/T. Where K > T, with replacement: c = 1, and S^2 has the divisor T.
        """
        size, steps = self.config.rrd_sample_size, bags.sizes
        squares = bags.sums(pred.double().square()) - bags.sums(pred.double()).square() / steps
        divisor = torch.where(steps >= size, steps - 1, steps).clamp_min(1)
        return (variance_coefficient(size, steps) * squares / divisor / size).to(pred.dtype)

    def drawn_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """R_loss = mean_N (mean_K r^ - R/T)^2, less (1 - variance_penalty) R_var, all of it in RRD-L(RD).

        R_var = mean_N(c s^2 / K), s^2 the (K - 1)-normalised variance of the K predictions and c the batch's
        `rrd_var_coef`: on average over the draws, R_loss exceeds the loss of the whole episode by R_var. r^ and R/T are
        over `return_scale`.
        """
        rewards = self.checked_rewards(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"])   # (N, K, 1)
        means = self.scale.over(batch["rrd_rews"])                                                  # (N, 1)
        return randomized_loss(self.scale.over(rewards), batch | {"rrd_rews": means}, self.penalty)

    def draw(self, episodes: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """Draw whole episodes, or N sub-sequences of K steps as `SubsequenceReplay.sample` does."""
        return super().draw(episodes) if self.whole else draw_sequences(self.config, episodes, self.generator)


def randomized_loss(pred: Tensor, batch: dict[str, Tensor], penalty: float) -> tuple[Tensor, Info]:
    """Return RRD's loss of predictions (N, K, 1), less (1 - penalty) times its variance; see `RRD.drawn_loss`."""
    loss = (pred.mean(1) - batch["rrd_rews"]).square().mean()
    if penalty == 1:
        return loss, {"R_loss": loss}
    var = (batch["rrd_var_coef"] * pred.var(1, unbiased=True) / pred.shape[1]).mean()
    return loss - (1 - penalty) * var, {"R_loss": loss, "R_var": var}


def check_estimator(config: Config, whole: bool, penalty: float) -> None:
    """Raise a ConfigError for settings of RD that do not fit together."""
    if not whole:
        wanted = {"target": "mean", "likelihood": "gaussian", "outcome_credit": "reward"}
        for name in (name for name, value in wanted.items() if getattr(config, name) not in (None, value)):
            raise ConfigError(f"{name}: got {getattr(config, name)!r} with estimator=drawn, expected {wanted[name]}, "
                              "or estimator=all")
        if penalty != 1 and config.rrd_sample_size == 1:
            raise ConfigError(f"rrd_sample_size: got 1 with variance_penalty={penalty}, expected at least 2 (the "
                              "variance of one step is not defined)")
    if penalty and whole and (config.likelihood == "bernoulli" or config.target == "return"):
        raise ConfigError(f"variance_penalty: got {penalty}, expected 0 with likelihood=bernoulli or target=return: it "
                          "is of the squared error of a mean")
    if config.likelihood == "bernoulli" and config.return_scale not in (None, 1):
        raise ConfigError(f"return_scale: got {config.return_scale} with likelihood=bernoulli, expected 1: returns are "
                          "outcomes, 0 or 1")
    if config.outcome_credit == "probability" and config.likelihood != "bernoulli":
        raise ConfigError("outcome_credit: got 'probability' with likelihood=gaussian, expected reward or residual, or "
                          "likelihood=bernoulli")
