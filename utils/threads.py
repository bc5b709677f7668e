"""PyTorch's threads: how many share a product, and how they wait for each other.

OpenMP's threads meet at the end of every product, and by default they spin until all have arrived. On cores that other
programs use, one of them is not running most of the time, and the others spin through their share of the processor.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from utils.cores import count_cores

# Standard OpenMP's variable, and those of GNU's, LLVM's and Intel's libraries that say more. Who sets one decides.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

LEAST = 8_000_000


def wait_asleep() -> None:
    """Let OpenMP's threads sleep where they would spin; call it before PyTorch is imported.

    A variable of the environment that says how they wait is left alone. Once PyTorch is imported it is too late.
    """
    if not any(name in os.environ for name in WAITING) and "torch" not in sys.modules:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def spin() -> bool:
    """Whether OpenMP's threads spin while they wait."""
    if "OMP_WAIT_POLICY" in os.environ:
        return os.environ["OMP_WAIT_POLICY"].strip().upper() != "PASSIVE"
    return not any(name in os.environ for name in WAITING)


def limit_threads() -> None:
    """Start no more threads than the quota of a container allows, unless OMP_NUM_THREADS says how many."""
    import torch
    cores = count_cores()
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores:
        torch.set_num_threads(cores)


def worth(rows: int, widest: int, available: int) -> int:
    """How many of the available threads are worth starting for products of `rows` by a matrix of `widest` weights.

    A thread that does less than `LEAST` floating-point operations of a product waits longer for the others than it
    computes; a core does some 10^11 a second.
    """
    return max(1, min(available, 2 * rows * widest // LEAST))


def one_thread() -> contextlib.AbstractContextManager[None]:
    """Compute in one thread: for acting, whose products are too small to be shared."""
    return threads(1)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch share its products among so many threads, and afterwards among as many as before."""
    import torch
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
