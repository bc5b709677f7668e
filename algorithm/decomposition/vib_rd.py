"""RRD through an information bottleneck, a baseline of LaRe (AAAI 2025): a Gaussian code of a step, and its reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from algorithm.batch import Array, Spec, check_sequences, sequence_spec
from algorithm.decomposition.base import Decomposition, Info
from algorithm.decomposition.episodes import draw_sequences
from algorithm.decomposition.networks import StepNet
from algorithm.decomposition.rrd import randomized_loss
from algorithm.networks import MLP, shape_of
from utils.optimizers import reward_adam
from utils.settings.fields import Config


class VIBRD(Decomposition):
    """An encoder of [s, a, s - s'] to the mean and log variance of a code, and a reward of the code.

    A step is paid the reward at the mean of its code.
    """

    reads = ("r_lr", "rrd_batch_size", "rrd_sample_size", "latent_size", "kl_weight")

    def __init__(self, config: Config, generator: torch.Generator | None = None):
        """Build both networks and their optimiser; see `Decomposition`."""
        super().__init__(config, generator)
        size = config.latent_size
        hidden, activation = shape_of(config, "reward", (256, 256))
        self.encoder = StepNet(config, self.weights_generator, outputs=2 * size, difference=True)
        self.reward = MLP("r", (size, *hidden, 1), activation, generator=self.weights_generator)
        self.to(self.device)
        self.opts = [reward_adam(self.parameters(), config.r_lr)]

    @property
    def metrics(self) -> tuple[str, ...]:
        """R_loss, with bias correction R_var, and the divergence."""
        return ("R_loss", "R_var", "R_kl") if self.config.rrd_bias_correction else ("R_loss", "R_kl")

    def loss_spec(self) -> Spec:
        """Return the fields of the sub-sequences; see `SubsequenceReplay.sample`."""
        return sequence_spec(self.obs_dims, self.acts_shape, self.config.rrd_bias_correction)

    def check(self, batch: dict[str, Tensor]) -> None:
        """Raise a ValueError if there is no variance to correct the bias by, that is if K = 1."""
        if self.config.rrd_bias_correction:
            check_sequences(batch)

    def encode(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log variance of the code of steps, (..., Z) each."""
        return self.encoder(obs, self.encode_acts(acts), obs_next).chunk(2, dim=-1)

    def predict(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """Return the reward at the mean of the code, (..., 1); see `Decomposition.predict`."""
        return self.reward(self.encode(obs, acts, obs_next)[0])

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """RRD's loss at codes mu + noise exp(log var / 2), plus kl_weight times the mean divergence of the codes.

        The noise is standard normal, `latent_noise` (N, K, Z); drawn if the batch has none.
        """
        mean, log_var = self.encode(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"])     # (N, K, Z)
        noise = batch["latent_noise"] if "latent_noise" in batch else self.randn(*mean.shape)
        pred = self.reward(mean + noise * (log_var / 2).exp())                                      # (N, K, 1)
        loss, info = randomized_loss(pred, batch, float(not self.config.rrd_bias_correction))
        kl = divergence(mean, log_var).mean()
        return loss + self.config.kl_weight * kl, info | {"R_kl": kl}

    def draw(self, episodes: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """Draw N sub-sequences of K steps, as `SubsequenceReplay.sample` does from the episodes that it holds."""
        return draw_sequences(self.config, episodes, self.generator)


def divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    """Return KL(N(mu, var) || N(0, 1)) = -1/2 sum_Z (1 + log var - mu^2 - var), (..., Z) -> (...)."""
    return -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(-1)
