"""Encoders and networks over them with their gradients written by hand, beside `algorithm/encoders.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.encoders import Layers, ObjectsEncoder
from algorithm.engine.by_hand.mlp import MLP, Pad, Trunk
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.products import sizes


class DenseFeatures:
    """The features of a `DenseEncoder`."""

    def __init__(self, nets: Nets, name: str, pad: Pad, trained: bool):
        """name: of the encoder among the agent's networks; trained: whether `backward` will be called."""
        self.dense = nets.dense([f"{name}.dense"], pad, "relu", Trunk, trained)

    def __call__(self, obs: Tensor) -> Tensor:
        """(B, O) -> (B, F)."""
        return self.dense(obs)

    def backward(self, grad: Tensor) -> None:
        """Write the gradients of the weights, given that of the features, (B, F), which is written over."""
        self.dense.backward(grad)


class ObjectFeatures:
    """The features of an `ObjectsEncoder`: those of the boat, and of each object that there is."""

    def __init__(self, nets: Nets, name: str, pad: Pad, trained: bool):
        """See `DenseFeatures`."""
        encoder: ObjectsEncoder = nets.agent.nets.get_submodule(name)
        self.parts, self.count = encoder.parts, encoder.count
        self.own = nets.dense([f"{name}.self_encoder"], pad, "relu", Trunk, trained)
        self.each = nets.dense([f"{name}.object_encoder"], pad, "relu", Trunk, trained)

    def __call__(self, obs: Tensor) -> Tensor:
        """(B, S + M (D + 1)) -> (B, F)."""
        own, objects, mask = obs.split(self.parts, -1)
        self.mask, shape = mask[..., None], (sizes(obs)[0], self.count)
        found = self.each(objects.unflatten(1, (self.count, -1)).flatten(0, 1)).unflatten(0, shape)
        return torch.cat([self.own(own), (found * self.mask).flatten(1)], -1)

    def backward(self, grad: Tensor) -> None:
        """See `DenseFeatures`: an object that is not there has no share in the gradient."""
        width = sizes(self.own.weights[0])[0]
        self.own.backward(grad[:, :width])
        found = grad[:, width:].unflatten(1, (self.count, -1)) * self.mask
        self.each.backward(found.flatten(0, 1))


def features(nets: Nets, name: str, pad: Pad, trained: bool) -> DenseFeatures | ObjectFeatures:
    """Return the features of the encoder of that name."""
    objects = isinstance(nets.agent.nets.get_submodule(name), ObjectsEncoder)
    return (ObjectFeatures if objects else DenseFeatures)(nets, name, pad, trained)


def layers_of(module: Layers, name: str) -> list[str]:
    """Return the names of the hidden layers of a network, and of its output layer; name: of the network."""
    return [f"{name}.{layer}" for layer in (*module.names, "output_layer")]


class PolicyGradients:
    """An `EncodedPolicy`: a = (2 / pi) atan(z)."""

    def __init__(self, nets: Nets, name: str, pad: Pad, trained: bool = False):
        """See `DenseFeatures`; name: of the policy."""
        policy = nets.agent.nets.get_submodule(name)
        self.encoder = features(nets, f"{name}.encoder", pad, trained)
        self.layers = nets.dense(layers_of(policy, name), pad, nets.agent.shape("policy").activation, MLP, trained)

    def __call__(self, obs: Tensor) -> Tensor:
        """(B, O) -> (B, A)."""
        self.z = self.layers(self.encoder(obs))
        return torch.atan(self.z).mul_(2 / torch.pi)

    def backward(self, grad: Tensor) -> None:
        """Write all gradients, given dL/da, (B, A): dL/dz = dL/da (2 / pi) / (1 + z^2)."""
        below = self.layers.backward(grad * (2 / torch.pi) / self.z.square().add_(1))
        self.encoder.backward(self.layers.to_inputs(below))
