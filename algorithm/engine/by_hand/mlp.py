"""Dense networks whose gradients are written by hand, over buffers that are used again.

Autograd's graph of many small pieces costs an update of these sizes a quarter of its time. Here a network is a handful
of matrix products into memory that stays: nothing is allocated, recorded or looked up again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.engine.by_hand.activations import ACTIVATIONS
from algorithm.engine.by_hand.products import is_large, onednn, sizes


class Pad:
    """Buffers by name and shape. Functions that run at the same time need a pad each."""

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float32, onednn: bool = False):
        """onednn: oneDNN computes the large products of float32 matrices on the CPU."""
        self.device, self.dtype = device, dtype
        self.onednn = onednn and device.type == "cpu" and dtype == torch.float32
        self.buffers: dict[tuple, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        key = (name, *shape)
        if key not in self.buffers:
            self.buffers[key] = torch.empty(shape, device=self.device, dtype=self.dtype)
        return self.buffers[key]


class MLP:
    """The layers of an `algorithm.networks.MLP`, of any number: z_i = x_i W_i^T + b_i, x_{i+1} = f(z_i), and z_n.

    Late inputs, such as the action in DDPG's critic, are columns that join x_1. With G_i = dL/dz_i, from the last down,

        dL/dW_i = G_i^T x_i,  dL/db_i = the sum of G_i's rows,  G_{i-1} = (G_i W_i) f'(z_{i-1}).

    Networks of one pad share the buffers of gradients: finish the backward pass of one before that of the next.
    """

    def __init__(self, weights: list[Tensor], biases: list[Tensor], pad: Pad, name: str = "", trained: bool = False,
                 late: int = 0, activation: str = "relu"):
        """Take the layers' weights (O, I) and biases (O,), at least two of each.

        Args:
            name: of the buffers of this network's outputs in the pad.
            trained: make room for the gradients of weights and biases.
            late: how many late inputs there are.
            activation: a key of `ACTIVATIONS`.
        """
        self.weights, self.biases = weights, biases
        self.pad, self.name, self.late = pad, name, late
        self.activation, self.fused = ACTIVATIONS[activation], activation == "relu"
        self.weight_grads = [torch.zeros_like(weight) for weight in weights] if trained else []
        self.bias_grads = [torch.zeros_like(bias) for bias in biases] if trained else []
        self.inputs: list[Tensor] = []      # x_i of the last forward pass
        self.kept: list[Tensor] = []        # f(z_i) or z_i, of which f' is computed

    def __call__(self, x: Tensor, late: Tensor | None = None) -> Tensor:
        """(B, I) and, where there are late inputs, (B, L) -> (B, O), a buffer that the next call writes over."""
        self.inputs, self.kept = [], []
        for i in range(len(self.weights) - 1):
            self.inputs.append(x)
            x, kept = self._hidden(i, x)
            self.kept.append(kept)
            if i == 0 and self.late:
                x = self._join(x, late)
        self.inputs.append(x)
        return self._output(x)

    def save(self, name: str) -> dict[str, Tensor]:
        """Return what `backward` needs of the last forward pass, as fields of a batch, for `load`."""
        saved = {f"{name}.x{i}": x for i, x in enumerate(self.inputs)}
        return saved | {f"{name}.kept{i}": kept for i, kept in enumerate(self.kept) if kept is not self.inputs[i + 1]}

    def load(self, name: str, fields: dict[str, Tensor]) -> None:
        """Take over what `save` returned, for the next `backward`."""
        self.inputs = [fields[f"{name}.x{i}"] for i in range(len(self.weights))]
        self.kept = [fields.get(f"{name}.kept{i}", x) for i, x in enumerate(self.inputs[1:])]

    def backward(self, grad: Tensor) -> None:
        """Write the gradients of all weights and biases, given that of the last output, (B, O)."""
        for i in reversed(range(len(self.weights))):
            self._differentiate(i, grad, self.inputs[i])
            if i:
                grad = self._below(i, grad)

    def input_grad(self, grad: Tensor, start: int) -> Tensor:
        """The gradient of the inputs from column `start` on, (B, I - start); those of the weights are left alone."""
        return self._times(self._descend(grad, 0), self.weights[0][..., start:], f"{self.name}.dx")

    def late_grad(self, grad: Tensor) -> Tensor:
        """The gradient of the late inputs, (B, L); those of the weights are left alone."""
        return self._times(self._descend(grad, 1), self.weights[1][..., -self.late:], f"{self.name}.dlate")

    def _descend(self, grad: Tensor, layer: int) -> Tensor:
        """G of a layer, given G_n."""
        for i in range(len(self.weights) - 1, layer, -1):
            grad = self._below(i, grad)
        return grad

    def _below(self, i: int, grad: Tensor) -> Tensor:
        """G_i -> G_{i-1}, without the late inputs' columns."""
        weight = self.weights[i]
        if i == 1 and self.late:
            weight = weight[..., :-self.late]
        return self.activation.slope(self._times(grad, weight, f"g{i}"), self.kept[i - 1])

    # What several networks at once (`StackedMLP`) compute in another way --------------------------------------

    def _hidden(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """x_{i+1}, without late inputs, and what f' is computed of."""
        weight, bias, shape = self.weights[i], self.biases[i], (len(x), len(self.weights[i]))
        if self._by_onednn(*sizes(x), len(weight)):
            z = onednn(x, weight, bias, relu=self.fused)
            if self.fused:
                return z, z
        else:
            z = torch.addmm(bias, x, weight.t(), out=self.pad(f"{self.name}.z{i}", *shape))
        if self.activation.keeps_z:
            return self.activation.apply(z, self.pad(f"{self.name}.h{i}", *shape)), z
        self.activation.apply(z, z)
        return z, z

    def _by_onednn(self, rows: int, inner: int, columns: int) -> bool:
        return self.pad.onednn and is_large(rows, inner, columns)

    def _join(self, x: Tensor, late: Tensor) -> Tensor:
        return torch.cat([x, late], dim=-1, out=self.pad(f"{self.name}.late", len(x), sizes(x)[1] + self.late))

    def _output(self, x: Tensor) -> Tensor:
        """z_n: few columns, so never by oneDNN."""
        weight, bias = self.weights[-1], self.biases[-1]
        return torch.addmm(bias, x, weight.t(), out=self.pad(f"{self.name}.out", len(x), len(weight)))

    def _differentiate(self, i: int, grad: Tensor, x: Tensor) -> None:
        """G_i, x_i -> the gradients of W_i and b_i, in their buffers."""
        weight = self.weight_grads[i]
        if 2 * sizes(x)[1] < sizes(grad)[1]:      # few columns: the transposed product is up to three times faster
            weight.copy_(self._times(x.t(), grad, "wt").t())
        elif self._by_onednn(*sizes(weight), len(x)):
            weight.copy_(onednn(grad.t(), x.t()))
        else:
            torch.mm(grad.t(), x, out=weight)
        torch.sum(grad, 0, out=self.bias_grads[i])

    def _times(self, x: Tensor, y: Tensor, name: str) -> Tensor:
        """(M, K), (K, N) -> (M, N), a buffer of that name or new memory."""
        if self._by_onednn(*sizes(x), sizes(y)[1]):
            return onednn(x, y.t())
        return torch.mm(x, y, out=self.pad(name, len(x), sizes(y)[1]))
