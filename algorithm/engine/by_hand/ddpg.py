"""DDPG's update with its gradients written by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.basis_alg.ddpg_torch import DDPG
from algorithm.engine.by_hand.onednn import sizes
from algorithm.engine.by_hand.parts import Fields, fit, mean
from algorithm.engine.by_hand.program import Program


class DDPGProgram(Program):
    """`DDPG.q_loss` and `DDPG.pi_loss`."""

    def __init__(self, agents: Sequence[Agent], bases: list[DDPG]):
        super().__init__(agents, bases)
        q, pi, mlp, late = self.critic_pad, self.policy_pad, self.stacks.mlp, self.basis.act_dim
        critics = [basis.critic for basis in bases]
        self.next_policy = mlp([basis.nets["target"]["policy"] for basis in bases], q)
        self.own_policy = mlp([basis.policy for basis in bases], pi, "policy", trained=True)
        self.next_critic = mlp([basis.nets["target"]["value"] for basis in bases], q, late=late)
        self.fitted, self.climbed = mlp(critics, q, trained=True, late=late), mlp(critics, pi, late=late)
        self.trained += [self.own_policy, self.fitted]

    def critics(self, batch: Fields) -> Info:
        acts = self.next_policy.forward(batch["obs_next"]).tanh()
        y = self.target(batch, self.next_critic.forward(batch["obs_next"], acts))
        loss = fit(self.fitted, y, batch["obs"], batch["acts"])
        return {"Q_loss": loss, "Q_reg_loss": self._regularise()}

    def _regularise(self) -> Tensor:
        """The mean over tensors of q_reg |w|^2 / 2, and its gradients."""
        weights, grads = self.fitted.weights + self.fitted.biases, self.fitted.weight_grads + self.fitted.bias_grads
        share = self.config.q_reg / len(weights)
        torch._foreach_add_(grads, weights, alpha=share)
        squares = torch.stack([w.flatten(len(self.lead)).square().sum(-1) for w in weights])
        return 0.5 * share * squares.sum(0)

    def policy(self, batch: Fields) -> Info:
        acts = self.own_policy.forward(batch["obs"]).tanh()
        q = self.climbed.forward(batch["obs"], acts)
        by_q = self.climbed.late_grad(torch.full_like(q, -1 / sizes(q)[-2]))
        self.own_policy.backward(torch.ops.aten.tanh_backward(by_q, acts))
        return {"Pi_loss": -mean(q)}
