"""Advantage actor-critic, the synchronous A3C (Mnih et al., 2016, arXiv 1602.01783)."""

from __future__ import annotations

from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.on_policy_torch import OnPolicy
from algorithm.masked import mean_of


class A2C(OnPolicy):
    """One pass over a short rollout, usually in one batch."""

    def policy_loss(self, log_prob: Tensor, advantages: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """-mean(A log pi(a|s))."""
        return -mean_of(advantages * log_prob, batch), {}
