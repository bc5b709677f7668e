"""DDPG as the published MarineNav program has it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.encoded_torch import EncodedActorCritic
from algorithm.batch import rewards
from algorithm.encoders import EncodedCritic, EncodedPolicy
from algorithm.networks import Shape
from utils.torch_utils import frozen


class MarineNavDDPG(EncodedActorCritic):
    """DDPG with a Huber loss, an atan for the tanh, and random actions for Gaussian noise."""

    train_info = ("Pi_loss", "Q_loss")
    step_info = ("Q_average",)

    def _create_policy(self, shape: Shape) -> nn.Module:
        return EncodedPolicy(self.encoder(), shape, self.act_dim, self.init)

    def _create_critics(self, shape: Shape) -> dict[str, nn.Module]:
        return {"critic": EncodedCritic(self.encoder(), shape, self.act_dim, self.init)}

    def q_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """y = r + gamma (1 - done) Q'(s', pi'(s')); mean Huber(Q(s, a) - y), delta 1."""
        with torch.no_grad():
            q_next = self.target["critic"](batch["obs_next"], self.target["policy"](batch["obs_next"]))
            y = rewards(batch) + self.config.gamma * (1 - batch["done"]) * q_next                    # (B, 1)
        loss = F.huber_loss(self.critics["critic"](batch["obs"], batch["acts"]), y)
        return loss, {"Q_loss": loss}

    def pi_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """-mean Q(s, pi(s))."""
        loss = -frozen(self.critics["critic"], batch["obs"], self.policy(batch["obs"])).mean()
        return loss, {"Pi_loss": loss}
