"""A policy of pictures: DQN's convolutions, and dense layers behind them."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.policy.actor_critic import ActorCritic
from utils.torch_utils import ConvTrunk


class ConvActorCritic(ActorCritic):
    """Actor and critic behind convolutions, which they share unless `shared_encoder` is False."""

    default_sizes = (512,)
    default_activation = "relu"

    def add_encoders(self) -> tuple[int, int]:
        """Add the convolutions."""
        self._expect(len(self.obs_dims) == 3, "pictures (height, width, channels); for vectors --policy=actor_critic")
        self.convs = self._trunk()
        self.critic_convs = self._trunk() if self.config.shared_encoder is False else None
        return self.convs.features, self.convs.features

    def _trunk(self) -> ConvTrunk:
        trunk = ConvTrunk("encoder", self.obs_dims, self.init.generator)
        for conv in trunk.convs:
            self.init(conv)
        return trunk

    def features(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of pictures (..., H, W, C)."""
        actor = self._encode(self.convs, obs)
        return actor, actor if self.critic_convs is None else self._encode(self.critic_convs, obs)

    @staticmethod
    def _encode(trunk: ConvTrunk, obs: Tensor) -> Tensor:
        """(..., H, W, C) -> (..., F)."""
        features = trunk.trunk(obs.reshape(-1, *obs.shape[-3:]).to(next(trunk.parameters()).dtype))
        return torch.unflatten(features, 0, obs.shape[:-3]) if obs.ndim != 4 else features
