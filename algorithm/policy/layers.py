"""Layers of policies, initialised orthogonally or as PyTorch does, from a generator that is given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

MODULES: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU, "elu": nn.ELU,
                                       "gelu": nn.GELU}
HIDDEN_GAIN = math.sqrt(2)
LSTM_FIELDS = ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l")


class Init:
    """How layers are initialised.

    orthogonal: weights orthogonal with a gain, biases 0; else both uniform in +-1 / sqrt(inputs), as PyTorch's are.
    """

    def __init__(self, orthogonal: bool, generator: torch.Generator | None):
        self.orthogonal, self.generator = orthogonal, generator

    @torch.no_grad()
    def __call__(self, layer: nn.Linear | nn.Conv2d, gain: float = HIDDEN_GAIN) -> nn.Module:
        """Initialise a layer, and return it."""
        if self.orthogonal:
            nn.init.orthogonal_(layer.weight, gain, generator=self.generator)
            nn.init.zeros_(layer.bias)
        else:
            limit = 1 / math.sqrt(layer.weight[0].numel())
            for parameter in (layer.weight, layer.bias):
                parameter.uniform_(-limit, limit, generator=self.generator)
        return layer

    @torch.no_grad()
    def lstm(self, lstm: nn.LSTM) -> nn.LSTM:
        """Initialise an LSTM as PyTorch does, and return it: every weight uniform in +-1 / sqrt(width)."""
        limit = 1 / math.sqrt(lstm.hidden_size)
        for parameter in lstm.parameters():
            parameter.uniform_(-limit, limit, generator=self.generator)
        return lstm


def linear(fan_in: int, fan_out: int) -> nn.Linear:
    """Return a dense layer that is not initialised, float32 whatever PyTorch's default is."""
    return nn.utils.skip_init(nn.Linear, fan_in, fan_out, dtype=torch.float32)


def mlp(sizes: Sequence[int], activation: str, init: Init, last_gain: float | None = None,
        last_activation: str | None = None) -> nn.Sequential:
    """Dense layers; the layer i is the module 2 i, and an activation follows it.

    Args:
        sizes: widths of the input, of each hidden layer, and of the output.
        last_gain: of the last layer, if it is an output; None: it is a hidden layer like the others.
        last_activation: after an output; none if None.
    """
    modules: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        output = last_gain is not None and i == len(sizes) - 2
        modules.append(init(linear(fan_in, fan_out), last_gain if output else HIDDEN_GAIN))
        function = last_activation if output else activation
        if function is not None:
            modules.append(MODULES[function]())
    return nn.Sequential(*modules)


def run_lstm(lstm: nn.LSTM, x: Tensor, starts: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run sequences that hold several episodes; the state is zeroed where one starts.

    Args:
        x: (L, B, I).
        starts: 1 where an episode starts with the step, (L, B).
        state: h and c of each layer before the first step, (2, layers, B, H).
    Returns:
        the outputs of the last layer, (L, B, H), and the state after the last step, (2, layers, B, H).
    """
    kept, ends = (1 - starts.to(x.dtype))[..., None], []
    for layer in range(lstm.num_layers):
        weights = [getattr(lstm, f"{name}{layer}") for name in LSTM_FIELDS]
        x, end = _run_layer(weights, x, kept, state[:, layer])
        ends.append(end)
    return x, torch.stack(ends, 1)


def _run_layer(weights: Sequence[Tensor], x: Tensor, kept: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs (L, B, H) of one layer and its last state (2, B, H)."""
    from_input, from_output, *biases = weights
    inputs = nn.functional.linear(x, from_input, biases[0] + biases[1])        # of all steps at once
    (h, c), outputs = state.unbind(), []
    for given, keep in zip(inputs, kept, strict=True):
        i, f, g, o = (given + nn.functional.linear(h * keep, from_output)).chunk(4, -1)
        c = f.sigmoid() * (c * keep) + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs), torch.stack([h, c])
