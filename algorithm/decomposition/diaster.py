"""Diaster (Lin et al., AAAI 2024, arXiv 2312.10642): rewards of sub-trajectories, then of steps.

A recurrent network is fitted such that its rewards of the two parts of an episode, cut anywhere, add up to the return.
What one more step adds to the reward of the beginning is the target of a reward of (s, a), which is paid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithm.decomposition.base import Info
from algorithm.decomposition.distilled import Distilled, distillation
from algorithm.decomposition.features import StepInputs
from algorithm.decomposition.networks import StepNet
from algorithm.decomposition.recurrent import library_cell
from algorithm.decomposition.scale import ReturnScale
from algorithm.decomposition.whole import Episodes, episodes_of
from utils.optimizers import reward_adam
from utils.settings.fields import Config
from utils.torch_utils import dense

MAX_LOG_VAR, MIN_LOG_VAR = 0.5, -10.0           # the bounds as they start


class Diaster(Distilled):
    """A GRU whose output is Gaussian, and a reward network that learns its increments."""

    reads = ("r_lr", "fit_episodes", "return_scale", "cell_size", "cut_noise")

    def __init__(self, config: Config, generator: torch.Generator | None = None):
        """Build both networks and their optimiser; see `Decomposition`."""
        super().__init__(config, generator)
        self.scale = ReturnScale(config)
        draws = self.weights_generator
        self.inputs = StepInputs(config, False, draws)
        self.gru = library_cell("gru")(self.inputs.size, config.cell_size, draws)
        self.out = dense(config.cell_size, 2, draws)
        self.max_logvar, self.min_logvar = (nn.Parameter(torch.tensor(value)) for value in (MAX_LOG_VAR, MIN_LOG_VAR))
        self.step = StepNet(config, draws)
        self.to(self.device)
        self.opts = [reward_adam(self.parameters(), config.r_lr)]

    def read(self, episodes: Episodes) -> Tensor:
        """Return what the recurrent network reads, (N, L, F)."""
        return self.inputs(episodes.obs, self.encode_acts(episodes.acts), episodes.obs_next)

    def rewards_of(self, x: Tensor, noise: Tensor) -> Tensor:
        """Return the reward of x_0..x_t over `return_scale` for each t, from a new state, (N, L, F) -> (N, L).

        It is mean + noise exp(log var / 2), the log variance bounded smoothly by two learned numbers.
        """
        mean, log_var = self.out(self.gru(x)).unbind(-1)
        # The same as max - softplus(max - x), then min + softplus(x - min), with exact gradients of the bounds.
        log_var = log_var - F.softplus(log_var - self.max_logvar)
        log_var = log_var + F.softplus(self.min_logvar - log_var)
        return mean + noise * (log_var / 2).exp()

    def noise(self, batch: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
        """Return the batch's noise of this name, (N, L); else drawn, or zeros without `cut_noise`."""
        if name in batch:
            return batch[name]
        return self.randn(*like.shape) if self.config.cut_noise else torch.zeros(like.shape, device=like.device)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """Return R_loss, of one cut for the whole batch, drawn uniformly, plus R_step, of the rewards of steps."""
        episodes = episodes_of(batch)
        cut = int(self.rand(1) * episodes.lengths.max())                # uniform in [0, longest)
        pred = self.cut_rewards(batch, episodes, cut)
        loss = (pred - batch["ep_return"][:, 0] / self.scale()).square().mean()
        step = self.step_loss(batch, episodes)
        return loss + step, {"R_loss": loss, "R_step": step}

    def cut_rewards(self, batch: dict[str, Tensor], episodes: Episodes, cut: int) -> Tensor:
        """Return sub(x_0..x_c) + sub(x_(c+1)..x_(T-1)), (N,); the first alone where T <= c + 1."""
        x, lengths = self.read(episodes), episodes.lengths
        first = self.rewards_of(x[:, :cut + 1], self.noise(batch, "first_noise", episodes.inside)[:, :cut + 1])
        pred = first.gather(1, (lengths.clamp_max(cut + 1) - 1)[:, None])[:, 0]
        if cut + 1 >= x.shape[1]:
            return pred
        second = self.rewards_of(x[:, cut + 1:], self.noise(batch, "second_noise", episodes.inside)[:, cut + 1:])
        rest = second.gather(1, (lengths - cut - 2).clamp_min(0)[:, None])[:, 0]
        return pred + torch.where(lengths > cut + 1, rest, 0.0)

    @torch.no_grad()
    def targets(self, batch: dict[str, Tensor], episodes: Episodes) -> Tensor:
        """Return w_t - w_(t-1), (N, L), w_t the reward of x_0..x_t, w_(T-1) = R / scale and w_(-1) = 0."""
        whole = self.rewards_of(self.read(episodes), self.noise(batch, "whole_noise", episodes.inside))
        last = episodes.lengths[:, None] - 1
        whole = whole.scatter(1, last, (batch["ep_return"] / self.scale()).to(whole.dtype))
        return episodes.within(whole - F.pad(whole[:, :-1], (1, 0)))

    def step_loss(self, batch: dict[str, Tensor], episodes: Episodes) -> Tensor:
        """Return the mean squared error of the rewards of steps against `targets`, over `return_scale`, ()."""
        rewards = self.step(episodes.obs, self.encode_acts(episodes.acts), episodes.obs_next)
        return distillation(rewards, self.targets(batch, episodes), episodes, batch.get("step_rows"))
