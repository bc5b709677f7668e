"""Parameters and networks of several agents at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Agent
from algorithm.engine.by_hand.mlp import MLP
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.products import sizes


class StackedMLP(MLP):
    """The same network of S agents: weights (S, O, I), biases (S, O), and S in front of every other shape."""

    def _hidden(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self._affine(i, x)
        if self.activation.keeps_z:
            return self.activation.apply(z, self.pad(f"{self.name}.h{i}", *sizes(z))), z
        self.activation.apply(z, z)
        return z, z

    def _join(self, x: Tensor, late: Tensor) -> Tensor:
        *lead, width = sizes(x)
        return torch.cat([x, late], dim=-1, out=self.pad(f"{self.name}.late", *lead, width + self.late))

    def _output(self, x: Tensor) -> Tensor:
        return self._affine(len(self.weights) - 1, x)

    def _affine(self, i: int, x: Tensor) -> Tensor:
        weight, bias = self.weights[i], self.biases[i]
        out = self.pad(f"{self.name}.z{i}", *sizes(x)[:-1], sizes(weight)[-2])
        return torch.baddbmm(bias[:, None], x, weight.mT, out=out)

    def _differentiate(self, i: int, grad: Tensor, x: Tensor) -> None:
        torch.bmm(grad.mT, x, out=self.weight_grads[i])
        torch.sum(grad, -2, out=self.bias_grads[i])

    def _times(self, x: Tensor, y: Tensor, name: str) -> Tensor:
        return torch.bmm(x, y, out=self.pad(name, *sizes(x)[:-1], sizes(y)[-1]))


class StackedNets(Nets):
    """The parameters of S agents as one tensor (S, ...) each, of which the agents' become views."""

    kind = StackedMLP

    def __init__(self, agents: Sequence[Agent]):
        super().__init__(agents)
        self.lead = (len(agents),)

    @torch.no_grad()
    def tensor(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """(...) of every agent -> (S, ...)."""
        first = parameters[0]
        if first not in self.tensors:
            self.tensors[first] = torch.stack(list(parameters))
            for parameter, row in zip(parameters, self.tensors[first], strict=True):
                parameter.data = row
        return self.tensors[first]
