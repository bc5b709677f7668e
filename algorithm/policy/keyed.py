"""A policy of observations that are a dict: an encoder for each part, and dense layers on all of them together."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from algorithm.policy.actor_critic import ActorCritic
from algorithm.policy.layers import mlp
from utils.torch_utils import ConvTrunk


class KeyedActorCritic(ActorCritic):
    """Actor and critic behind an encoder of each part: a dense layer of `encoder_size`, convolutions of a picture.

    Observations are one vector, the parts in alphabetical order, each flattened; bytes of pictures are divided by 255
    here. Actor and critic share the encoders unless `shared_encoder` is False.
    """

    def add_encoders(self) -> tuple[int, int]:
        """Add the encoders."""
        parts = self.config.obs_parts
        self._expect(parts is not None and len(self.obs_dims) == 1, "a dict of observations, which has parts")
        self.shapes = [tuple(shape) for _, shape in parts]
        self.splits = [math.prod(shape) for shape in self.shapes]
        self._expect(sum(self.splits) == self.obs_dims[0], f"the sizes of its parts, {self.splits}")
        self._expect(not (self.config.obs_normalization and any(len(shape) == 3 for shape in self.shapes)),
                     "vectors alone with --obs_normalization=True, for it would normalise pictures as well")
        self.encoders, width = self._encoders()
        self.critic_encoders = self._encoders()[0] if self.config.shared_encoder is False else None
        return width, width

    def _encoders(self) -> tuple[nn.ModuleList, int]:
        """Return an encoder for each part, and how many features they give together."""
        found = nn.ModuleList(map(self._encoder, self.shapes, self.splits))        # a name may be no name of a module
        return found, sum(one.features if isinstance(one, ConvTrunk) else self.config.encoder_size for one in found)

    def _encoder(self, shape: tuple[int, ...], size: int) -> nn.Module:
        """Return the encoder of a part."""
        if len(shape) != 3:
            return mlp((size, self.config.encoder_size), self.activation, self.init)
        trunk = ConvTrunk("encoder", shape, self.init.generator)
        for conv in trunk.convs:
            self.init(conv)
        return trunk

    def features(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of actor and critic: (..., O) -> (..., F) each."""
        actor = self._encode(self.encoders, obs)
        return actor, actor if self.critic_encoders is None else self._encode(self.critic_encoders, obs)

    def _encode(self, encoders: nn.ModuleList, obs: Tensor) -> Tensor:
        parts = obs.split(self.splits, dim=-1)
        return torch.cat([_encoded(encoder, part, shape) for encoder, part, shape
                          in zip(encoders, parts, self.shapes, strict=True)], dim=-1)


def _encoded(encoder: nn.Module, part: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(..., size of the part) -> (..., F)."""
    if not isinstance(encoder, ConvTrunk):
        return encoder(part)
    return encoder.trunk(part.reshape(-1, *shape) / 255).unflatten(0, part.shape[:-1])
