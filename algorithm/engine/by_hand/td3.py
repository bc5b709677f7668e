"""TD3's losses with their gradients written by hand, beside `basis_alg/td3_torch.py`."""

from __future__ import annotations

import torch

from algorithm.basis_alg.base_torch import Info
from algorithm.batch import Batch
from algorithm.engine.by_hand.gradients import Gradients, Step, twin
from algorithm.engine.by_hand.mlp import MLP
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.products import sizes
from algorithm.engine.by_hand.reward import RewardGradients
from algorithm.engine.by_hand.rows import averaged


class TD3Gradients(Gradients):
    """The policy has batches of its own, so the critics' loss is divided: a critic in each half."""

    def __init__(self, nets: Nets, reward: RewardGradients | None):
        super().__init__(nets, reward)
        (q, pi), (one, two) = nets.pads, self.basis.critics
        self.policy_target, self.policy = nets.mlp("target.policy", q), nets.mlp("main.policy", pi, trained=True)
        self.critics = [nets.mlp(f"main.{one}", q, trained=True), nets.mlp(f"main.{two}", pi, trained=True)]
        self.critics_target = [nets.mlp(f"target.{name}", q) for name in (one, two)]
        self.critic_frozen = nets.mlp(f"main.{one}", pi)

    def train(self) -> list[Step]:
        """Every gradient of one update; see `Gradients.train`."""
        return [*self.train_pi(), *self.train_q()]

    def train_q(self) -> list[Step]:
        """y = r + gamma (1 - done) min_i Q'_i(s', clip(pi'(s') + noise, -1, 1)); sum_i mean (Q_i - y)^2.

        In two steps: y beside Q_i and the reward network's loss, then the one critic's gradients beside the other's,
        whose losses have one name and add up.
        """
        return [([self.q_target], [self.q_values, *self.reward_loss]), ([self.q_1_loss], [self.q_2_loss])]

    def q_target(self, batch: Batch) -> Info:
        """y, (B, 1)."""
        acts = (self.policy_target(batch["obs_next"]).tanh() + batch["target_noise"]).clamp(-1, 1)
        q_next = torch.minimum(*twin(self.critics_target, batch["obs_next"], acts))                 # (B, 1)
        return {"y": self.pay(batch).addcmul(1 - batch["done"], q_next, value=self.config.gamma)}

    def q_values(self, batch: Batch) -> Info:
        """Q_i, (B, 1), with what their gradients are computed of."""
        q_1, q_2 = twin(self.critics, batch["obs"], batch["acts"])
        first, second = self.critics
        return {"q_1": q_1, "q_2": q_2} | first.save("q_1") | second.save("q_2")

    def q_1_loss(self, batch: Batch) -> Info:
        """mean (Q_1 - y)^2."""
        return self._q_i_loss(self.critics[0], "q_1", batch)

    def q_2_loss(self, batch: Batch) -> Info:
        """mean (Q_2 - y)^2."""
        return self._q_i_loss(self.critics[1], "q_2", batch)

    def _q_i_loss(self, critic: MLP, name: str, batch: Batch) -> Info:
        """mean (Q_i - y)^2: no gradient passes to y, and dL/dQ_i = 2 (Q_i - y) / B."""
        critic.load(name, batch)
        error = batch[name] - batch["y"]
        critic.backward(error * (2 * batch["weight"]))
        return {"Q_loss": averaged(error.square(), batch["weight"])}

    def pi_loss(self, batch: Batch) -> Info:
        """-mean Q_1(s, pi(s)): dL/dQ_1 = -1 / B, and with pi = tanh z, dL/dz = dL/dpi (1 - pi^2)."""
        acts = self.policy(batch["obs"]).tanh()
        q = self.critic_frozen(torch.cat([batch["obs"], acts], dim=-1))
        grad = self.critic_frozen.input_grad(-batch["weight"].expand_as(q), sizes(batch["obs"])[-1])
        self.policy.backward(torch.ops.aten.tanh_backward(grad, acts))
        return {"Pi_loss": -averaged(q, batch["weight"])}
