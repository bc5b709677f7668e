"""Dense networks whose gradients are written by hand, over buffers that are used again.

Autograd's graph of many small pieces costs an update of these sizes a quarter of its time. Here a network is a handful
of matrix products into memory that stays: nothing is allocated, recorded or looked up again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.engine.by_hand.activations import ACTIVATIONS
from algorithm.engine.by_hand.products import Products, onednn, sizes


class Pad:
    """Buffers by name and shape. Functions that run at the same time need a pad each."""

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float32, products: Products | None = None):
        """products: of float32 matrices on the CPU; several pads may share them."""
        self.device, self.dtype = device, dtype
        ours = products is not None and device.type == "cpu" and dtype == torch.float32
        self.products = products if ours else Products()
        self.buffers: dict[tuple, Tensor] = {}

    def __call__(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """The buffer of this name, shape and type; without one, the pad's own."""
        key = (name, *shape, dtype or self.dtype)
        if key not in self.buffers:
            self.buffers[key] = torch.empty(shape, device=self.device, dtype=dtype or self.dtype)
        return self.buffers[key]

    def cast(self, x: Tensor, dtype: torch.dtype, name: str) -> Tensor:
        """x, or where its type is another one a buffer of that name with its numbers."""
        return x if x.dtype == dtype else self(name, *sizes(x), dtype=dtype).copy_(x)


