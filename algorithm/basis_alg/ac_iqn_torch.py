"""AC-IQN: a deterministic policy climbs the mean of its critic's quantiles (Lin et al., 2025, arXiv 2412.09466)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.encoded_torch import EncodedActorCritic
from algorithm.batch import Spec, rewards
from algorithm.encoders import EncodedCritic, EncodedPolicy
from algorithm.networks import Shape
from algorithm.policy.layers import Init
from algorithm.quantiles import CosineEmbedding, quantile_huber
from utils.torch_utils import frozen


class QuantileCritic(EncodedCritic):
    """Quantiles of the return of a state and an action; fractions join as in `iqn_torch.QuantileNetwork`."""

    def __init__(self, encoder: nn.Module, shape: Shape, act_dim: int, cosines: int, init: Init):
        super().__init__(encoder, shape, act_dim, init)
        self.cos_embedding = CosineEmbedding(cosines, encoder.size, init)

    def forward(self, obs: Tensor, acts: Tensor, taus: Tensor) -> Tensor:
        """(B, O), (B, A), (B, N) -> (B, N)."""
        features = self.encoder(obs)[:, None] * self.cos_embedding(taus)                            # (B, N, F)
        return self.output_layer(self.hidden(features, self.action_encoder(acts)[:, None]))[..., 0]


class ACIQN(EncodedActorCritic):
    """IQN's critic over continuous actions, and a policy instead of the maximum."""

    train_info = ("Pi_loss", "Q_loss")
    step_info = ("Q_average",)
    q_noise, pi_noise = ("next_taus", "taus"), ("pi_taus",)

    def _create_policy(self, shape: Shape) -> nn.Module:
        return EncodedPolicy(self.encoder(), shape, self.act_dim, self.init)

    def _create_critics(self, shape: Shape) -> dict[str, nn.Module]:
        return {"critic": QuantileCritic(self.encoder(), shape, self.act_dim, self.config.cosines, self.init)}

    @property
    def critic(self) -> nn.Module:
        """The only critic."""
        return self.critics["critic"]

    def noise_spec(self) -> Spec:
        return dict.fromkeys(self.q_noise + self.pi_noise, ("B", self.config.quantiles))

    def draw_noise(self, rows: int) -> Tensor:
        """Draw fractions uniform in [0, 1), (B, N)."""
        return torch.rand(rows, self.config.quantiles, device=self.device, generator=self.generator)

    def q_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """y_j = r + gamma (1 - done) Z'_j(s', pi'(s')); `quantile_huber` to Z_i(s, a)."""
        with torch.no_grad():
            acts = self.target["policy"](batch["obs_next"])
            q_next = self.target["critic"](batch["obs_next"], acts, batch["next_taus"])             # (B, N)
            y = rewards(batch) + self.config.gamma * (1 - batch["done"]) * q_next
        loss = quantile_huber(self.critic(batch["obs"], batch["acts"], batch["taus"]), y, batch["taus"])
        return loss, {"Q_loss": loss}

    def pi_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """-mean Z_i(s, pi(s))."""
        loss = -frozen(self.critic, batch["obs"], self.policy(batch["obs"]), batch["pi_taus"]).mean()
        return loss, {"Pi_loss": loss}

    def value_of(self, obs: Tensor, acts: Tensor) -> Tensor:
        count = self.config.act_quantiles
        taus = (torch.arange(count, device=obs.device, dtype=obs.dtype) + 0.5) / count
        return self.critic(obs, acts, taus.expand(len(obs), -1)).mean(1)
