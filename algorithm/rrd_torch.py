"""Randomized Return Decomposition (Ren et al., 2022, arXiv 2111.13485), over any basis.

A network learns a reward for every step such that its mean over K random steps of an episode matches the
episode's mean reward; the basis learns from that reward.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.batch import Array, Batch, Spec, to_tensor
from utils.config import Config
from utils.torch_utils import dense


class MLPRewardNet(nn.Module):
    """A reward for one step: [s, a, s - s']-256-256-1, ReLU."""

    def __init__(self, obs_dim: int, act_dim: int, generator: torch.Generator | None = None):
        super().__init__()
        self.r_dense1 = dense(2 * obs_dim + act_dim, 256, generator)
        self.r_dense2 = dense(256, 256, generator)
        self.r = dense(256, 1, generator)

    def forward(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """(..., O), (..., A), (..., O) -> (..., 1), for any leading dimensions."""
        h = F.relu(self.r_dense1(torch.cat([obs, acts, obs - obs_next], dim=-1)))
        return self.r(F.relu(self.r_dense2(h)))


class RRD(Agent):
    """A basis agent whose batches carry the learned reward, and the reward network's own loss."""

    def __init__(self, config: Config, basis: Agent, reward: nn.Module | None = None):
        """`reward` maps (..., O), (..., A), (..., O) to (..., 1); an `MLPRewardNet` if None."""
        # The basis' own parts, shared: one tree of networks, one optimiser, one stream of noise.
        self.basis, self.config, self.device, self.generator = basis, config, basis.device, basis.generator
        self.obs_dim, self.act_dim, self.nets, self.opt = basis.obs_dim, basis.act_dim, basis.nets, basis.opt
        self.pi_delay_freq, self.policy_batch = basis.pi_delay_freq, basis.policy_batch
        self.updates, self.step_info = 0, basis.step_info
        self.train_info = (*basis.train_info, "R_loss", *(["R_var"] if config.rrd_bias_correction else []))
        if reward is None:
            reward = MLPRewardNet(self.obs_dim, self.act_dim, basis.weights_generator)
        self.reward = self.nets["rrd"] = reward.to(self.device)
        self.opt.add_param_group(dict(name="reward", params=self.reward.parameters(), lr=config.r_lr))

    def pi_spec(self) -> Spec:
        return self.basis.pi_spec()

    def noise_spec(self) -> Spec:
        return self.basis.noise_spec()

    def pi_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        return self.basis.pi_loss(batch)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        return self.basis.act(obs, explore)

    def evaluate_step(self, obs: Tensor) -> Info:
        return self.basis.evaluate_step(obs)

    def target_update(self) -> None:
        self.basis.target_update()

    def normalize(self, obs: Tensor) -> Tensor:
        return self.basis.normalize(obs)

    def q_spec(self) -> Spec:
        obs, column = ("N", "K", self.obs_dim), ("N", 1)
        basis = {name: shape for name, shape in self.basis.q_spec().items() if name != "rews"}
        own = {"rrd_obs": obs, "rrd_obs_next": obs, "rrd_acts": ("N", "K", self.act_dim), "rrd_rews": column}
        return basis | own | ({"rrd_var_coef": column} if self.config.rrd_bias_correction else {})

    def _check(self, batch: Batch, spec: Spec) -> dict[str, Tensor]:
        checked = super()._check(batch, spec)
        if self.config.rrd_bias_correction and "rrd_obs" in checked and checked["rrd_obs"].shape[1] < 2:
            raise ValueError(f"batch['rrd_obs']: got shape {tuple(checked['rrd_obs'].shape)}, "
                             f"wants (N, K, {self.obs_dim}) with K at least 2 for rrd_bias_correction")
        return checked

    def q_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """The basis' critic loss on the relabelled batch, and the reward network's loss on the sub-sequences."""
        with torch.no_grad():
            rews = self.reward(batch["obs"], batch["acts"], batch["obs_next"])                      # (B, 1)
        q_loss, q_info = self.basis.q_loss(batch | {"rews": rews})
        r_loss, r_info = self.reward_loss(batch)
        return q_loss + r_loss, q_info | r_info

    def reward_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """R_loss = mean_N (mean_K r^ - R/T)^2, and with bias correction R_loss - R_var.

        R_var = mean_N(c s^2 / K), s^2 the (K - 1)-normalised variance of the K predictions and c the batch's
        `rrd_var_coef`: what R_loss has in excess, on average over the draws, of the loss of the whole episode.
        """
        pred = self.reward(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"])              # (N, K, 1)
        loss = (pred.mean(1) - batch["rrd_rews"]).square().mean()
        if not self.config.rrd_bias_correction:
            return loss, {"R_loss": loss}
        var = (batch["rrd_var_coef"] * pred.var(1, unbiased=True) / pred.shape[1]).mean()
        return loss - var, {"R_loss": loss, "R_var": var}

    @torch.no_grad()
    def predict_reward(self, obs: Array, acts: Array, obs_next: Array) -> Tensor:
        """The learned reward of raw steps: (..., O), (..., A), (..., O) -> (..., 1), for any leading dimensions.

        Raises:
            ValueError: a last dimension is wrong, the leading ones differ, or the numbers are no floats.
        """
        obs, acts, obs_next = (to_tensor(name, value, self.device) for name, value in
                               (("obs", obs), ("acts", acts), ("obs_next", obs_next)))
        for name, value, width in (("obs", obs, self.obs_dim), ("acts", acts, self.act_dim),
                                   ("obs_next", obs_next, self.obs_dim)):
            if value.shape != (*obs.shape[:-1], width):
                raise ValueError(f"{name}: got shape {tuple(value.shape)}, wants {(*obs.shape[:-1], width)}")
        return self.reward(self.normalize(obs), acts, self.normalize(obs_next))
