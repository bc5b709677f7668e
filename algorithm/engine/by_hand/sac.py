"""SAC's losses with their gradients written by hand, beside `basis_alg/sac_torch.py`."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.batch import Batch
from algorithm.engine.by_hand.gradients import Gradients, twin
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.products import sizes
from algorithm.engine.by_hand.reward import RewardGradients
from algorithm.engine.by_hand.rows import averaged
from utils.torch_utils import LOG_PROB_EPS, LOG_STD_MAX, LOG_STD_MIN, STD_FLOOR


class SACGradients(Gradients):
    """A policy in each half of the update, and critics that learn in the one and are only climbed in the other."""

    def __init__(self, nets: Nets, reward: RewardGradients | None):
        super().__init__(nets, reward)
        (q, pi), names = nets.pads, list(self.basis.critics)
        self.policy_next, self.policy = nets.mlp("main.policy", q), nets.mlp("main.policy", pi, trained=True)
        self.critics = [nets.mlp(f"main.{name}", q, trained=True) for name in names]
        self.critics_frozen = [nets.mlp(f"main.{name}", pi) for name in names]
        self.critics_target = [nets.mlp(f"target.{name}", q) for name in names]
        alphas = [agent.nets["main"]["alpha"].log_alpha for agent in nets.agents]
        self.log_alpha = nets.tensor(alphas)
        self.log_alpha_grad = nets.gradient(alphas) if self.config.alpha_lr else None

    def alpha(self) -> Tensor:
        """() or (S, 1, 1)."""
        alpha = self.log_alpha.exp()
        return alpha[:, None, None] if self.nets.lead else alpha

    def q_loss(self, batch: Batch) -> Info:
        """y = r + gamma (1 - done) (min_i Q'_i(s', a') - alpha log pi(a'|s')), a' ~ pi; sum_i mean (Q_i - y)^2.

        No gradient passes to y, and dL/dQ_i = 2 (Q_i - y) / B.
        """
        acts, log_p, *_ = squash(self.policy_next(batch["obs_next"]), batch["pi_next_noise"])      # (B, A), (B, 1)
        q_next = torch.minimum(*twin(self.critics_target, batch["obs_next"], acts)) - self.alpha() * log_p
        y = self.pay(batch).addcmul(1 - batch["done"], q_next, value=self.config.gamma)             # (B, 1)
        errors = [q - y for q in twin(self.critics, batch["obs"], batch["acts"])]                   # 2 (B, 1)
        for critic, error in zip(self.critics, errors, strict=True):
            critic.backward(error * (2 * batch["weight"]))
        return {"Q_loss": sum(averaged(error.square(), batch["weight"]) for error in errors)}

    def pi_loss(self, batch: Batch) -> Info:
        """mean(alpha log pi(a|s) - min_i Q_i(s, a)), a ~ pi; and -log alpha (mean log pi - A) for the temperature.

        The latter's gradient is A - mean log pi, whatever alpha is.
        """
        sample = squash(self.policy(batch["obs"]), batch["pi_noise"])
        q = twin(self.critics_frozen, batch["obs"], sample.acts)                                    # 2 (B, 1)
        loss = averaged(self.alpha() * sample.log_p - torch.minimum(*q), batch["weight"])
        self.policy.backward(self._policy_gradient(sample, batch, *q))
        if self.log_alpha_grad is not None:
            self.log_alpha_grad.copy_(averaged(self.basis.act_dim - sample.log_p, batch["weight"]))
        return {"Pi_loss": loss}

    def _policy_gradient(self, sample: Squashed, batch: Batch, q_1: Tensor, q_2: Tensor) -> Tensor:
        """dL/d(m, l) of L = mean(alpha log pi - min_i Q_i), for the policy's outputs m and l, (B, 2 A).

        With x = m + s e, s = max(exp l, STD_FLOOR), a = tanh x and w = 1 - a^2: da/dx = w, dx/dm = 1, and dx/dl = s e
        where s is above its floor, else 0. In log pi = sum -e^2 / 2 - l - log(w + eps) + const the noise e does not
        move with m and l, d/dl = -1 and d/da = 2 a / (w + eps). So

            dL/dx = (alpha 2 a / (w + eps) - B dmin_i Q_i/da) w / B,
            dL/dm = dL/dx,  dL/dl = dL/dx s e [s above its floor] - alpha / B,

        and no gradient passes to an l that is clipped. The lesser critic has the minimum's gradient, Q_1 where they
        are equal.
        """
        noise, weight, alpha = batch["pi_noise"], batch["weight"], self.alpha()
        start = sizes(batch["obs"])[-1]
        share = (q_1 <= q_2) * -weight                                                              # (B, 1)
        first, second = self.critics_frozen
        by_q = first.input_grad(share, start) + second.input_grad(-weight - share, start)
        grad_x = (by_q + sample.acts / (sample.w + LOG_PROB_EPS) * (2 * weight * alpha)) * sample.w          # (B, A)
        grad_l = grad_x * noise * sample.scale * (sample.scale >= STD_FLOOR) - alpha * weight
        inside = (sample.raw >= LOG_STD_MIN) & (sample.raw <= LOG_STD_MAX)
        return torch.cat([grad_x, grad_l * inside], dim=-1)


class Squashed(NamedTuple):
    """A sample of SAC's policy, and what its gradient is computed of."""

    acts: Tensor            # a, (B, A)
    log_p: Tensor           # log pi(a|s), (B, 1)
    w: Tensor               # 1 - a^2, (B, A)
    raw: Tensor             # the network's log std before it is clipped, (B, A)
    scale: Tensor           # exp of the clipped log std, without the std's floor, (B, A)


def squash(out: Tensor, noise: Tensor) -> Squashed:
    """`sac_torch.squash` of the policy's outputs, (B, 2 A), (B, A); its (x - mean) / std is the noise."""
    mean, raw = out.chunk(2, dim=-1)
    log_std = raw.clamp(LOG_STD_MIN, LOG_STD_MAX)
    scale = log_std.exp()
    acts = torch.addcmul(mean, scale.clamp_min(STD_FLOOR), noise).tanh_()
    w = (1 - acts).mul_(1 + acts)
    terms = torch.log(w + LOG_PROB_EPS).add_(log_std).addcmul_(noise, noise, value=0.5)
    constant = 0.5 * math.log(2 * math.pi) * sizes(acts)[-1]
    return Squashed(acts, terms.sum(-1, keepdim=True).add_(constant).neg_(), w, raw, scale)
