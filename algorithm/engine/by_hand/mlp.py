"""Dense networks whose gradients are written by hand, over buffers that stay where they are.

Autograd's graph of many small pieces costs an update of these sizes a quarter of its time. Here a network is a handful
of matrix products into memory that is reused: nothing is allocated, recorded or looked up again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.engine.by_hand.onednn import by_onednn, onednn, sizes

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
        rows, width, w3, b3 = len(x), len(self.weights[0]), self.weights[2], self.biases[2]
        self.x, self.h1 = x, self._hidden(x, 0, "h1")
        if self.late:
            self.h1 = torch.cat([self.h1, late], dim=-1, out=self.pad(f"{self.name}.late", rows, width + self.late))
        self.h2 = self._hidden(self.h1, 1, "h2")
        return torch.addmm(b3, self.h2, w3.t(), out=self.pad(f"{self.name}.out", rows, len(w3)))

    def _hidden(self, x: Tensor, layer: int, name: str) -> Tensor:
        """A layer with its ReLU."""
        weight, bias = self.weights[layer], self.biases[layer]
        if by_onednn(*sizes(x), len(weight), x.device):
            return onednn(x, weight, bias, relu=True)
        return torch.addmm(bias, x, weight.t(), out=self.pad(f"{self.name}.{name}", len(x), len(weight))).relu_()

    def save(self, name: str) -> dict[str, Tensor]:
        """What `backward` needs of the last `forward`, as fields of a batch; `load` takes it in another task."""
        return {f"{name}.x": self.x, f"{name}.h1": self.h1, f"{name}.h2": self.h2}

    def load(self, name: str, fields: dict[str, Tensor]) -> None:
        self.x, self.h1, self.h2 = (fields[f"{name}.{part}"] for part in ("x", "h1", "h2"))

    def backward(self, grad: Tensor) -> None:
        """The gradients of the weights of the last `forward`, given that of its output, (B, O)."""
        g1 = self._back(grad, train=True)
        self._weights(0, g1, self.x)

    def input_grad(self, grad: Tensor, start: int) -> Tensor:
        """The gradient of the inputs from column `start` on, (B, I - start); the weights are left alone."""
        w1 = self.weights[0][:, start:]
        return self._product(self._back(grad, train=False), w1, f"{self.name}.dx")

    def late_grad(self, grad: Tensor) -> Tensor:
        """The gradient of the late inputs, (B, L); the weights are left alone."""
        w2 = self.weights[1][:, -self.late:]
        return self._product(self._back2(grad, train=False), w2, f"{self.name}.dx")

    def _back2(self, grad: Tensor, train: bool) -> Tensor:
        """Before the second layer's ReLU."""
        if train:
            self._weights(2, grad, self.h2)
        g2 = self._product(grad, self.weights[2], "g2")
        return relu_backward(g2, self.h2, 0, grad_input=g2)

    def _back(self, grad: Tensor, train: bool) -> Tensor:
        """Before the first layer's ReLU."""
        g2 = self._back2(grad, train)
        if train:
            self._weights(1, g2, self.h1)
        w2, h1 = self.weights[1], self.h1
        if self.late:
            w2, h1 = w2[:, :-self.late], h1[:, :-self.late]
        g1 = self._product(g2, w2, "g1")
        return relu_backward(g1, h1, 0, grad_input=g1)

    def _weights(self, layer: int, grad: Tensor, x: Tensor) -> None:
        weight, bias = self.weight_grads[layer], self.bias_grads[layer]
        if 2 * sizes(x)[1] < sizes(grad)[1]:      # few columns: the transposed product is up to three times faster
            weight.copy_(self._product(x.t(), grad, "wt").t())
        elif by_onednn(*sizes(weight), len(x), x.device):
            weight.copy_(onednn(grad.t(), x.t()))
        else:
            torch.mm(grad.t(), x, out=weight)
        torch.sum(grad, 0, out=bias)

    def _product(self, x: Tensor, y: Tensor, name: str) -> Tensor:
        """(M, K), (K, N) -> (M, N), a buffer of that name or new memory."""
        if by_onednn(*sizes(x), sizes(y)[1], x.device):
            return onednn(x, y.t())
        return torch.mm(x, y, out=self.pad(name, len(x), sizes(y)[1]))
