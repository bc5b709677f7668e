"""Dense networks whose gradients are written by hand, over buffers that stay where they are.

Autograd's graph of many small pieces costs an update of these sizes a quarter of its time. Here a network is a handful
of matrix products into memory that is reused: nothing is allocated, recorded or looked up again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

relu_backward = torch.ops.aten.threshold_backward.grad_input


class Pad:
    """Buffers by name and shape. Who computes at the same time needs a pad of his own."""

    def __init__(self, device: torch.device):
        self.device = device
        self.buffers: dict[tuple, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        key = (name, *shape)
        if key not in self.buffers:
            self.buffers[key] = torch.empty(shape, device=self.device)
        return self.buffers[key]


class MLP:
    """Three dense layers, ReLU between them; `late` inputs join the second layer, as the action does in DDPG's critic.

    Networks of one pad share the buffers of gradients, and those of activations where their names agree: then the one
    is to be done with before the other begins.
    """

    def __init__(self, weights: list[Tensor], biases: list[Tensor], pad: Pad, name: str = "", trained: bool = False,
                 late: int = 0):
        """Weights (O, I) and biases (O,) of three layers; with `trained` there is room for their gradients."""
        self.weights, self.biases = weights, biases
        self.pad, self.name, self.late = pad, name, late
        self.weight_grads = [torch.zeros_like(weight) for weight in weights] if trained else []
        self.bias_grads = [torch.zeros_like(bias) for bias in biases] if trained else []

    def forward(self, x: Tensor, late: Tensor | None = None) -> Tensor:
        """(B, I) and, where there are late inputs, (B, L) -> (B, O), a buffer that the next call writes over."""
        rows, (w1, w2, w3), (b1, b2, b3) = len(x), self.weights, self.biases
        width = len(w1)
        self.x, self.h1 = x, self.pad(f"{self.name}.h1", rows, width + self.late)
        own = self.h1[:, :width] if self.late else self.h1
        torch.addmm(b1, x, w1.t(), out=own).relu_()
        if self.late:
            self.h1[:, width:] = late
        self.h2 = torch.addmm(b2, self.h1, w2.t(), out=self.pad(f"{self.name}.h2", rows, len(w2))).relu_()
        return torch.addmm(b3, self.h2, w3.t(), out=self.pad(f"{self.name}.out", rows, len(w3)))

    def backward(self, grad: Tensor) -> None:
        """The gradients of the weights of the last `forward`, given that of its output, (B, O)."""
        g1 = self._back(grad, train=True)
        self._weights(0, g1, self.x)

    def input_grad(self, grad: Tensor, start: int) -> Tensor:
        """The gradient of the inputs from column `start` on, (B, I - start); the weights are left alone."""
        w1 = self.weights[0][:, start:]
        return torch.mm(self._back(grad, train=False), w1, out=self.pad(f"{self.name}.dx", len(grad), w1.shape[1]))

    def late_grad(self, grad: Tensor) -> Tensor:
        """The gradient of the late inputs, (B, L); the weights are left alone."""
        w2 = self.weights[1][:, -self.late:]
        return torch.mm(self._back2(grad, train=False), w2, out=self.pad(f"{self.name}.dx", len(grad), self.late))

    def _back2(self, grad: Tensor, train: bool) -> Tensor:
        """Before the second layer's ReLU."""
        if train:
            self._weights(2, grad, self.h2)
        g2 = torch.mm(grad, self.weights[2], out=self.pad("g2", *self.h2.shape))
        return relu_backward(g2, self.h2, 0, grad_input=g2)

    def _back(self, grad: Tensor, train: bool) -> Tensor:
        """Before the first layer's ReLU."""
        g2 = self._back2(grad, train)
        if train:
            self._weights(1, g2, self.h1)
        w2, h1 = self.weights[1], self.h1
        if self.late:
            w2, h1 = w2[:, :-self.late], h1[:, :-self.late]
        g1 = torch.mm(g2, w2, out=self.pad("g1", *h1.shape))
        return relu_backward(g1, h1, 0, grad_input=g1)

    def _weights(self, layer: int, grad: Tensor, x: Tensor) -> None:
        weight, bias = self.weight_grads[layer], self.bias_grads[layer]
        if 2 * x.shape[1] < grad.shape[1]:      # few columns: the transposed product is up to three times faster
            weight.copy_(torch.mm(x.t(), grad, out=self.pad("wt", x.shape[1], grad.shape[1])).t())
        else:
            torch.mm(grad.t(), x, out=weight)
        torch.sum(grad, 0, out=bias)


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
        own = self.weights[0].shape[-2]
        return torch.ops.aten.threshold_backward(g2 @ self.weights[1][..., :own], self.h1[..., :own], 0)

    def _weights(self, layer: int, grad: Tensor, x: Tensor) -> None:
        torch.bmm(grad.mT, x, out=self.weight_grads[layer])
        torch.sum(grad, -2, out=self.bias_grads[layer])


class Stacks:
    """Parameters of one agent as they are, or of several agents as one tensor each, of which theirs become views."""

    def __init__(self):
        self.stacked: dict[nn.Parameter, Tensor] = {}           # an agent's first parameter -> the tensor

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
        return (MLP if len(networks) == 1 else StackedMLP)(weights, biases, *args, **kwargs)
