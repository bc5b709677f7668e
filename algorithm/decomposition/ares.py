"""ARES (arXiv 2505.10802): the attention of an episode's last step, which predicts the return, pays the others.

The published method learns offline and keeps a table of states. Here a reward of (s, a) learns what attention pays.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithm.decomposition.attention import weights
from algorithm.decomposition.base import Info
from algorithm.decomposition.distilled import Distilled, distillation
from algorithm.decomposition.features import StepInputs
from algorithm.decomposition.networks import StepNet
from algorithm.decomposition.scale import ReturnScale
from algorithm.decomposition.whole import Episodes, episodes_of
from utils.optimizers import reward_adam
from utils.settings.fields import Config
from utils.torch_utils import dense


class ARES(Distilled):
    """One head of attention over (s, a), read out at the last step, and a reward network that learns from it."""

    reads = ("r_lr", "fit_episodes", "return_scale", "attention_size", "readout_size")

    def __init__(self, config: Config, generator: torch.Generator | None = None):
        """Build both networks and their optimiser; see `Decomposition`."""
        super().__init__(config, generator)
        self.scale = ReturnScale(config)
        width, draws = config.attention_size, self.weights_generator
        self.inputs = StepInputs(config, False, draws)
        self.embed = dense(self.inputs.size, width, draws)
        self.q, self.k, self.v, self.proj = (dense(width, width, draws) for _ in range(4))
        self.mlp1, self.mlp2 = dense(width, 8 * width, draws), dense(8 * width, width, draws)
        self.norm1, self.norm2, self.norm_out = (nn.LayerNorm(width) for _ in range(3))
        self.head, self.out = dense(width, config.readout_size, draws), dense(config.readout_size, 1, draws)
        self.step = StepNet(config, draws)
        self.to(self.device)
        self.opts = [reward_adam(self.parameters(), config.r_lr)]

    def attention(self, episodes: Episodes) -> tuple[Tensor, Tensor, Tensor]:
        """Return the last step's weights w (N, L), the values v (N, L, D), and the last step x (N, D)."""
        x = self.embed(self.inputs(episodes.obs, self.encode_acts(episodes.acts), episodes.obs_next))
        last = x[torch.arange(len(x), device=x.device), episodes.lengths - 1]
        found = weights(self.q(last)[:, None], self.k(x), episodes.inside, x.shape[-1] ** -0.5)
        return episodes.within(found[:, 0]), self.v(x), last

    def read_out(self, value: Tensor, last: Tensor) -> Tensor:
        """Return what a value adds up to beside the last step, (..., D), (..., D) -> (...)."""
        x = self.norm1(last + self.proj(value))
        x = self.norm_out(self.norm2(x + self.mlp2(F.gelu(self.mlp1(x)))))
        return self.out(self.head(x))[..., 0]

    def returns(self, episodes: Episodes) -> Tensor:
        """Return the predicted returns over `return_scale`, (N,)."""
        found, values, last = self.attention(episodes)
        return self.read_out((found[..., None] * values).sum(1), last)

    def shares(self, episodes: Episodes) -> Tensor:
        """Return the read-out of each step's weighted value alone, over `return_scale`, (N, L)."""
        found, values, last = self.attention(episodes)
        return episodes.within(self.read_out(found[..., None] * values, last[:, None].expand_as(values)))

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """Return R_loss = mean_N (predicted return - R / scale)^2, plus R_step, of the rewards of steps."""
        episodes = episodes_of(batch)
        loss = self.return_loss(batch, episodes)
        rewards = self.step(episodes.obs, self.encode_acts(episodes.acts), episodes.obs_next)
        with torch.no_grad():
            targets = self.shares(episodes)
        step = distillation(rewards, targets, episodes)
        return loss + step, {"R_loss": loss, "R_step": step}

    def return_loss(self, batch: dict[str, Tensor], episodes: Episodes) -> Tensor:
        """Return mean_N (predicted return - R / scale)^2, ()."""
        return (self.returns(episodes) - batch["ep_return"][:, 0] / self.scale()).square().mean()
