"""DDPG (Lillicrap et al., 2016, arXiv 1509.02971), with an L2 term on the critic."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.off_policy_torch import OffPolicy
from algorithm.batch import rewards
from utils.settings.fields import Config
from utils.torch_utils import dense, frozen


class MLPPolicy(nn.Module):
    """A deterministic policy: O-h1-h2-A, ReLU, tanh at the end."""

    def __init__(self, obs_dim: int, act_dim: int, hidden: tuple[int, int] = (400, 300),
                 generator: torch.Generator | None = None):
        super().__init__()
        self.pi_dense1 = dense(obs_dim, hidden[0], generator)
        self.pi_dense2 = dense(hidden[0], hidden[1], generator)
        self.pi = dense(hidden[1], act_dim, generator)

    def forward(self, obs: Tensor) -> Tensor:
        """(..., O) -> (..., A) in [-1, 1]."""
        h = F.relu(self.pi_dense1(obs))
        return torch.tanh(self.pi(F.relu(self.pi_dense2(h))))


class MLPQValue(nn.Module):
    """DDPG's critic, which sees the action in its second layer: O-h1, [h, a]-h2-1, ReLU."""

    def __init__(self, obs_dim: int, act_dim: int, hidden: tuple[int, int] = (400, 300),
                 generator: torch.Generator | None = None):
        super().__init__()
        self.q_dense1 = dense(obs_dim, hidden[0], generator)
        self.q_dense2 = dense(hidden[0] + act_dim, hidden[1], generator)
        self.q = dense(hidden[1], 1, generator)

    def forward(self, obs: Tensor, acts: Tensor) -> Tensor:
        """(..., O), (..., A) -> (..., 1)."""
        h = F.relu(self.q_dense1(obs))
        return self.q(F.relu(self.q_dense2(torch.cat([h, acts], dim=-1))))


class DDPG(OffPolicy):
    """A deterministic policy climbs one critic; Gaussian noise explores."""

    train_info = ("Pi_loss", "Q_loss", "Q_reg_loss")
    step_info = ("Q_average",)

    def __init__(self, config: Config):
        super().__init__(config)
        (obs_dim,), init = self.obs_dims, self.weights_generator
        self.policy = MLPPolicy(obs_dim, self.act_dim, generator=init)
        self.critic = MLPQValue(obs_dim, self.act_dim, generator=init)
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
