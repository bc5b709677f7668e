"""IQN's loss with its gradients written by hand, beside `basis_alg/iqn_torch.py`."""

from __future__ import annotations

import torch

from algorithm.basis_alg.base_torch import Info
from algorithm.batch import Batch
from algorithm.engine.by_hand.gradients import Gradients, Step
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.quantiles import QuantileGradients, quantile_huber
from algorithm.engine.by_hand.reward import RewardGradients


class IQNGradients(Gradients):
    """One loss, divided by rows."""

    def __init__(self, nets: Nets, reward: RewardGradients | None):
        super().__init__(nets, reward)
        q, _ = nets.pads
        self.value_target = QuantileGradients(nets, "target.value", q)
        self.value = QuantileGradients(nets, "main.value", q, trained=True)

    def train(self) -> list[Step]:
        """Every gradient of one update; there is no policy."""
        return self.train_q()

    def q_loss(self, batch: Batch) -> Info:
        """y_j = r + gamma (1 - done) max_a Z'_j(s', a); `quantile_huber` to Z_i(s, a). No gradient passes to y."""
        q_next = self.value_target(batch["obs_next"], batch["next_taus"]).amax(2)                   # (B, N)
        y = self.pay(batch).addcmul(1 - batch["done"], q_next, value=self.config.gamma)
        values = self.value(batch["obs"], batch["taus"])                                            # (B, N, A)
        index = batch["acts"][:, None, None].expand(-1, self.config.quantiles, 1)
        loss, grad = quantile_huber(values.gather(2, index)[..., 0], y, batch["taus"], batch["weight"])
        self.value.backward(torch.zeros_like(values).scatter(2, index, grad[..., None]))
        return {"Q_loss": loss}
