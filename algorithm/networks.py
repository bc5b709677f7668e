"""Dense networks: layers as TensorFlow's `tf.layers.dense` makes them, of any number and one of a few activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.settings.fields import Config
from utils.torch_utils import dense

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "tanh": torch.tanh, "silu": F.silu, "elu": F.elu, "gelu": F.gelu,
}


class Shape(NamedTuple):
    """The settings of a network: the widths of its hidden layers, and the activation after each."""

    hidden: tuple[int, ...]
    activation: str


# The settings of each part of an agent, and what a checkpoint calls them.
PARTS = {"policy": ("hidden_sizes", "activation"), "critic": ("critic_hidden_sizes", "critic_activation"),
         "reward": ("reward_hidden_sizes", "reward_activation")}
NORMALIZER = ("obs_clip", "obs_eps")
SHAPE_NAMES = (*(name for names in PARTS.values() for name in names), *NORMALIZER)
OPTIONAL_NAMES = (*SHAPE_NAMES, "return_scale")         # of all that a checkpoint leaves out where it is the default


def default_hidden(obs_dims: Sequence[int]) -> tuple[int, ...]:
    """The widths of the original: two layers over vectors, one after the convolutions over pictures."""
    return (512,) if len(obs_dims) == 3 else (256, 256)


def shape_of(config: Config, part: str, hidden: Sequence[int]) -> Shape:
    """The shape of a part's networks; `hidden` are the widths where no setting says any.

    Critics and reward network follow `hidden_sizes` and `activation` where they have no setting of their own.
    """
    sizes, activation = (getattr(config, name) for name in PARTS[part])
    return Shape(tuple(sizes or config.hidden_sizes or hidden), activation or config.activation or "relu")


def shape_identity(config: Config, hidden: Sequence[int]) -> dict[str, str]:
    """The shapes that differ from the default, by the names of the settings, as a checkpoint records them.

    How observations are normalised counts as one. A checkpoint with the default shapes records none, as before these
    settings existed.

    Args:
        hidden: the default widths of the policy's and the critics' hidden layers.
    """
    found = {name: str(value) for name in NORMALIZER if (value := getattr(config, name)) is not None}
    for part, needed in (("policy", "q_lr"), ("critic", "pi_lr"), ("reward", "r_lr")):
        if getattr(config, needed) is not None:
            default = Shape(tuple(hidden if part != "reward" else default_hidden(config.obs_dims)), "relu")
            shape = shape_of(config, part, default.hidden)
            texts = ",".join(map(str, shape.hidden)), shape.activation
            found |= {name: text for name, text, value, usual in zip(PARTS[part], texts, shape, default, strict=True)
                      if value != usual}
    return found


class MLP(nn.Module):
    """Dense layers with an activation between them; the last layer has none.

    Attributes:
        layers: the `nn.Linear` of the network, in order.
        activation: the name of the activation, a key of `ACTIVATIONS`.
        late: how many inputs join at the second layer.
    """

    def __init__(self, prefix: str, sizes: Sequence[int], activation: str = "relu", late: int = 0,
                 generator: torch.Generator | None = None):
        """Build the layers `<prefix>_dense1`, `<prefix>_dense2`, ... and the last one, `<prefix>`.

        Args:
            prefix: the first part of the layers' names, which are the original's.
            sizes: the width of the input, of each hidden layer, and of the output: at least three numbers.
            activation: a key of `ACTIVATIONS`.
            late: how many inputs join the output of the first layer, as the action does in DDPG's critic.
            generator: draws the weights, layer by layer.
        """
        super().__init__()
        self.names = [f"{prefix}_dense{i}" for i in range(1, len(sizes) - 1)] + [prefix]
        self.activation, self.late = activation, late
        add_layers(self, self.names, sizes, late, generator)

    @property
    def layers(self) -> list[nn.Linear]:
        """The layers in order, as they are now: a subclass may replace one."""
        return [getattr(self, name) for name in self.names]

    def forward(self, x: Tensor, late: Tensor | None = None) -> Tensor:
        """(..., I) and, where there are late inputs, (..., L) -> (..., O)."""
        return run_layers(self.layers, self.activation, x, late)


def add_head(module: nn.Module, prefix: str, name: str, sizes: Sequence[int],
             generator: torch.Generator | None = None) -> list[str]:
    """Add the dense layers that follow convolutions; their names, in order.

    They are `<prefix>_dense_<name>`, `<prefix>_dense2_<name>`, ... and the last one, `<prefix>_<name>`.
    """
    names = [f"{prefix}_dense{i if i > 1 else ''}_{name}" for i in range(1, len(sizes) - 1)] + [f"{prefix}_{name}"]
    add_layers(module, names, sizes, 0, generator)
    return names


def run_head(module: nn.Module, names: Sequence[str], activation: str, features: Tensor) -> Tensor:
    """The output of the layers that `add_head` added: (B, features) -> (B, O)."""
    return run_layers([getattr(module, name) for name in names], activation, features)


def add_layers(module: nn.Module, names: Sequence[str], sizes: Sequence[int], late: int = 0,
               generator: torch.Generator | None = None) -> None:
    """Add dense layers of these names to a module; `late` inputs join at the second layer."""
    for i, (name, fan_in, fan_out) in enumerate(zip(names, sizes[:-1], sizes[1:], strict=True)):
        module.add_module(name, dense(fan_in + late * (i == 1), fan_out, generator))


def run_layers(layers: Sequence[nn.Linear], activation: str, x: Tensor, late: Tensor | None = None) -> Tensor:
    """(..., I), and (..., L) that join the output of the first layer -> (..., O)."""
    function = ACTIVATIONS[activation]
    for i, layer in enumerate(layers[:-1]):
        x = function(layer(x))
        if i == 0 and late is not None:
            x = torch.cat([x, late], dim=-1)
    return layers[-1](x)
