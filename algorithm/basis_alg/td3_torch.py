"""TD3 (Fujimoto et al., 2018, arXiv 1802.09477)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.ddpg_torch import MLPPolicy
from algorithm.basis_alg.off_policy_torch import OffPolicy
from algorithm.basis_alg.sac_torch import MLPQValueSAC, twin
from algorithm.batch import rewards
from utils.settings.fields import Config
from utils.torch_utils import frozen


class TD3(OffPolicy):
    """DDPG with two critics, smoothed targets, and a policy that learns less often."""

    train_info = ("Pi_loss", "Q_loss")
    step_info = ("Q_average",)
    policy_batch = True
    q_noise = ("target_noise",)

    def __init__(self, config: Config):
        super().__init__(config)
        (obs_dim,), init = self.obs_dims, self.weights_generator
        self.pi_delay_freq = config.pi_delay_freq
        policy, critic = self.shape("policy"), self.shape("critic")
        self.policy = MLPPolicy(obs_dim, self.act_dim, policy.hidden, init, policy.activation)
        self.critics = nn.ModuleDict({f"value_{i}": MLPQValueSAC(obs_dim, self.act_dim, init, *critic) for i in (1, 2)})
        main = nn.ModuleDict({"policy": self.policy, **self.critics})
        self.policy_target, self.critics_target = copy.deepcopy(self.policy), copy.deepcopy(self.critics)
        target = nn.ModuleDict({"policy": self.policy_target, **self.critics_target})
        self.nets.update({"main": main, "target": target})
        self.nets.to(self.device)
        self.opts = [self.make_optimizer(self.policy, self.critics)]

    def q_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """y = r + gamma (1 - done) min_i Q'_i(s', clip(pi'(s') + noise, -1, 1)); sum_i mean (Q_i - y)^2."""
        with torch.no_grad():
            acts = (self.policy_target(batch["obs_next"]) + batch["target_noise"]).clamp(-1, 1)
            q_next = twin(self.critics_target, batch["obs_next"], acts).amin(0)                     # (B, 1)
            y = rewards(batch) + self.config.gamma * (1 - batch["done"]) * q_next
        q = twin(self.critics, batch["obs"], batch["acts"])                                         # (2, B, 1)
        loss = (q - y).square().mean(dim=(1, 2)).sum()
        return loss, {"Q_loss": loss}

    def draw_noise(self, rows: int) -> Tensor:
        """clip(pi_t_std * normal, +-pi_t_clip), (B, A)."""
        noise = self.config.pi_t_std * self.randn(rows)
        return noise.clamp(-self.config.pi_t_clip, self.config.pi_t_clip)

    def pi_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """-mean Q_1(s, pi(s))."""
        loss = -frozen(self.critics["value_1"], batch["obs"], self.policy(batch["obs"])).mean()
        return loss, {"Pi_loss": loss}

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        return self.jitter(self.policy(obs)) if explore else self.policy(obs)

    def evaluate_step(self, obs: Tensor) -> Info:
        return {"Q_average": self.critics["value_1"](obs, self.policy(obs))[:, 0]}