class MLP:
    """The layers of an `algorithm.networks.MLP`, of any number: z_i = x_i W_i^T + b_i, x_{i+1} = f(z_i), and z_n.

    Late inputs, such as the action in DDPG's critic, are columns that join x_1. With G_i = dL/dz_i, from the last down,

        dL/dW_i = G_i^T x_i,  dL/db_i = the sum of G_i's rows,  G_{i-1} = (G_i W_i) f'(z_{i-1}).

    A layer whose products are in bfloat16 keeps x_i, f(z_i) and G_i in it; the last layer, all gradients of weights,
    biases and inputs, and what the caller gives and gets are in the pad's type.

    Networks of one pad share the buffers of gradients: finish the backward pass of one before that of the next.
    """

    def __init__(self, weights: list[Tensor], biases: list[Tensor], pad: Pad, name: str = "", trained: bool = False,
                 late: int = 0, activation: str = "relu"):
        """Take the layers' weights (O, I) and biases (O,).

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
            x = self.pad.cast(x, self._dtype(i, x), f"{self.name}.x{i}")
            self.inputs.append(x)
            x, kept = self._hidden(i, x)
            self.kept.append(kept)
            if i == 0 and self.late:
                x = self._join(x, late)
        self.inputs.append(self.pad.cast(x, self.pad.dtype, f"{self.name}.xn"))
        return self._output(self.inputs[-1])

    def save(self, name: str) -> dict[str, Tensor]:
        """Return what `backward` needs of the last forward pass, as fields of a batch, for `load`."""
        saved = {f"{name}.x{i}": x for i, x in enumerate(self.inputs)}
        return saved | {f"{name}.kept{i}": kept for i, kept in enumerate(self.kept) if kept is not self.inputs[i + 1]}

    def load(self, name: str, fields: dict[str, Tensor]) -> None:
        """Take over what `save` returned, for the next `backward`."""
        self.inputs = [fields[f"{name}.x{i}"] for i in range(len(self.weights))]
        self.kept = [fields.get(f"{name}.kept{i}", x) for i, x in enumerate(self.inputs[1:])]

    def backward(self, grad: Tensor) -> Tensor:
        """Write the gradients of all weights and biases, given that of the last output, (B, O); return G_0."""
        for i in reversed(range(len(self.weights))):
            self._differentiate(i, grad, self.inputs[i])
            if i:
                grad = self._below(i, grad)
        return grad

    def input_grad(self, grad: Tensor, start: int) -> Tensor:
        """The gradient of the inputs from column `start` on, (B, I - start); those of the weights are left alone."""
        return self.to_inputs(self._descend(grad, 0), start)

    def to_inputs(self, grad: Tensor, start: int = 0) -> Tensor:
        """G_0 -> the gradient of the inputs from column `start` on, (B, I - start)."""
        return self._times(self._exact(grad), self.weights[0][..., start:], f"{self.name}.dx")

    def late_grad(self, grad: Tensor) -> Tensor:
        """The gradient of the late inputs, (B, L); those of the weights are left alone."""
        return self._times(self._exact(self._descend(grad, 1)), self.weights[1][..., -self.late:], f"{self.name}.dlate")

    def _exact(self, grad: Tensor) -> Tensor:
        """G of a layer in the pad's type."""
        return self.pad.cast(grad, self.pad.dtype, "g")

    def _descend(self, grad: Tensor, layer: int) -> Tensor:
        """G of a layer, given G_n."""
        for i in range(len(self.weights) - 1, layer, -1):
            grad = self._below(i, grad)
        return grad

    def _below(self, i: int, grad: Tensor) -> Tensor:
        """G_i -> G_{i-1}, without the late inputs' columns."""
        weight = self.pad.products.weight(self.weights[i], grad.dtype)
        if i == 1 and self.late:
            weight = weight[..., :-self.late]
        grad = self.pad.cast(self._times(grad, weight, f"g{i}"), self.inputs[i - 1].dtype, f"g{i}")
        return self.activation.slope(grad, self.kept[i - 1])

    def _dtype(self, i: int, x: Tensor) -> torch.dtype:
        """The type of a hidden layer's products; x: what it is given, without late inputs or with them."""
        columns, inner = sizes(self.weights[i])[-2:]
        return torch.bfloat16 if self.pad.products.rounds(sizes(x)[-2], inner, columns) else self.pad.dtype

    # What several networks at once (`StackedMLP`) compute in another way --------------------------------------

    def _hidden(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """x_{i+1}, without late inputs, and what f' is computed of."""
        weight, bias = (self.pad.products.weight(tensor, x.dtype) for tensor in (self.weights[i], self.biases[i]))
        shape = len(x), len(weight)
        if self.pad.products.fused(x, len(weight)):
            z = onednn(x, weight, bias, relu=self.fused)
            if self.fused:
                return z, z
        else:
            z = torch.addmm(bias, x, weight.t(), out=self.pad(f"{self.name}.z{i}", *shape, dtype=x.dtype))
        if self.activation.keeps_z:
            return self.activation.apply(z, self.pad(f"{self.name}.h{i}", *shape, dtype=x.dtype)), z
        self.activation.apply(z, z)
        return z, z

    def _join(self, x: Tensor, late: Tensor) -> Tensor:
        out = self.pad(f"{self.name}.late", len(x), sizes(x)[1] + self.late, dtype=x.dtype)
        return torch.cat([x, late.to(x.dtype)], dim=-1, out=out)

    def _output(self, x: Tensor) -> Tensor:
        """z_n: few columns, so never by oneDNN nor in bfloat16."""
        weight, bias = self.weights[-1], self.biases[-1]
        return torch.addmm(bias, x, weight.t(), out=self.pad(f"{self.name}.out", len(x), len(weight)))

    def _differentiate(self, i: int, grad: Tensor, x: Tensor) -> None:
        """G_i, x_i -> the gradients of W_i and b_i, in their buffers."""
        weight = self.weight_grads[i]
        if 2 * sizes(x)[1] < sizes(grad)[1]:      # few columns: the transposed product is up to three times faster
            weight.copy_(self._times(x.t(), grad, "wt").t())
        elif self.pad.products.by_onednn(*sizes(weight), len(x)):
            weight.copy_(onednn(grad.t(), x.t()))
        elif grad.dtype == weight.dtype:
            torch.mm(grad.t(), x, out=weight)
        else:
            weight.copy_(self._times(grad.t(), x, "w"))
        torch.sum(grad, 0, dtype=weight.dtype, out=self.bias_grads[i])

    def _times(self, x: Tensor, y: Tensor, name: str) -> Tensor:
        """(M, K), (K, N) -> (M, N), a buffer of that name or new memory."""
        if self.pad.products.by_onednn(*sizes(x), sizes(y)[1]):
            return onednn(x, y.t())
        return torch.mm(x, y, out=self.pad(name, len(x), sizes(y)[1], dtype=x.dtype))


class Trunk(MLP):
    """Layers that other networks are behind: every layer is a hidden one, and x_n the output."""

    def __call__(self, x: Tensor, late: Tensor | None = None) -> Tensor:
        """(B, I) -> (B, O)."""
        self.inputs, self.kept = [], []
        for i in range(len(self.weights)):
            x = self.pad.cast(x, self._dtype(i, x), f"{self.name}.x{i}")
            self.inputs.append(x)
            x, kept = self._hidden(i, x)
            self.kept.append(kept)
        return self.pad.cast(x, self.pad.dtype, f"{self.name}.xn")

    def backward(self, grad: Tensor) -> Tensor:
        """Write the gradients of all weights and biases, given that of the output, (B, O), which is written over."""
        return super().backward(self._before_last(grad))

    def input_grad(self, grad: Tensor, start: int) -> Tensor:
        """See `MLP.input_grad`; the gradient of the output is written over."""
        return super().input_grad(self._before_last(grad), start)

    def _before_last(self, grad: Tensor) -> Tensor:
        """The gradient of the output -> G_n."""
        kept = self.kept[-1]
        return self.activation.slope(self.pad.cast(grad, kept.dtype, "gn"), kept)
