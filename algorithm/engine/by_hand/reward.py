"""RRD's reward network with its gradients written by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.decomposition.agent import Decomposed
from algorithm.engine.by_hand.mlp import Pad
from algorithm.engine.by_hand.onednn import sizes
from algorithm.engine.by_hand.parts import Fields, mean
from algorithm.engine.seeds.stacks import Stacks


class RewardProgram:
    """`RRD.predict` on the batch and `RRD.loss` on the sub-sequences."""

    def __init__(self, agents: Sequence[Decomposed], stacks: Stacks, frozen: Pad, trained: Pad):
        self.bias_correction, self.width = agents[0].config.rrd_bias_correction, agents[0].obs_dims[0]
        networks, mlp = [agent.decomposition.reward for agent in agents], stacks.mlp
        self.frozen = mlp(networks, frozen, "reward")
        self.trained = mlp(networks, trained, "reward", trained=True)

    def predict(self, batch: Fields) -> Tensor:
        return self.frozen.forward(self._inputs(self.frozen.pad, batch["obs"], batch["acts"], batch["obs_next"]))

    def _inputs(self, pad: Pad, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """[s, a, s - s'] of steps: (B, 2 O + A)."""
        x = pad("reward.x", *sizes(obs)[:-1], 2 * self.width + sizes(acts)[-1])
        x[..., :self.width] = obs
        x[..., self.width:-self.width] = acts
        torch.sub(obs, obs_next, out=x[..., -self.width:])
        return x

    def train(self, batch: Fields) -> Info:
        """dL/dr_k = 2 (mean r - R/T) / (N K), and with bias correction - 2 c (r_k - mean r) / (N K (K - 1))."""
        *lead, count, steps, _ = sizes(batch["rrd_obs"])
        x = self._inputs(self.trained.pad, *(batch[name].flatten(-3, -2) for name in
                                             ("rrd_obs", "rrd_acts", "rrd_obs_next")))              # (N K, ...)
        pred = self.trained.forward(x).view(*lead, count, steps)
        average = pred.mean(-1, keepdim=True)
        error = average - batch["rrd_rews"]                                                         # (N, 1)
        info = {"R_loss": mean(error.square())}
        grad = (error * (2 / (count * steps))).expand_as(pred)
        if self.bias_correction:
            coef, centred = batch["rrd_var_coef"] / (steps * (steps - 1)), pred - average
            info["R_var"] = mean(coef * centred.square().sum(-1, keepdim=True))
            grad = grad - centred * coef * (2 / count)
        self.trained.backward(grad.reshape(*sizes(x)[:-1], 1))
        return info
