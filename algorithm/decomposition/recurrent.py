"""Recurrent networks over whole episodes, whose first weights a generator draws."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

WEIGHTS, GATE_BIAS = 0.1, -3.0          # std of the first weights, and mean of the input gate's bias; RUDDER's


class RudderCell(nn.Module):
    """RUDDER's simplified LSTM: no forget and output gates, inputs fed forward only, the gate recurrent only.

    c_t = c_(t-1) + tanh(x_t W_ci + b_ci) sigmoid(c_(t-1) W_ig + b_ig), c_(-1) = 0.
    """

    def __init__(self, inputs: int, size: int, generator: torch.Generator):
        """inputs: I; size: H."""
        super().__init__()
        self.feed, self.gate = (nn.utils.skip_init(nn.Linear, fan_in, size) for fan_in in (inputs, size))
        for layer, bias in ((self.feed, 0.0), (self.gate, GATE_BIAS)):
            nn.init.normal_(layer.weight, 0.0, WEIGHTS, generator=generator)
            nn.init.normal_(layer.bias, bias, 1.0 if bias else 0.0, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, I) -> c after each step, (N, L, H)."""
        fed, state, states = self.feed(x).tanh(), x.new_zeros(len(x), self.gate.out_features), []
        for step in fed.unbind(1):
            state = state + step * self.gate(state).sigmoid()
            states.append(state)
        return torch.stack(states, dim=1)


class LibraryCell(nn.Module):
    """PyTorch's LSTM or GRU over (N, L, I)."""

    def __init__(self, kind: type[nn.RNNBase], inputs: int, size: int, generator: torch.Generator):
        super().__init__()
        self.rnn = kind(inputs, size, batch_first=True, device="meta").to_empty(device="cpu")     # draws nothing
        for weights in self.rnn.parameters():
            nn.init.uniform_(weights, -size ** -0.5, size ** -0.5, generator=generator)         # PyTorch's

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, I) -> the output of each step, (N, L, H)."""
        return self.rnn(x)[0]


def library_cell(name: str) -> Callable[[int, int, torch.Generator], LibraryCell]:
    """Return what makes the cell lstm or gru: (inputs, size, generator) -> module."""
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[name]
    return lambda inputs, size, generator: LibraryCell(kind, inputs, size, generator)
