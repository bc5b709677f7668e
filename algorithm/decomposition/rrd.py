"""Randomized Return Decomposition (Ren et al., 2022, arXiv 2111.13485), over any basis.

A network learns a reward for every step such that its mean over K random steps of an episode matches the
episode's mean reward; the basis learns from that reward.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.basis_alg.off_policy_torch import OffPolicy
from algorithm.batch import Array, Batch, Spec, check_loss, check_sequences, check_steps, sequence_spec
from algorithm.decomposition.networks import ConvRewardNet, MLPRewardNet
from utils.errors import ConfigError
from utils.settings.fields import Config
from utils.settings.resolve import check_reads
from utils.torch_utils import TFAdam


class RRD(OffPolicy):
    """A basis agent whose batches carry the learned reward, and the reward network's own loss."""

    def __init__(self, config: Config, basis: Agent, reward: nn.Module | None = None):
        """`reward` maps (..., O), (..., A), (..., O) to (..., 1); the paper's network if None."""
        check_reads(config, "r_lr")
        # The basis' own parts, shared: one tree of networks, one stream of noise.
        self.basis, self.config, self.device, self.generator = basis, config, basis.device, basis.generator
        self.obs_dims, self.act_dim, self.acts_shape = basis.obs_dims, basis.act_dim, basis.acts_shape
        self.nets, self.counters = basis.nets, basis.counters
        self.pi_delay_freq, self.policy_batch = basis.pi_delay_freq, basis.policy_batch
        self.q_noise, self.pi_noise = basis.q_noise, basis.pi_noise
        self.step_info, self.explore_info = basis.step_info, basis.explore_info
        self.train_info = (*basis.train_info, "R_loss", *(["R_var"] if config.rrd_bias_correction else []))
        if reward is None:
            images, init = len(self.obs_dims) == 3, basis.weights_generator
            reward = (ConvRewardNet(self.obs_dims, self.act_dim, init) if images else
                      MLPRewardNet(self.obs_dims[0], self.act_dim, init))
        self.reward = self.nets["rrd"] = reward.to(self.device)
        self.opts = [*basis.opts, TFAdam([dict(name="reward", params=self.reward.parameters(), lr=config.r_lr)])]

    def pi_spec(self) -> Spec:
        return self.basis.pi_spec()

    def draw_noise(self, rows: int) -> Tensor:
        return self.basis.draw_noise(rows)

    def pi_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        return check_loss(self.basis, "pi_loss", self.basis.pi_loss(batch))

    def step(self, obs: np.ndarray, explore: bool = False, test_info: bool = False):
        return self.basis.step(obs, explore, test_info)

    def target_update(self) -> None:
        self.basis.target_update()

    def explore_metrics(self) -> dict[str, float]:
        return self.basis.explore_metrics()

    def normalize(self, obs: Tensor) -> Tensor:
        return self.basis.normalize(obs)

    def q_spec(self) -> Spec:
        basis = {name: shape for name, shape in self.basis.q_spec().items() if name != "rews"}
        return basis | sequence_spec(self.obs_dims, self.acts_shape, self.config.rrd_bias_correction)

    def checked(self, batch: Batch, spec: Spec) -> dict[str, Tensor]:
        checked = super().checked(batch, spec)
        if self.config.rrd_bias_correction:
            check_sequences(checked)
        return checked

    def predict(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """The learned reward of normalised observations and a batch's actions, (..., 1)."""
        return self.reward(obs, self.basis.encode_acts(acts), obs_next)

    def _rewards(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """What `predict` gives, one for each step, (..., 1).

        Raises:
            ConfigError: it, or the network, is somebody's own and gives another shape, which would broadcast.
        """
        rewards = self.predict(obs, acts, obs_next)
        expected = (*obs.shape[:obs.ndim - len(self.obs_dims)], 1)
        if rewards.shape != expected:
            raise ConfigError(f"predict: {type(self).__name__} with the reward network {type(self.reward).__name__} "
                              f"gives shape {tuple(rewards.shape)}, expected {expected}, one reward for each step")
        return rewards

    def q_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """The basis' critic loss on the relabelled batch, and the reward network's loss on the sub-sequences."""
        with torch.no_grad():
            rews = self._rewards(batch["obs"], batch["acts"], batch["obs_next"])                     # (B, 1)
        q_loss, q_info = check_loss(self.basis, "q_loss", self.basis.q_loss(batch | {"rews": rews}))
        r_loss, r_info = check_loss(self, "reward_loss", self.reward_loss(batch))
        return q_loss + r_loss, q_info | r_info

    def reward_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """R_loss = mean_N (mean_K r^ - R/T)^2, and with bias correction R_loss - R_var.

        R_var = mean_N(c s^2 / K), s^2 the (K - 1)-normalised variance of the K predictions and c the batch's
        `rrd_var_coef`: what R_loss has in excess, on average over the draws, of the loss of the whole episode.
        """
        pred = self._rewards(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"])             # (N, K, 1)
        loss = (pred.mean(1) - batch["rrd_rews"]).square().mean()
        if not self.config.rrd_bias_correction:
            return loss, {"R_loss": loss}
        var = (batch["rrd_var_coef"] * pred.var(1, unbiased=True) / pred.shape[1]).mean()
        return loss - var, {"R_loss": loss, "R_var": var}

    @torch.no_grad()
    def predict_reward(self, obs: Array, acts: Array, obs_next: Array) -> Tensor:
        """The learned reward of steps as a batch holds them: (..., O), (..., A), (..., O) -> (..., 1).

        For any leading dimensions; discrete actions are indices (...).

        Raises:
            ValueError: a last dimension is wrong, the leading ones differ, or the numbers are of another kind.
        """
        steps = {"obs": obs, "acts": acts, "obs_next": obs_next}
        steps = check_steps(steps, self.obs_dims, self.acts_shape, self.device)
        return self._rewards(self.normalize(steps["obs"]), steps["acts"], self.normalize(steps["obs_next"]))
