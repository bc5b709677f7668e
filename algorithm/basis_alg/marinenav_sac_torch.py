"""SAC as the published MarineNav program has it, with the right density of its actions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.encoded_torch import EncodedActorCritic
from algorithm.batch import rewards
from algorithm.encoders import EncodedCritic, Layers, squashed
from algorithm.networks import Shape
from algorithm.policy.layers import Init, linear
from utils.torch_utils import LOG_STD_MAX, LOG_STD_MIN, clipped, frozen


class EncodedGaussian(Layers):
    """A Gaussian over an encoder, whose draws go through (2 / pi) atan."""

    def __init__(self, encoder: nn.Module, shape: Shape, act_dim: int, init: Init):
        super().__init__(encoder, shape, init)
        self.output_layer_mu, self.output_layer_log_std = (init(linear(self.width, act_dim)) for _ in "ab")

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, O) -> mean and log std before its clip, (B, A) each."""
        features = self.hidden(self.encoder(obs))
        return self.output_layer_mu(features), self.output_layer_log_std(features)

    def act(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """a = (2 / pi) atan z, z = mean + std noise; log pi(a) = sum log N(z) - log(2 / pi) + log(1 + z^2).

        (B, O), (B, A) -> actions (B, A), log-likelihoods (B, 1).
        """
        mean, log_std = self(obs)
        log_std = clipped(log_std, LOG_STD_MIN, LOG_STD_MAX)
        z = mean + log_std.exp() * noise
        normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        return squashed(z), (normal - math.log(2 / math.pi) + torch.log1p(z.square())).sum(-1, keepdim=True)


class MarineNavSAC(EncodedActorCritic):
    """SAC with a fixed temperature and a target policy, over two critics."""

    train_info = ("Pi_loss", "Q1_loss", "Q2_loss")
    step_info = ("Q_average", "Pi_step_std")
    q_noise, pi_noise = ("pi_next_noise",), ("pi_noise",)

    def _create_policy(self, shape: Shape) -> nn.Module:
        return EncodedGaussian(self.encoder(), shape, self.act_dim, self.init)

    def _create_critics(self, shape: Shape) -> dict[str, nn.Module]:
        return {f"critic_{i}": EncodedCritic(self.encoder(), shape, self.act_dim, self.init) for i in (1, 2)}

    def q_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """y = r + gamma (1 - done) (min_i Q'_i(s', a') - alpha log pi'(a'|s')), a' ~ pi'; sum_i mean (Q_i - y)^2."""
        with torch.no_grad():
            acts, log_p = self.target["policy"].act(batch["obs_next"], batch["pi_next_noise"])
            q_next = torch.stack([self.target[name](batch["obs_next"], acts) for name in self.critics]).amin(0)
            y = rewards(batch) + self.config.gamma * (1 - batch["done"]) * (q_next - self.config.alpha_init * log_p)
        losses = [(critic(batch["obs"], batch["acts"]) - y).square().mean() for critic in self.critics.values()]
        return sum(losses), {f"Q{i}_loss": loss for i, loss in enumerate(losses, 1)}

    def pi_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """mean(alpha log pi(a|s) - min_i Q_i(s, a)), a ~ pi."""
        acts, log_p = self.policy.act(batch["obs"], batch["pi_noise"])
        q = torch.stack([frozen(critic, batch["obs"], acts) for critic in self.critics.values()]).amin(0)
        loss = (self.config.alpha_init * log_p - q).mean()
        return loss, {"Pi_loss": loss}

    def _choose(self, obs: Tensor, explore: bool) -> Tensor:
        mean, log_std = self.policy(obs)
        noise = self.randn(len(obs)) if explore or self.config.greedy == "sample" else 0.0
        return squashed(mean + clipped(log_std, LOG_STD_MIN, LOG_STD_MAX).exp() * noise)

    def evaluate_step(self, obs: Tensor) -> Info:
        std = clipped(self.policy(obs)[1], LOG_STD_MIN, LOG_STD_MAX).exp()
        return super().evaluate_step(obs) | {"Pi_step_std": std}
