"""The least that one update computes, and the highest rate at which this machine multiplies matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from algorithm.engine.by_hand.products import ONEDNN, onednn
from benchmarks.timing import Rounds, timed

SIZES = {"cpu": (1024, 1536, 2048), "cuda": (2048, 4096, 8192)}         # of square matrices


@dataclass(frozen=True)
class Net:
    """Three dense layers, I-h1-h2-O; `late` inputs join the second, as the action does in DDPG's critic.

    Its methods count multiply-adds for one row. Biases, activations and losses are left out: under 2 %.
    """

    inputs: int
    hidden: tuple[int, int]
    outputs: int
    late: int = 0

    @classmethod
    def of(cls, module: nn.Module) -> Net:
        """The shape of a module's three linear layers."""
        first, second, third = (layer for layer in module.modules() if isinstance(layer, nn.Linear))
        return cls(first.in_features, (first.out_features, second.out_features), third.out_features,
                   late=second.in_features - first.out_features)

    @property
    def forward(self) -> int:
        h1, h2 = self.hidden
        return self.inputs * h1 + (h1 + self.late) * h2 + h2 * self.outputs

    @property
    def backward(self) -> int:
        """Operations of the gradients of all weights, and of the inputs of all layers but the first."""
        h1, h2 = self.hidden
        return self.forward + h1 * h2 + h2 * self.outputs

    def input_gradient(self, columns: int) -> int:
        """The operations of the gradient of `columns` inputs, or of the late ones, and of no weight."""
        h1, h2 = self.hidden
        return h2 * self.outputs + (h2 * self.late if self.late else h1 * h2 + h1 * columns)


def update_flops(agent) -> int:
    """Floating-point operations that one update needs, two for each multiply-add; the mean over TD3's two kinds.

    On each of B rows: the next action, its values by the target critics; each critic forward and backward; every
    `pi_delay_freq`-th time the policy forward and backward, and the critics that it climbs (both in SAC, the first in
    TD3) forward and back to the action. RRD: the learned reward of the B rows, and the reward network forward and
    backward on the N K rows of the sub-sequences.

    This takes every use of a network by itself. That the critics' first layer multiplies the same observations twice
    in an update, with the data's action and with the policy's, is not taken advantage of.
    """
    basis, config = getattr(agent, "basis", agent), agent.config
    policy = Net.of(basis.policy)
    critics = [Net.of(critic) for critic in (basis.critics.values() if hasattr(basis, "critics") else [basis.critic])]
    climbed = critics if config.alpha_lr is not None else critics[:1]                               # of SAC, all
    row = policy.forward + sum(2 * critic.forward + critic.backward for critic in critics)
    row += (policy.forward + policy.backward
            + sum(critic.forward + critic.input_gradient(agent.act_dim) for critic in climbed)) / agent.pi_delay_freq
    count = config.batch_size * row
    if basis is not agent:
        reward, sequences = Net.of(agent.decomposition.reward), config.rrd_batch_size // config.rrd_sample_size
        count += config.batch_size * reward.forward
        count += sequences * config.rrd_sample_size * (reward.forward + reward.backward)
    return round(2 * count)


class Ceiling:
    """The machine's rate of float32 products by one library: the best of a few square ones, with all threads."""

    def __init__(self, product: Callable[[Tensor, Tensor, Tensor], object], device: torch.device,
                 sizes: tuple[int, ...] | None = None):
        """product: (x, y, memory for the result) -> the product of x and y, or of x and y^T."""
        self.product = product
        self.operands = [(*torch.randn(2, size, size, device=device), torch.empty(size, size, device=device))
                         for size in sizes or SIZES[device.type]]
        self()                                          # the first products also set the library up

    def __call__(self) -> float:
        """Measure the rate in GFLOP/s."""
        return max(2e-9 * len(one[0]) ** 3 / timed(lambda one=one: self.product(*one))
                   for one in self.operands for _ in range(2))


def _mm(x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    return torch.mm(x, y, out=out)


def _onednn(x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    return onednn(x, y)                                 # which has no `out`


def ceilings(device: torch.device, sizes: tuple[int, ...] | None = None) -> dict[str, Ceiling]:
    """The turns of the libraries that multiply on this device: `ceiling mm`, and on CPUs `ceiling onednn`."""
    products = {"mm": _mm} | ({"onednn": _onednn} if device.type == "cpu" and ONEDNN else {})
    return {f"ceiling {name}": Ceiling(product, device, sizes) for name, product in products.items()}


def ceiling_of(rounds: Rounds) -> dict[str, Any]:
    """The GFLOP/s of each library by round, and those of the best one in each round."""
    products = {key.partition(" ")[2]: rates for key, rates in rounds.items() if key.startswith("ceiling ")}
    best = [max(rates) for rates in zip(*products.values(), strict=True)]
    return {"products_gflops": products, "ceiling_gflops": best}
