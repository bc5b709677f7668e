"""SAC's update with its gradients written by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.basis_alg.sac_torch import SAC
from algorithm.engine.by_hand.onednn import sizes
from algorithm.engine.by_hand.parts import Fields, fit, mean
from algorithm.engine.by_hand.program import Program


class Squashed(NamedTuple):
    """A sample of SAC's policy, and what its gradient needs; all (B, A) but for the likelihood."""

    acts: Tensor
    log_p: Tensor           # (B, 1)
    w: Tensor               # 1 - a^2
    raw: Tensor             # the network's log std
    scale: Tensor           # exp of it, clamped; the std without its floor


def sample_squashed(out: Tensor, noise: Tensor) -> Squashed:
    """What `sac_torch.squash` computes, (B, 2 A), (B, A), where (x - m) / s is known to be the noise."""
    mu, raw = out.chunk(2, dim=-1)
    logstd = raw.clamp(-20.0, 2.0)
    scale = logstd.exp()
    acts = torch.addcmul(mu, scale.clamp_min(1e-2), noise).tanh_()
    w = (1 - acts).mul_(1 + acts)
    terms = torch.log(w + 1e-6).add_(logstd).addcmul_(noise, noise, value=0.5)
    constant = 0.5 * math.log(2 * math.pi) * sizes(acts)[-1]
    return Squashed(acts, terms.sum(-1, keepdim=True).add_(constant).neg_(), w, raw, scale)


class SACProgram(Program):
    """`SAC.q_loss` and `SAC.pi_loss`."""

    def __init__(self, agents: Sequence[Agent], bases: list[SAC]):
        super().__init__(agents, bases)
        q, pi, mlp = self.critic_pad, self.policy_pad, self.stacks.mlp
        policies = [basis.policy for basis in bases]
        self.next_policy, self.own_policy = mlp(policies, q, "policy"), mlp(policies, pi, "policy", trained=True)
        self.targets, self.fitted, self.climbed = [], [], []
        for name in self.basis.critics:
            critics = [basis.critics[name] for basis in bases]
            self.targets.append(mlp([basis.critics_target[name] for basis in bases], q, f"target_{name}"))
            self.fitted.append(mlp(critics, q, "critic", trained=True))
            self.climbed.append(mlp(critics, pi, name))
        self.trained += [self.own_policy, *self.fitted]
        self.log_alpha = self.stacks([basis.alpha.log_alpha for basis in bases])
        self.log_alpha_grad = torch.zeros_like(self.log_alpha)

    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        return super().gradients() + ([(self.log_alpha, self.log_alpha_grad)] if self.config.alpha_lr else [])

    def state(self) -> list[Tensor]:
        return [*super().state(), self.log_alpha_grad]

    def alpha(self) -> Tensor:
        """() or (S, 1, 1)."""
        alpha = self.log_alpha.exp()
        return alpha[:, None, None] if self.lead else alpha

    def critics(self, batch: Fields) -> Info:
        following = sample_squashed(self.next_policy.forward(batch["obs_next"]), batch["pi_next_noise"])
        x = torch.cat([batch["obs_next"], following.acts], dim=-1)
        q_next = torch.minimum(*(target.forward(x) for target in self.targets))
        y = self.target(batch, q_next - self.alpha() * following.log_p)
        x = torch.cat([batch["obs"], batch["acts"]], dim=-1)
        return {"Q_loss": sum(fit(critic, y, x) for critic in self.fitted)}

    def policy(self, batch: Fields) -> Info:
        """With x = m + s e, s = max(exp(l), 1e-2), a = tanh(x), and w = 1 - a^2: dx/dm = 1, dx/ds = e, da/dx = w.

        log pi = sum -0.5 e^2 - l - log(w + 1e-6) + const has dl = -1 and da = 2 a / (w + 1e-6); e does not move.
        """
        (rows, width), alpha = sizes(batch["obs"])[-2:], self.alpha()
        own = sample_squashed(self.own_policy.forward(batch["obs"]), batch["pi_noise"])
        x = torch.cat([batch["obs"], own.acts], dim=-1)
        q_1, q_2 = (critic.forward(x) for critic in self.climbed)
        share = (q_1 <= q_2) / -rows                            # the lesser critic's; (B, 1)
        by_q = self.climbed[0].input_grad(share, width) + self.climbed[1].input_grad(-1 / rows - share, width)
        grad_x = (by_q + own.acts / (own.w + 1e-6) * (2 / rows * alpha)) * own.w                    # (B, A)
        grad_l = grad_x * batch["pi_noise"] * own.scale * (own.scale >= 1e-2) - alpha / rows
        inside = (own.raw >= -20.0) & (own.raw <= 2.0)
        self.own_policy.backward(torch.cat([grad_x, grad_l * inside], dim=-1))
        self.log_alpha_grad.copy_(self.basis.act_dim - mean(own.log_p))
        return {"Pi_loss": mean(alpha * own.log_p - torch.minimum(q_1, q_2))}
