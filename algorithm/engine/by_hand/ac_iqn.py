"""AC-IQN's losses with their gradients written by hand, beside `basis_alg/ac_iqn_torch.py`."""

from __future__ import annotations

from algorithm.basis_alg.base_torch import Info
from algorithm.batch import Batch
from algorithm.engine.by_hand.encoders import PolicyGradients
from algorithm.engine.by_hand.gradients import Gradients
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.quantiles import QuantileGradients, quantile_huber
from algorithm.engine.by_hand.reward import RewardGradients


class ACIQNGradients(Gradients):
    """The policy's loss is computed after the critic's step, so the verbs follow each other, each divided by rows."""

    def __init__(self, nets: Nets, reward: RewardGradients | None):
        super().__init__(nets, reward)
        q, pi = nets.pads
        self.policy_target = PolicyGradients(nets, "target.policy", q)
        self.policy = PolicyGradients(nets, "main.policy", pi, trained=True)
        self.critic_target = QuantileGradients(nets, "target.critic", q, actions=True)
        self.critic = QuantileGradients(nets, "main.critic", q, trained=True, actions=True)
        self.critic_frozen = QuantileGradients(nets, "main.critic", pi, actions=True)

    def q_loss(self, batch: Batch) -> Info:
        """y_j = r + gamma (1 - done) Z'_j(s', pi'(s')); `quantile_huber` to Z_i(s, a). No gradient passes to y."""
        q_next = self.critic_target(batch["obs_next"], batch["next_taus"], self.policy_target(batch["obs_next"]))
        y = self.pay(batch).addcmul(1 - batch["done"], q_next[..., 0], value=self.config.gamma)     # (B, N)
        values = self.critic(batch["obs"], batch["taus"], batch["acts"])
        loss, grad = quantile_huber(values[..., 0], y, batch["taus"], batch["weight"])
        self.critic.backward(grad[..., None])
        return {"Q_loss": loss}

    def pi_loss(self, batch: Batch) -> Info:
        """-mean Z_i(s, pi(s)): dL/dZ_i = -1 / (B N)."""
        q = self.critic_frozen(batch["obs"], batch["pi_taus"], self.policy(batch["obs"]))
        share = -batch["weight"] / self.config.quantiles
        self.policy.backward(self.critic_frozen.action_grad(share.expand_as(q)))
        return {"Pi_loss": q.sum() * share}
