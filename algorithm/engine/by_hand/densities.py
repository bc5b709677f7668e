"""Distributions over actions with their gradients written by hand, beside `policy/distributions.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.policy.distributions import HALF_LOG_2PI, LOG_STD_MAX, LOG_STD_MIN


class GaussianGradients:
    """A diagonal Gaussian around the actor's outputs m, with one log std l for each action, clamped.

    With z = (a - m) / exp(l):  d log p / dm = z / exp(l),  d log p / dl = z^2 - 1,  dH/dl = 1 in every state; no
    gradient passes to an l that is clamped.
    """

    def __init__(self, log_std: Tensor, grad: Tensor):
        """log_std: the parameter, (A,); grad: the memory of its gradient."""
        self.log_std, self.grad = log_std, grad

    def __call__(self, mean: Tensor, acts: Tensor) -> tuple[Tensor, Tensor]:
        """(B, A) each -> log_prob, (B,), and the entropy, () for it is the same in all states."""
        self.clamped = self.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        self.inverse = (-self.clamped).exp()
        self.z = (acts - mean).mul_(self.inverse)
        self.squares = self.z.square()
        constant = self.clamped.sum() + HALF_LOG_2PI * len(self.log_std)
        return -(self.squares.sum(-1).mul_(0.5).add_(constant)), constant + 0.5 * len(self.log_std)

    def backward(self, by_log_prob: Tensor, by_entropy: Tensor) -> Tensor:
        """Write the gradient of the log std; return that of the means, (B, A).

        Args:
            by_log_prob: dL/dlog_prob, (B,).
            by_entropy: dL/dH of each row, (B,).
        """
        column = by_log_prob[:, None]
        inside = (self.log_std >= LOG_STD_MIN) & (self.log_std <= LOG_STD_MAX)
        by_log_std = torch.mv(self.squares.sub_(1).t(), by_log_prob).add_(by_entropy.sum())
        torch.mul(by_log_std, inside, out=self.grad)
        return self.z.mul_(self.inverse).mul_(column)


class CategoricalGradients:
    """One of A actions, by the actor's outputs as logits.

    With p = softmax(logits): d log p_a / dlogits = 1_a - p,  dH/dlogits = -p (log p + H).
    """

    def __call__(self, logits: Tensor, acts: Tensor) -> tuple[Tensor, Tensor]:
        """(B, A) and indices (B,) -> log_prob and entropy, (B,) each."""
        self.acts, self.log_p = acts[:, None], logits.log_softmax(-1)
        self.p = self.log_p.exp()
        self.entropy = -(self.p * self.log_p).sum(-1, keepdim=True)
        return self.log_p.gather(-1, self.acts)[:, 0], self.entropy[:, 0]

    def backward(self, by_log_prob: Tensor, by_entropy: Tensor) -> Tensor:
        """dL/dlog_prob and dL/dH of each row, (B,) each -> dL/dlogits, (B, A)."""
        column = by_log_prob[:, None]
        grad = self.p * (-column - by_entropy[:, None] * (self.log_p + self.entropy))
        return grad.scatter_add_(-1, self.acts, column)
