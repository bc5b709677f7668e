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

    Observations are one vector, the parts in alphabetical order, each flattened. Actor and critic share the encoders
    unless `shared_encoder` is False.
    """

    def add_encoders(self) -> tuple[int, int]:
        """Add the encoders."""
        parts = self.config.obs_parts
        self._expect(parts is not None and len(self.obs_dims) == 1, "a dict of observations, which has parts")
        self.shapes = [tuple(shape) for _, shape in parts]
        self.splits = [math.prod(shape) for shape in self.shapes]
        self._expect(sum(self.splits) == self.obs_dims[0], f"the sizes of its parts, {self.splits}")
        self.encoders, width = self._encoders()
        self.critic_encoders = self._encoders()[0] if self.config.shared_encoder is False else None
        return width, width

    def _encoders(self) -> tuple[nn.ModuleDict, int]:
        """Return an encoder for each part, by its name, and how many features they give together."""
        found, width = nn.ModuleDict(), 0
        for (name, shape), size in zip(self.config.obs_parts, self.splits, strict=True):
            if len(shape) == 3:
                found[name] = ConvTrunk("encoder", shape, self.init.generator)
                for conv in found[name].convs:
                    self.init(conv)
                width += found[name].features
            else:
                found[name] = mlp((size, self.config.encoder_size), self.activation, self.init)
                width += self.config.encoder_size
        return found, width

    def features(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of actor and critic: (..., O) -> (..., F) each."""
        actor = self._encode(self.encoders, obs)
        return actor, actor if self.critic_encoders is None else self._encode(self.critic_encoders, obs)

    def _encode(self, encoders: nn.ModuleDict, obs: Tensor) -> Tensor:
        parts = obs.split(self.splits, dim=-1)
        return torch.cat([_encoded(encoder, part, shape) for encoder, part, shape
                          in zip(encoders.values(), parts, self.shapes, strict=True)], dim=-1)


def _encoded(encoder: nn.Module, part: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(..., size of the part) -> (..., F)."""
    if not isinstance(encoder, ConvTrunk):
        return encoder(part)
    return encoder.trunk(part.reshape(-1, *shape)).unflatten(0, part.shape[:-1])
