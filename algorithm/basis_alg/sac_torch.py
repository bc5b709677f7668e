"""SAC with a learned temperature (Haarnoja et al., 2018, arXiv 1812.05905)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.off_policy_torch import OffPolicy
from algorithm.batch import rewards
from algorithm.networks import MLP
from utils.settings.fields import Config
from utils.torch_utils import LOG_PROB_EPS, LOG_STD_MAX, LOG_STD_MIN, RandomNormal, clipped, frozen


class MLPStochasticPolicy(MLP):
    """A Gaussian before a tanh, O-hidden-2A: mean, and log std clipped to [-20, 2]."""

    def __init__(self, obs_dim: int, act_dim: int, generator: torch.Generator | None = None,
                 hidden: Sequence[int] = (256, 256), activation: str = "relu"):
        super().__init__("pi", (obs_dim, *hidden, 2 * act_dim), activation, generator=generator)

    def forward(self, obs: Tensor) -> RandomNormal:
        """(..., O) -> a Gaussian over (..., A), before the tanh."""
        mean, logstd = super().forward(obs).chunk(2, dim=-1)
        return RandomNormal(mean, clipped(logstd, LOG_STD_MIN, LOG_STD_MAX))

    def act(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(..., O), (..., A) -> actions (..., A), log-likelihoods (..., 1)."""
        return squash(self(obs), noise)


def squash(pi: RandomNormal, noise: Tensor) -> tuple[Tensor, Tensor]:
    """a = tanh(x), x = mean + std noise; log pi(a) = log p(x) - sum log(1 - a^2 + 1e-6).

    Noise (..., A) -> actions (..., A), log-likelihoods (..., 1).
    """
    x = pi.sample(noise)
    acts = torch.tanh(x)
    one_minus_square = (1 - acts) * (1 + acts)              # 1 - a^2, with less cancellation near |a| = 1
    return acts, pi.log_p(x) - torch.log(one_minus_square + LOG_PROB_EPS).sum(-1, keepdim=True)


class MLPQValueSAC(MLP):
    """SAC's and TD3's critic: [s, a]-hidden-1."""

    def __init__(self, obs_dim: int, act_dim: int, generator: torch.Generator | None = None,
                 hidden: Sequence[int] = (256, 256), activation: str = "relu"):
        super().__init__("q", (obs_dim + act_dim, *hidden, 1), activation, generator=generator)

    def forward(self, obs: Tensor, acts: Tensor) -> Tensor:
        """(..., O), (..., A) -> (..., 1)."""
        return super().forward(torch.cat([obs, acts], dim=-1))


class Temperature(nn.Module):
    """alpha = exp(log_alpha), the weight of the entropy."""

    def __init__(self, alpha_init: float):
        super().__init__()
        self.log_alpha = nn.Parameter(torch.tensor(math.log(alpha_init)))

    def forward(self) -> Tensor:
        """() -> alpha, a 0-d tensor without gradient."""
        return self.log_alpha.detach().exp()


class SAC(OffPolicy):
    """A stochastic policy climbs the lesser of two critics plus alpha times its entropy."""

    train_info = ("Pi_loss", "Q_loss")
    step_info = ("Q_average", "Pi_step_std")
    q_noise, pi_noise = ("pi_next_noise",), ("pi_noise",)

    def __init__(self, config: Config):
        super().__init__(config)
        (obs_dim,), init = self.obs_dims, self.weights_generator
        critic = self.shape("critic")
        self.policy = MLPStochasticPolicy(obs_dim, self.act_dim, init, *self.shape("policy"))
        self.critics = nn.ModuleDict({f"q_value_{i}": MLPQValueSAC(obs_dim, self.act_dim, init, *critic)
                                      for i in (1, 2)})
        self.alpha = Temperature(config.alpha_init)
        main = nn.ModuleDict({"alpha": self.alpha, "policy": self.policy, **self.critics})
        self.critics_target = copy.deepcopy(self.critics)
        self.nets.update({"main": main, "target": self.critics_target})
        self.nets.to(self.device)
        self.opts = [self.make_optimizer(self.policy, self.critics)]
        if config.alpha_lr > 0:
            self.opts[0].add_param_group(dict(name="alpha", role="policy", params=self.alpha.parameters(),
                                              lr=config.alpha_lr))

    def q_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """y = r + gamma (1 - done) (min_i Q'_i(s', a') - alpha log pi(a'|s')), a' ~ pi; sum_i mean (Q_i - y)^2."""
        with torch.no_grad():
            acts, log_p = self.policy.act(batch["obs_next"], batch["pi_next_noise"])     # (B, A), (B, 1)
            q_next = twin(self.critics_target, batch["obs_next"], acts).amin(0) - self.alpha() * log_p
            y = rewards(batch) + self.config.gamma * (1 - batch["done"]) * q_next                    # (B, 1)
        q = twin(self.critics, batch["obs"], batch["acts"])                                         # (2, B, 1)
        loss = (q - y).square().mean(dim=(1, 2)).sum()
        return loss, {"Q_loss": loss}

    def pi_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """mean(alpha log pi(a|s) - min_i Q_i(s, a)), a ~ pi; and -log alpha (mean log pi - A) for the temperature.

        The target entropy is -A: alpha falls while the policy is more random than that.
        """
        acts, log_p = self.policy.act(batch["obs"], batch["pi_noise"])
        q = torch.stack([frozen(critic, batch["obs"], acts) for critic in self.critics.values()]).amin(0)   # (B, 1)
        loss = (self.alpha() * log_p - q).mean()
        if self.config.alpha_lr == 0:
            return loss, {"Pi_loss": loss}
        alpha_loss = -self.alpha.log_alpha * (log_p.detach().mean() - self.act_dim)
        return loss + alpha_loss, {"Pi_loss": loss}

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        pi = self.policy(obs)
        return torch.tanh(pi.sample(self.randn(len(obs))) if explore else pi.mean)

    def evaluate_step(self, obs: Tensor) -> Info:
        """Q_average = min_i Q_i(s, a) - alpha log pi(a|s) at the greedy a."""
        pi = self.policy(obs)
        acts, log_p = squash(pi, torch.zeros_like(pi.mean))
        q = twin(self.critics, obs, acts).amin(0) - self.alpha() * log_p
        return {"Q_average": q[:, 0], "Pi_step_std": pi.std}


def twin(critics: nn.ModuleDict, obs: Tensor, acts: Tensor) -> Tensor:
    """(B, O), (B, A) -> (2, B, 1): the value by each critic."""
    return torch.stack([critic(obs, acts) for critic in critics.values()])
