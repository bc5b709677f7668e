"""DDPG (Lillicrap et al., 2016, arXiv 1509.02971), with an L2 term on the critic."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.off_policy_torch import OffPolicy
from algorithm.batch import rewards
from algorithm.networks import MLP
from utils.settings.fields import Config
from utils.torch_utils import frozen


class MLPPolicy(MLP):
    """A deterministic policy: O-hidden-A, tanh at the end."""

    def __init__(self, obs_dim: int, act_dim: int, hidden: Sequence[int] = (400, 300),
                 generator: torch.Generator | None = None, activation: str = "relu"):
        super().__init__("pi", (obs_dim, *hidden, act_dim), activation, generator=generator)

    def forward(self, obs: Tensor) -> Tensor:
        """(..., O) -> (..., A) in [-1, 1]."""
        return torch.tanh(super().forward(obs))


class MLPQValue(MLP):
    """DDPG's critic, O-hidden-1; the action joins at the second layer."""

    def __init__(self, obs_dim: int, act_dim: int, hidden: Sequence[int] = (400, 300),
                 generator: torch.Generator | None = None, activation: str = "relu"):
        super().__init__("q", (obs_dim, *hidden, 1), activation, late=act_dim, generator=generator)

    def forward(self, obs: Tensor, acts: Tensor) -> Tensor:
        """(..., O), (..., A) -> (..., 1)."""
        return super().forward(obs, acts)


class DDPG(OffPolicy):
    """A deterministic policy climbs one critic; Gaussian noise explores."""

    train_info = ("Pi_loss", "Q_loss", "Q_reg_loss")
    step_info = ("Q_average",)
    default_sizes = (400, 300)

    def __init__(self, config: Config):
        super().__init__(config)
        (obs_dim,), init = self.obs_dims, self.weights_generator
        policy, critic = self.shape("policy"), self.shape("critic")
        self.policy = MLPPolicy(obs_dim, self.act_dim, policy.hidden, init, policy.activation)
        self.critic = MLPQValue(obs_dim, self.act_dim, critic.hidden, init, critic.activation)
        main = nn.ModuleDict({"policy": self.policy, "value": self.critic})
        self.nets.update({"main": main, "target": copy.deepcopy(main)})
        self.nets.to(self.device)
        self.opts = [self.make_optimizer(self.policy, self.critic)]

    def q_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """y = r + gamma (1 - done) Q'(s', pi'(s')); mean (Q - y)^2 + the mean over tensors of q_reg |w|^2 / 2."""
        target = self.nets["target"]
        with torch.no_grad():
            q_next = target["value"](batch["obs_next"], target["policy"](batch["obs_next"]))        # (B, 1)
            y = rewards(batch) + self.config.gamma * (1 - batch["done"]) * q_next
        loss = (self.critic(batch["obs"], batch["acts"]) - y).square().mean()
        squares = [0.5 * w.square().sum() for w in self.critic.parameters()]
        reg = self.config.q_reg * torch.stack(squares).mean()
        return loss + reg, {"Q_loss": loss, "Q_reg_loss": reg}

    def pi_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """-mean Q(s, pi(s))."""
        loss = -frozen(self.critic, batch["obs"], self.policy(batch["obs"])).mean()
        return loss, {"Pi_loss": loss}

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        return self.jitter(self.policy(obs)) if explore else self.policy(obs)

    def evaluate_step(self, obs: Tensor) -> Info:
        return {"Q_average": self.critic(obs, self.policy(obs))[:, 0]}
