"""The loss of RRD's reward network with its gradients written by hand, beside `decomposition/rrd.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.batch import Batch
from algorithm.engine.by_hand.mlp import Pad
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.products import sizes
from algorithm.engine.by_hand.rows import averaged


class RewardGradients:
    """The network pays the batch in one half of the update and learns from sub-sequences in the other."""

    def __init__(self, nets: Nets):
        model = nets.agent.decomposition
        self.correction, self.scale, (self.obs_dim,) = 1 - model.penalty, model.scale, nets.agent.obs_dims
        q, pi = nets.pads
        self.frozen, self.reward = nets.mlp("rrd", q), nets.mlp("rrd", pi, trained=True)

    def pay(self, batch: Batch) -> Tensor:
        """The learned rewards of the batch, (B, 1)."""
        x = self._inputs(self.frozen.pad, batch["obs"], batch["acts"], batch["obs_next"])
        return self.scale.times(self.frozen(x))

    def _inputs(self, pad: Pad, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """[s, a, s - s'] of steps: (B, 2 O + A)."""
        x = pad("reward.x", *sizes(obs)[:-1], 2 * self.obs_dim + sizes(acts)[-1])
        x[..., :self.obs_dim] = obs
        x[..., self.obs_dim:-self.obs_dim] = acts
        torch.sub(obs, obs_next, out=x[..., -self.obs_dim:])
        return x

    def loss(self, batch: Batch) -> Info:
        """R_loss = mean_N (mean_K r^ - R/T)^2, less (1 - variance_penalty) R_var, R_var = mean_N(c s^2 / K).

        The predictions r_k of one sub-sequence, with their mean m, have dR_loss/dr_k = 2 (m - R/T) / (N K). With
        s^2 = sum (r_k - m)^2 / (K - 1), ds^2/dr_k = 2 (r_k - m) / (K - 1): the deviations sum to 0, so m's share
        vanishes, and dR_var/dr_k = 2 c (r_k - m) / (N K (K - 1)). R/T is over `return_scale`, as r_k are.
        """
        *lead, count, steps, _ = sizes(batch["rrd_obs"])
        x = self._inputs(self.reward.pad, *(batch[name].flatten(-3, -2) for name in
                                            ("rrd_obs", "rrd_acts", "rrd_obs_next")))               # (N K, ...)
        pred = self.reward(x).view(*lead, count, steps)
        average = pred.mean(-1, keepdim=True)
        error = average - self.scale.over(batch["rrd_rews"])                                        # (N, 1)
        weight = batch["rrd_weight"]
        info = {"R_loss": averaged(error.square(), weight)}
        grad = (error * (2 / steps * weight)).expand_as(pred)
        if self.correction:
            coef, centred = batch["rrd_var_coef"] / (steps * (steps - 1)), pred - average           # c / (K (K - 1))
            info["R_var"] = averaged(coef * centred.square().sum(-1, keepdim=True), weight)
            grad = grad - centred * coef * (2 * self.correction * weight)
        self.reward.backward(grad.reshape(*sizes(x)[:-1], 1))
        return info
