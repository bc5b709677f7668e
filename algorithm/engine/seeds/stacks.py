"""Parameters and networks of several agents at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from algorithm.engine.by_hand.mlp import MLP
from algorithm.engine.by_hand.onednn import sizes


class StackedMLP(MLP):
    """The same for several networks at once: weights (S, O, I), biases (S, O), and all else with S in front."""

    def forward(self, x: Tensor, late: Tensor | None = None) -> Tensor:
        """(S, B, I) and, where there are late inputs, (S, B, L) -> (S, B, O)."""
        self.x = x
        h1 = self._layer(0, x).relu_()
        self.h1 = torch.cat([h1, late], dim=-1) if self.late else h1
        self.h2 = self._layer(1, self.h1).relu_()
        return self._layer(2, self.h2)

    def _layer(self, layer: int, x: Tensor) -> Tensor:
        return torch.baddbmm(self.biases[layer][:, None], x, self.weights[layer].mT)

    def input_grad(self, grad: Tensor, start: int) -> Tensor:
        return self._back(grad, train=False) @ self.weights[0][..., start:]

    def late_grad(self, grad: Tensor) -> Tensor:
        return self._back2(grad, train=False) @ self.weights[1][..., -self.late:]

    def _back2(self, grad: Tensor, train: bool) -> Tensor:
        if train:
            self._weights(2, grad, self.h2)
        return torch.ops.aten.threshold_backward(grad @ self.weights[2], self.h2, 0)

    def _back(self, grad: Tensor, train: bool) -> Tensor:
        g2 = self._back2(grad, train)
        if train:
            self._weights(1, g2, self.h1)
        own = sizes(self.weights[0])[-2]
        return torch.ops.aten.threshold_backward(g2 @ self.weights[1][..., :own], self.h1[..., :own], 0)

    def _weights(self, layer: int, grad: Tensor, x: Tensor) -> None:
        torch.bmm(grad.mT, x, out=self.weight_grads[layer])
        torch.sum(grad, -2, out=self.bias_grads[layer])


class Stacks:
    """Parameters of one agent as they are, or of several agents as one tensor each, of which theirs become views."""

    def __init__(self):
        self.stacked: dict[nn.Parameter, Tensor] = {}           # an agent's first parameter -> the tensor
        self.networks: list[MLP] = []

    @torch.no_grad()
    def __call__(self, parameters: list[nn.Parameter]) -> Tensor:
        """The tensor of the same parameter of every agent: its own (...), or (S, ...)."""
        first = parameters[0]
        if first not in self.stacked:
            self.stacked[first] = first.detach() if len(parameters) == 1 else torch.stack(parameters)
            for parameter, row in zip(parameters, self.stacked[first], strict=False) if len(parameters) > 1 else ():
                parameter.data = row
        return self.stacked[first]

    def mlp(self, networks: list[nn.Module], *args, **kwargs) -> MLP:
        """The three dense layers of the same network of every agent; see `MLP`."""
        layers = [[layer for layer in network.modules() if isinstance(layer, nn.Linear)] for network in networks]
        weights = [self([layer.weight for layer in same]) for same in zip(*layers, strict=True)]
        biases = [self([layer.bias for layer in same]) for same in zip(*layers, strict=True)]
        self.networks.append((MLP if len(networks) == 1 else StackedMLP)(weights, biases, *args, **kwargs))
        return self.networks[-1]
