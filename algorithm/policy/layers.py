"""Layers of policies, initialised orthogonally or as PyTorch does, from a generator that is given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MODULES: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU, "elu": nn.ELU,
                                       "gelu": nn.GELU}
FUNCTIONS = {nn.ReLU: torch.relu, nn.Tanh: torch.tanh}       # of modules without settings
HIDDEN_GAIN = math.sqrt(2)


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
            drawn = torch.empty(layer.weight.shape, dtype=layer.weight.dtype)       # a picture's is not contiguous
            layer.weight.copy_(nn.init.orthogonal_(drawn, gain, generator=self.generator))
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


def run(network: nn.Module, x: Tensor) -> Tensor:
    """network(x), of a network of `mlp` without calls of its modules, which take as long as a few rows' products."""
    if type(network) is not nn.Sequential:
        return network(x)
    for module in network._modules.values():
        if type(module) is nn.Linear:
            x = F.linear(x, **module._parameters)
        else:
            function = FUNCTIONS.get(type(module))
            x = module(x) if function is None else function(x)
    return x


def run_lstm(lstm: nn.LSTM, x: Tensor, starts: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run sequences that hold several episodes; the state is zeroed where one starts.

    Args:
        x: (L, B, I).
        starts: 1 where an episode starts with the step, (L, B).
        state: h and c of each layer before the first step, (2, layers, B, H).
    Returns:
        the outputs of the last layer, (L, B, H), and the state after the last step, (2, layers, B, H).
    """
    begins = [0, *(starts[1:].any(1).nonzero()[:, 0] + 1).tolist(), len(x)]
    (h, c), outputs = state.unbind(), []
    for first, end in itertools.pairwise(begins):       # between two of them no episode starts
        kept = (1 - starts[first].to(x.dtype))[:, None]
        out, (h, c) = lstm(x[first:end], (h * kept, c * kept))
        outputs.append(out)
    return torch.cat(outputs), torch.stack([h, c])
