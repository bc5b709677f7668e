"""Kernels of the gradients by hand: which library multiplies, and how the threads share an update.

The text of a choice is PRODUCTS-HxT, such as mm-2x1: products by torch.mm, two halves of the update at once, one thread
in each. "autograd" says that autograd was faster here than all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from algorithm.basis_alg.base_torch import Agent
from algorithm.engine.by_hand.products import BF16, BY_ONEDNN, MM, ONEDNN, is_large
from utils.errors import ConfigError
from utils.settings.kernels import parts_of
from utils.threads import worth

LEAST = 4_000_000       # floating-point operations of a product for which policy and value of PPO have a thread each


class Kernels(NamedTuple):
    """How an update by hand is computed on a CPU.

    Attributes:
        products: "mm", PyTorch's own, "onednn" or "bf16" for the large ones.
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
    if products == BY_ONEDNN and not ONEDNN:
        raise ConfigError(f"kernels: got {text!r}, but this build of PyTorch has no oneDNN; expected auto, or "
                          f"mm-{halves}x{threads}")
    return Kernels(products, int(halves), int(threads))


def usual(agent: Agent) -> Kernels:
    """Return the kernels that are used where nothing is timed: by processor, threads and sizes alone."""
    count = torch.get_num_threads()
    rows, widest = _rows(agent), max(inputs * outputs for _, inputs, outputs in _layers(agent))
    apart = count > 1 and not agent.config.shared_sizes and (not agent.on_policy or 2 * rows * widest >= LEAST)
    threads = worth(rows, widest, count // 2) if apart else 1
    return Kernels(_libraries(agent)[0], 2 if apart else 1, threads)


def _libraries(agent: Agent) -> tuple[str, ...]:
    """The products that an agent may have, the usual ones first: bf16 is asked for, not the faster one of two."""
    if agent.config.precision == BF16 and agent.device.type == "cpu":
        return (BF16,)
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return (MM,) if not ONEDNN else (BY_ONEDNN, MM) if wide else (MM, BY_ONEDNN)


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
    found = [Kernels(products, *share) for products in _libraries(agent) for share in sorted(shares)]
    return [first, *(one for one in found if one != first)]


def large_layers(agent: Agent) -> list[tuple[int, int, int]]:
    """List (rows, inputs, outputs) of the dense layers whose products are large."""
    return [shape for shape in _layers(agent) if is_large(*shape)]


def is_rounded(agent: Agent) -> bool:
    """Whether products are large enough for bfloat16, in the losses of a batch or of RRD's sub-sequences."""
    rows = max(agent.config.batch_size, agent.config.rrd_batch_size or 0)
    return any(is_large(rows, *shape) for _, *shape in _layers(agent))


def _rows(agent: Agent) -> int:
    """The rows of the largest products of a batch: a network of quantiles has one for each fraction of each state."""
    return agent.config.batch_size * (agent.config.quantiles or 1)


def _layers(agent: Agent) -> list[tuple[int, int, int]]:
    rows = _rows(agent)
    return sorted({(rows, module.in_features, module.out_features) for module in agent.nets.modules()
                   if isinstance(module, torch.nn.Linear)})
