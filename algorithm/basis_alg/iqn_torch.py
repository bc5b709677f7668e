"""IQN: the distribution of the return of each action, by its quantiles (Dabney et al., 2018, arXiv 1806.06923)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.encoded_torch import EncodedDQN
from algorithm.batch import Spec, rewards
from algorithm.encoders import OutputLayers
from algorithm.networks import Shape
from algorithm.policy.layers import Init
from algorithm.quantiles import CosineEmbedding, quantile_huber


class QuantileNetwork(OutputLayers):
    """Quantiles of the return of each action; the features of a fraction multiply those of the observation."""

    def __init__(self, encoder: nn.Module, shape: Shape, acts: int, cosines: int, init: Init):
        super().__init__(encoder, shape, acts, init)
        self.cos_embedding = CosineEmbedding(cosines, encoder.size, init)

    def forward(self, obs: Tensor, taus: Tensor) -> Tensor:
        """(B, O), (B, N) -> (B, N, A)."""
        return self.output_layer(self.hidden(self.encoder(obs)[:, None] * self.cos_embedding(taus)))


class IQN(EncodedDQN):
    """Learns quantiles at random fractions, and acts by their mean."""

    q_noise = ("next_taus", "taus")
    values_draw = True

    def _create_network(self, encoder: nn.Module, shape: Shape, init: Init) -> nn.Module:
        return QuantileNetwork(encoder, shape, self.act_dim, self.config.cosines, init)

    def noise_spec(self) -> Spec:
        return dict.fromkeys(self.q_noise, ("B", self.config.quantiles))

    def draw_noise(self, rows: int) -> Tensor:
        """Draw fractions, (B, N)."""
        return self.draw_taus(rows, self.config.quantiles)

    def draw_taus(self, rows: int, count: int) -> Tensor:
        """Draw fractions uniform in [0, 1), (rows, count)."""
        return torch.rand(rows, count, device=self.device, generator=self.generator)

    def q_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """y_j = r + gamma (1 - done) max_a Z'_j(s', a), for each quantile by itself; `quantile_huber` to Z_i(s, a)."""
        with torch.no_grad():
            q_next = self.value_target(batch["obs_next"], batch["next_taus"]).amax(2)               # (B, N)
            y = rewards(batch) + self.config.gamma * (1 - batch["done"]) * q_next
        quantiles = self.value(batch["obs"], batch["taus"])                                         # (B, N, A)
        index = batch["acts"][:, None, None].expand(-1, quantiles.shape[1], 1)
        loss = quantile_huber(quantiles.gather(2, index)[..., 0], y, batch["taus"])
        return loss, {"Q_loss": loss}

    def _values(self, rows: Tensor) -> Tensor:
        return self.values(self._observed(rows), self.draw_taus(len(rows), self.config.act_quantiles))

    def values(self, obs: Tensor, taus: Tensor) -> Tensor:
        """Return the mean of the quantiles of each action: normalised (N, O), (N, K) -> (N, A)."""
        return self.value(obs, taus).mean(1)
