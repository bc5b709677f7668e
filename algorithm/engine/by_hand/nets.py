"""The networks of one agent as gradients by hand take them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Agent
from algorithm.engine.by_hand.mlp import MLP, Pad
from algorithm.engine.by_hand.products import Products


class Nets:
    """An agent's parameters and dense networks; `seeds.stacks.StackedNets` has those of several agents at once.

    The two pads are for the two functions that may run at the same time: each computes in its own.
    """

    kind: type[MLP] = MLP
    lead: tuple[int, ...] = ()          # the leading dimensions of every shape: (S,) for S agents

    def __init__(self, agents: Sequence[Agent], products: Products | None = None):
        """products: of the pads; `refresh` them before each update, inside inference mode."""
        self.agent, self.agents = agents[0], list(agents)
        dtype = next(self.agent.nets.parameters()).dtype
        self.products = products or Products()
        self.pads = tuple(Pad(self.agent.device, dtype, self.products) for _ in range(2))
        self.tensors: dict[nn.Parameter, Tensor] = {}       # by the first agent's parameter
        self.gradients: dict[nn.Parameter, Tensor] = {}     # likewise, of those that are trained
        self.mlps: list[MLP] = []

    def tensor(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """The memory of one parameter, given that parameter of every agent."""
        return self.tensors.setdefault(parameters[0], parameters[0].detach())

    def mlp(self, name: str, pad: Pad, trained: bool = False) -> MLP:
        """The network `nets.<name>`, an `algorithm.networks.MLP`; with `trained`, its gradients are computed."""
        networks = [agent.nets.get_submodule(name) for agent in self.agents]
        first = networks[0]
        return self._made(name, pad, trained, [network.layers for network in networks], first.late, first.activation)

    def dense(self, names: Sequence[str], pad: Pad, activation: str, kind: type[MLP] | None = None,
              trained: bool = True) -> MLP:
        """The dense layers in the modules `nets.<name>`, one after the other, with this activation between them.

        Args:
            kind: `Trunk` if an activation follows the last layer, too.
        """
        layers = [[layer for name in names for layer in agent.nets.get_submodule(name).modules()
                   if isinstance(layer, nn.Linear)] for agent in self.agents]
        return self._made(names[0], pad, trained, layers, 0, activation, kind)

    def _made(self, name: str, pad: Pad, trained: bool, networks: list[list[nn.Linear]], late: int,
              activation: str, kind: type[MLP] | None = None) -> MLP:
        """A network of these layers, those of each agent."""
        layers = list(zip(*networks, strict=True))
        weights = [self.tensor([layer.weight for layer in same]) for same in layers]
        biases = [self.tensor([layer.bias for layer in same]) for same in layers]
        mlp = (kind or self.kind)(weights, biases, pad, name, trained, late, activation)
        self.mlps.append(mlp)
        if trained:
            self.gradients |= zip((layer.weight for layer, *_ in layers), mlp.weight_grads, strict=True)
            self.gradients |= zip((layer.bias for layer, *_ in layers), mlp.bias_grads, strict=True)
        return mlp

    def gradient(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """The memory of the gradient of one parameter, given that parameter of every agent."""
        return self.gradients.setdefault(parameters[0], torch.zeros_like(self.tensor(parameters)))

    def state(self) -> list[Tensor]:
        """Every tensor that is read or written, but for the batch: it stays where it is."""
        buffers = [buffer for pad in self.pads for buffer in pad.buffers.values()]
        return [*self.tensors.values(), *self.gradients.values(), *self.products.copies.values(), *buffers]
