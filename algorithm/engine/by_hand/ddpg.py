"""DDPG's losses with their gradients written by hand, beside `basis_alg/ddpg_torch.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.batch import Batch
from algorithm.engine.by_hand.gradients import Gradients
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.reward import RewardGradients
from algorithm.engine.by_hand.rows import averaged


class DDPGGradients(Gradients):
    """A critic that learns in the one half of the update, and is only climbed in the other."""

    def __init__(self, nets: Nets, reward: RewardGradients | None):
        super().__init__(nets, reward)
        q, pi = nets.pads
        self.policy_target, self.policy = nets.mlp("target.policy", q), nets.mlp("main.policy", pi, trained=True)
        self.critic_target, self.critic = nets.mlp("target.value", q), nets.mlp("main.value", q, trained=True)
        self.critic_frozen = nets.mlp("main.value", pi)

    def q_loss(self, batch: Batch) -> Info:
        """y = r + gamma (1 - done) Q'(s', pi'(s')); mean (Q - y)^2 + the mean over tensors of q_reg |w|^2 / 2.

        No gradient passes to y, and dL/dQ = 2 (Q - y) / B.
        """
        q_next = self.critic_target(batch["obs_next"], self.policy_target(batch["obs_next"]).tanh())
        y = self.pay(batch).addcmul(1 - batch["done"], q_next, value=self.config.gamma)             # (B, 1)
        error = self.critic(batch["obs"], batch["acts"]) - y
        self.critic.backward(error * (2 * batch["weight"]))
        penalty = {"Q_reg_loss": self._regularise()} if self.first else {}
        return {"Q_loss": averaged(error.square(), batch["weight"])} | penalty

    def _regularise(self) -> Tensor:
        """The mean over the n tensors of q_reg |w|^2 / 2, (); adds its gradients, q_reg w / n, to the critic's."""
        critic = self.critic
        weights, grads = critic.weights + critic.biases, critic.weight_grads + critic.bias_grads
        share = self.config.q_reg / len(weights)
        torch._foreach_add_(grads, weights, alpha=share)
        squares = torch.stack([w.flatten(len(self.nets.lead)).square().sum(-1) for w in weights])
        return 0.5 * share * squares.sum(0)

    def pi_loss(self, batch: Batch) -> Info:
        """-mean Q(s, pi(s)): dL/dQ = -1 / B, and with pi = tanh z, dL/dz = dL/dpi (1 - pi^2)."""
        acts = self.policy(batch["obs"]).tanh()
        q = self.critic_frozen(batch["obs"], acts)
        grad = self.critic_frozen.late_grad(-batch["weight"].expand_as(q))
        self.policy.backward(torch.ops.aten.tanh_backward(grad, acts))
        return {"Pi_loss": -averaged(q, batch["weight"])}
