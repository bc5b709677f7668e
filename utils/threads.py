"""PyTorch's threads: how many share a product, and how they wait for each other.

OpenMP's threads meet at the end of every product, and spin until all have arrived. If other programs use the cores, one
of them often does not run, and the others spin through their share of the processor.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from utils.cores import count_cores, load

LEAST = 8_000_000               # floating-point operations of a product that a thread is started for
WINDOW = 0.05                   # seconds between two looks
CONTENDED, FREE = 0.1, 0.02     # the share of a window that threads wait for a core, above and below which it is so
CALM = 2.0                      # seconds of free cores after which threads spin again
TASKS = Path("/proc/self/task")


def prepare_threads() -> None:
    """Start no more threads than the quota of a container allows, unless OMP_NUM_THREADS says how many.

    On a loaded machine they sleep early from the first update on, which else takes seconds.
    """
    cores = count_cores()
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores:
        torch.set_num_threads(cores)
    if torch.get_num_threads() > 1 and load() > cores:
        patience.begin()


def worth(rows: int, widest: int, available: int) -> int:
    """How many of the available threads are worth starting for products of `rows` by a matrix of `widest` weights.

    A thread that does less than `LEAST` operations of a product waits longer for the others than it computes; a core
    does some 10^11 a second.
    """
    return max(1, min(available, 2 * rows * widest // LEAST))


def one_thread() -> contextlib.AbstractContextManager[None]:
    """Compute in one thread: for acting, whose products are too small to be shared."""
    return threads(1)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch share its products among so many threads, and afterwards among as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Patience:
    """Lets OpenMP's threads sleep early while other programs use the cores, and spin while the cores are free.

    GNU's OpenMP spins 300 000 times before it sleeps, and 100 times if it manages more threads than there are cores
    (see GOMP_SPINCOUNT in its manual). So on contended cores a thread here keeps a team of its own, which does nothing.
    The number of threads that share a product stays, and with it every bit of the result.
    """

    def __init__(self):
        self.team: threading.Thread | None = None
        self.leave = threading.Event()
        self.looked, self.waited, self.calm = time.perf_counter(), waited(), 0.0

    def look(self) -> None:
        """Look whether threads of this process have waited for a core; call it between updates."""
        now = time.perf_counter()
        if now - self.looked < WINDOW or torch.get_num_threads() == 1:
            return
        seconds, before = now - self.looked, self.waited
        self.looked, self.waited = now, waited()
        share = (self.waited - before) / seconds
        self.calm = self.calm + seconds if share < FREE else 0.0
        if share > CONTENDED:
            self.begin()
        elif self.calm > CALM:
            self.end()

    def begin(self) -> None:
        """Let threads sleep early."""
        if self.team is None:
            count, ready = torch.get_num_threads(), threading.Event()
            self.leave.clear()
            self.team = threading.Thread(target=self._keep_team, args=(ready,), name="patience", daemon=True)
            self.team.start()
            ready.wait()
            torch.set_num_threads(count)                # MKL has one number for all threads in some versions

    def end(self) -> None:
        """Let threads spin again."""
        if self.team is not None:
            self.leave.set()
            self.team.join()
            self.team = None

    def _keep_team(self, ready: threading.Event) -> None:
        torch.set_num_threads(count_cores() + 1)
        torch.zeros(count_cores() + 1, 1 << 16).add_(1)             # large enough to be shared: the team is made
        ready.set()
        self.leave.wait()


def waited() -> float:
    """The seconds that all threads of this process have waited for a core; 0 where the system does not count them."""
    return sum(map(_waited, TASKS.glob("*/schedstat"))) / 1e9


def _waited(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):           # a thread has ended
        return 0


patience = Patience()           # OpenMP's library is one for the process
