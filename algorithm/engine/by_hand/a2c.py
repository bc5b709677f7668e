"""A2C's loss with its gradient written by hand, beside `basis_alg/a2c_torch.py`."""

from __future__ import annotations

from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.batch import Batch
from algorithm.engine.by_hand.on_policy import OnPolicyGradients
from algorithm.masked import mean_of


class A2CGradients(OnPolicyGradients):
    """The gradient of the policy."""

    def policy_loss(self, log_prob: Tensor, advantages: Tensor, batch: Batch) -> tuple[Info, Tensor]:
        """l = -A log pi(a|s): dl/dlog_prob = -A."""
        return {"Pi_loss": -mean_of(advantages * log_prob, batch)}, -advantages
