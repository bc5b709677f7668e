"""Kernels of the gradients by hand: which library multiplies, and how the threads share an update.

The text of a choice is PRODUCTS-HxT, such as mm-2x1: products by torch.mm, two halves of the update at once, one thread
in each. "autograd" says that autograd was faster here than all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from algorithm.basis_alg.base_torch import Agent
from algorithm.engine.by_hand.products import ONEDNN, is_large
from utils.errors import ConfigError
from utils.settings.kernels import parts_of
from utils.threads import worth

LEAST = 4_000_000       # floating-point operations of a product for which policy and value of PPO have a thread each


class Kernels(NamedTuple):
    """How an update by hand is computed on a CPU.

    Attributes:
        products: "mm", PyTorch's own, or "onednn" for the large ones.
        halves: of the update that are computed at once, 1 or 2.
        threads: of the products of each half.
    """

    products: str
    halves: int
    threads: int

    def __str__(self) -> str:
        return f"{self.products}-{self.halves}x{self.threads}"


def parse(text: str) -> Kernels:
    """Read the text of a choice.

    Raises:
        ConfigError: this PyTorch has no oneDNN.
    """
    products, halves, threads = parts_of(text)
    if products == "onednn" and not ONEDNN:
        raise ConfigError(f"kernels: got {text!r}, but this build of PyTorch has no oneDNN; expected auto, or "
                          f"mm-{halves}x{threads}")
    return Kernels(products, int(halves), int(threads))


def usual(agent: Agent) -> Kernels:
    """Return the kernels that are used where nothing is timed: by processor, threads and sizes alone."""
    wide, count = ONEDNN and torch.backends.cpu.get_cpu_capability() == "AVX512", torch.get_num_threads()
    rows, widest = agent.config.batch_size, max(inputs * outputs for _, inputs, outputs in _layers(agent))
    apart = count > 1 and (not agent.on_policy or 2 * rows * widest >= LEAST)
    threads = worth(rows, widest, count // 2) if apart else 1
    return Kernels("onednn" if wide else "mm", 2 if apart else 1, threads)


def candidates(agent: Agent) -> list[Kernels]:
    """List the kernels that may be the fastest for an agent, the usual ones first; one where the products are small.

    All threads in one half are none of them: OpenMP's threads meet at each product, which on cores that other programs
    use takes ten times as long, whatever it takes on idle ones.
    """
    first = usual(agent)
    if not large_layers(agent):
        return [first]
    shares = {(first.halves, first.threads)}
    if torch.get_num_threads() > 1 and not agent.on_policy:
        shares |= {(1, 1), (2, 1)}
    libraries = ("mm", "onednn") if ONEDNN else ("mm",)
    found = [Kernels(products, *share) for products in libraries for share in sorted(shares)]
    return [first, *(one for one in found if one != first)]


def large_layers(agent: Agent) -> list[tuple[int, int, int]]:
    """List (rows, inputs, outputs) of the dense layers whose products are large."""
    return [shape for shape in _layers(agent) if is_large(*shape)]


def _layers(agent: Agent) -> list[tuple[int, int, int]]:
    rows = agent.config.batch_size
    return sorted({(rows, module.in_features, module.out_features) for module in agent.nets.modules()
                   if isinstance(module, torch.nn.Linear)})
