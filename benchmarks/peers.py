"""The libraries that are compared with ours, each in a process of its own that only works in its turns.

Their threads would meet ours in one process: those of OpenMP and of XLA spin for a while after their work, and XLA
takes its threads at the start.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.child import Child, Lost
from utils.installed import pip_install

if TYPE_CHECKING:
    import torch

SCRIPT = Path(__file__).resolve().parent / "stable_baselines.py"
PAUSE = 0.05                    # seconds before and after a turn, in which the threads of the last one fall asleep
ALGORITHMS = ("sac", "td3", "ddpg")


@dataclass(frozen=True)
class Peer:
    """A library with the interface of Stable-Baselines3."""

    name: str                   # in tables
    package: str
    module: str
    turns: tuple[str, ...]      # of an algorithm


PEERS = {"sb3": Peer("SB3", "stable-baselines3", "stable_baselines3", ("update", "sample", "step")),
         "sbx": Peer("SBX", "sbx-rl", "sbx", ("update", "step"))}               # its replay is SB3's


def find_peers(device: torch.device, threads: int, tell: Callable[[str], None]) -> dict[str, Child]:
    """The peers that are installed, not started yet; `tell` gets a note about each one that is not."""
    found = {}
    for who, peer in PEERS.items():
        if importlib.util.find_spec(peer.module):
            command = [sys.executable, str(SCRIPT), peer.module, str(device)]
            found[who] = Child(peer.package, command, tell, env=limits(device, threads))
        else:
            tell(f"{peer.package}: is not installed, so nothing is compared with it; {pip_install('bench')} "
                 "installs it")
    return found


def limits(device: torch.device, threads: int) -> dict[str, str]:
    """The variables that give a process as many threads as ours, and the same device.

    OMP_NUM_THREADS is read by PyTorch, and NPROC by XLA.
    """
    return {"OMP_NUM_THREADS": str(threads), "NPROC": str(threads), "JAX_PLATFORMS": device.type,
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


@contextlib.contextmanager
def closing(peers: dict[str, Child]) -> Iterator[None]:
    """End the processes at the end."""
    try:
        yield
    finally:
        for child in peers.values():
            child.close()


def turns_of(peers: dict[str, Child], what: str, **sizes: Any) -> dict[str, dict[str, Callable[[], float]]]:
    """Let the peers get ready for an `algorithm` or a `run`; return, for each that can, its turns by name."""
    found = {}
    for who, child in peers.items():
        with contextlib.suppress(Lost):
            names = child.ask(what, **sizes)
            found[who] = {name: functools.partial(turn, child, name) for name in names}
    return found


def turn(child: Child, name: str) -> float:
    """Take one turn, while no thread of another contestant spins; return its seconds per unit."""
    time.sleep(PAUSE)
    seconds = child.ask("turn", name=name)
    time.sleep(PAUSE)
    return seconds


def replay_bytes(peers: dict[str, Child], who: str, steps: int) -> int | None:
    """The bytes of a peer's replay, or None without that peer."""
    with contextlib.suppress(Lost, KeyError):
        return peers[who].ask("replay_bytes", steps=steps)
    return None
