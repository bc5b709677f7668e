"""Encoders: what turns an observation into the features that the layers of a network read."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algorithm.networks import ACTIVATIONS, Shape
from algorithm.policy.layers import Init, linear
from utils.errors import ConfigError
from utils.settings.fields import Config
from utils.torch_utils import ConvTrunk


class DenseEncoder(nn.Module):
    """One dense layer with ReLU, for vectors."""

    def __init__(self, obs_dim: int, size: int, init: Init):
        """size: the number of features."""
        super().__init__()
        self.size = size
        self.dense = init(linear(obs_dim, size))

    def forward(self, obs: Tensor) -> Tensor:
        """(..., O) -> (..., size)."""
        return F.relu(self.dense(obs))


class PictureEncoder(ConvTrunk):
    """DQN's convolutions, for pictures."""

    def __init__(self, obs_dims: tuple[int, int, int], generator: torch.Generator | None):
        super().__init__("encoder", obs_dims, generator)
        self.size = self.features

    def forward(self, obs: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, size)."""
        return self.trunk(obs)


class ObjectsEncoder(nn.Module):
    """A boat and the objects around it, each of which goes through the same layer; absent ones give zeros.

    An observation is a vector: S numbers of the boat itself, M objects of D numbers, and M times whether there is such
    an object. The features are those of the boat and then of the objects in their order.
    """

    def __init__(self, obs_dim: int, dims: tuple[int, int], sizes: tuple[int, int], init: Init):
        """
        Args:
            obs_dim: S + M (D + 1).
            dims: S and D.
            sizes: the widths of both layers.
        Raises:
            ConfigError: no M of at least 1 fits.
        """
        super().__init__()
        (own, each), (own_size, each_size) = dims, sizes
        self.count, rest = divmod(obs_dim - own, each + 1)
        if rest or self.count < 1:
            raise ConfigError(f"encoder: got objects for observations of {obs_dim} numbers, expected {own} + M "
                              f"({each} + 1) with M of at least 1, as --object_dims says")
        self.parts = (own, self.count * each, self.count)
        self.size = own_size + self.count * each_size
        self.self_encoder = nn.Sequential(init(linear(own, own_size)), nn.ReLU())
        self.object_encoder = nn.Sequential(init(linear(each, each_size)), nn.ReLU())

    def forward(self, obs: Tensor) -> Tensor:
        """(..., S + M (D + 1)) -> (..., size)."""
        own, objects, mask = obs.split(self.parts, -1)
        found = self.object_encoder(objects.unflatten(-1, (self.count, -1))) * mask[..., None]
        return torch.cat([self.self_encoder(own), found.flatten(-2)], -1)


def create_encoder(config: Config, init: Init) -> nn.Module:
    """Build the encoder that the settings name; its `size` is the number of features.

    Raises:
        ConfigError: it does not fit the observations.
    """
    if config.encoder == "objects":
        if len(config.obs_dims) != 1:
            raise ConfigError(f"encoder: got objects for observations of shape {config.obs_dims}, expected vectors")
        return ObjectsEncoder(config.obs_dims[0], config.object_dims, config.object_sizes, init)
    if len(config.obs_dims) == 1:
        return DenseEncoder(config.obs_dims[0], config.features, init)
    return PictureEncoder(config.obs_dims, init.generator)


class Layers(nn.Module):
    """Hidden layers over an encoder, by the names `hidden_layer`, `hidden_layer_2`, ..."""

    def __init__(self, encoder: nn.Module, shape: Shape, init: Init):
        """shape: of the hidden layers."""
        super().__init__()
        self.encoder, self.activation, sizes = encoder, ACTIVATIONS[shape.activation], shape.hidden
        self.names = ["hidden_layer", *(f"hidden_layer_{i}" for i in range(2, len(sizes) + 1))]
        for name, fan_in, fan_out in zip(self.names, (encoder.size, *sizes), sizes, strict=False):
            self.add_module(name, init(linear(fan_in, fan_out)))
        self.width = sizes[-1]

    def hidden(self, features: Tensor, after_first: Tensor | None = None) -> Tensor:
        """(..., I) -> (..., H); the output of the first layer is multiplied by `after_first`, if it is given."""
        for i, name in enumerate(self.names):
            features = self.activation(getattr(self, name)(features))
            if i == 0 and after_first is not None:
                features = features * after_first
        return features


class OutputLayers(Layers):
    """Hidden layers over an encoder, and one output layer."""

    def __init__(self, encoder: nn.Module, shape: Shape, outputs: int, init: Init):
        """outputs: the width of `output_layer`."""
        super().__init__(encoder, shape, init)
        self.output_layer = init(linear(self.width, outputs))


class EncodedPolicy(OutputLayers):
    """A deterministic policy over an encoder, a = (2 / pi) atan(output)."""

    def forward(self, obs: Tensor) -> Tensor:
        """(B, O) -> (B, A) in (-1, 1)."""
        return squashed(self.output_layer(self.hidden(self.encoder(obs))))


class EncodedCritic(OutputLayers):
    """Q(s, a) over an encoder; the action's features multiply those of the first hidden layer."""

    def __init__(self, encoder: nn.Module, shape: Shape, act_dim: int, init: Init):
        super().__init__(encoder, shape, 1, init)
        self.action_encoder = nn.Sequential(init(linear(act_dim, shape.hidden[0])), nn.ReLU())

    def forward(self, obs: Tensor, acts: Tensor) -> Tensor:
        """(B, O), (B, A) -> (B, 1)."""
        return self.output_layer(self.hidden(self.encoder(obs), self.action_encoder(acts)))


def squashed(x: Tensor) -> Tensor:
    """(2 / pi) atan(x), in (-1, 1)."""
    return torch.atan(x) * (2 / torch.pi)
