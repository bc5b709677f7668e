"""Randomized Return Decomposition (Ren et al., 2022, arXiv 2111.13485).

A network learns a reward for every step such that its mean over K random steps of an episode matches the
episode's mean reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from algorithm.batch import Array, Spec, check_sequences, sequence_spec
from algorithm.decomposition.base import Decomposition, Info
from algorithm.decomposition.episodes import draw_episodes, length_of, return_of, steps_of
from algorithm.decomposition.networks import ConvRewardNet, MLPRewardNet
from algorithm.draws import draw_steps, variance_coefficient
from algorithm.networks import default_hidden, shape_of
from utils.optimizers import TFAdam
from utils.settings.fields import Config


class RRD(Decomposition):
    """A reward network, fitted to the mean rewards of episodes through sub-sequences of K steps."""

    reads = ("r_lr", "rrd_batch_size", "rrd_sample_size")

    def __init__(self, config: Config, generator: torch.Generator | None = None, reward: nn.Module | None = None):
        """Build the model and its optimiser; see `Decomposition`.

        Args:
            reward: the network, which maps (..., O), (..., A), (..., O) to (..., 1); the paper's if None.
        """
        super().__init__(config, generator)
        if reward is None:
            net, size = (ConvRewardNet, self.obs_dims) if len(self.obs_dims) == 3 else (MLPRewardNet, self.obs_dims[0])
            shape = shape_of(config, "reward", default_hidden(self.obs_dims))
            reward = net(size, self.act_dim, self.weights_generator, *shape)
        self.reward = reward.to(self.device)
        self.opts = [TFAdam([dict(name="reward", role="reward", params=self.reward.parameters(), lr=config.r_lr)])]

    def parts(self) -> dict[str, nn.Module]:
        """Return the network by the original's name."""
        return {"rrd": self.reward}

    @property
    def metrics(self) -> tuple[str, ...]:
        """R_loss, and with bias correction R_var."""
        return ("R_loss", "R_var") if self.config.rrd_bias_correction else ("R_loss",)

    def loss_spec(self) -> Spec:
        """Return the fields of the sub-sequences, `rrd_obs` (N, K, O), ...; see `SubsequenceReplay.sample`."""
        return sequence_spec(self.obs_dims, self.acts_shape, self.config.rrd_bias_correction)

    def check(self, batch: dict[str, Tensor]) -> None:
        """Raise a ValueError if there is no variance to correct the bias by, that is if K = 1."""
        if self.config.rrd_bias_correction:
            check_sequences(batch)

    def predict(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """Return the network's rewards, (..., 1); see `Decomposition.predict`."""
        return self.reward(obs, self.encode_acts(acts), obs_next)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """R_loss = mean_N (mean_K r^ - R/T)^2, and with bias correction (RRD-L(RD)) R_loss - R_var.

        R_var = mean_N(c s^2 / K), s^2 the (K - 1)-normalised variance of the K predictions and c the batch's
        `rrd_var_coef`: on average over the draws, R_loss exceeds the loss of the whole episode by R_var.
        """
        pred = self.checked_rewards(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"])      # (N, K, 1)
        loss = (pred.mean(1) - batch["rrd_rews"]).square().mean()
        if not self.config.rrd_bias_correction:
            return loss, {"R_loss": loss}
        var = (batch["rrd_var_coef"] * pred.var(1, unbiased=True) / pred.shape[1]).mean()
        return loss - var, {"R_loss": loss, "R_var": var}

    def draw(self, episodes: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """Draw N sub-sequences of K steps, as `SubsequenceReplay.sample` does from the episodes that it holds."""
        size = self.config.rrd_sample_size
        chosen = draw_episodes(episodes, self.config.rrd_batch_size // size, self.generator)
        lengths = torch.tensor([length_of(episode) for episode in chosen])                          # (N,)
        steps = draw_steps(lengths, size, max(int(lengths.max()), size), self.generator, repeat=True)
        drawn = [steps_of(*pair) for pair in zip(chosen, steps, strict=True)]
        sequences = {f"rrd_{name}": torch.stack([one[name] for one in drawn]) for name in drawn[0]}
        returns = torch.tensor([return_of(episode) for episode in chosen], dtype=torch.float64)
        return sequences | {"rrd_rews": (returns / lengths).float()[:, None],
                            "rrd_var_coef": variance_coefficient(size, lengths).float()[:, None]}
