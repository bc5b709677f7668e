"""The generators that a whole process shares, `random`, `numpy.random` and PyTorch's, as a stream of a run.

Nothing of this project draws from them. Environments that are older than Gymnasium's `np_random` do.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from utils.seeding import stream_seed

State = dict[str, Any]                  # JSON values


class _Process:
    """Whether the generators belong to one run (several seeds in threads share them), and their state after seeding."""

    shared = False
    seeded: State | None = None


def seed_global(seed: int) -> None:
    """Seed the generators by the stream "global" of a seed; do nothing while several runs share them."""
    if _Process.shared:
        return
    seed = stream_seed(seed, "global")
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:                          # worker processes do not import it
        sys.modules["torch"].default_generator.manual_seed(seed)        # the CPU's alone
    _Process.seeded = state()


def state() -> State:
    """Return the state of the generators."""
    _, keys, *rest = np.random.get_state()
    version, words, gauss = random.getstate()
    found = {"numpy": [keys.tobytes().hex(), *rest], "random": [version, np.uint32(words).tobytes().hex(), gauss]}
    if "torch" in sys.modules:
        found["torch"] = sys.modules["torch"].get_rng_state().numpy().tobytes().hex()
    return found


def set_state(given: State) -> None:
    """Restore what `state` returned; do nothing while several runs share the generators.

    Raises:
        ValueError, TypeError, KeyError: it is something else.
    """
    if _Process.shared:
        return
    keys, *rest = given["numpy"]
    np.random.set_state(("MT19937", np.frombuffer(bytes.fromhex(keys), np.uint32), *rest))
    version, words, gauss = given["random"]
    random.setstate((version, tuple(np.frombuffer(bytes.fromhex(words), np.uint32).tolist()), gauss))
    if "torch" in given and (torch := sys.modules.get("torch")):
        torch.set_rng_state(torch.from_numpy(np.frombuffer(bytes.fromhex(given["torch"]), np.uint8).copy()))


def drawn() -> State | None:
    """Return the state if something has drawn from the generators since they were seeded; None if nothing has."""
    now = None if _Process.shared or _Process.seeded is None else state()
    return None if now == _Process.seeded else now


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators, and restore them after the block."""
    before, outer = state(), _Process.seeded
    seed_global(seed)
    try:
        yield
    finally:
        set_state(before)
        if not _Process.shared:
            _Process.seeded = outer


@contextlib.contextmanager
def shared() -> Iterator[list[bool]]:
    """Leave the generators to several runs in threads. After the block the list says whether any of them drew."""
    before, told = state(), []
    _Process.shared = True
    try:
        yield told
    finally:
        _Process.shared = False
        told.append(state() != before)


class Own:
    """A stream of its own from the generators, for an environment beside the one that trains."""

    def __init__(self, seed: int):
        with seeded(seed):
            self.start = self.state = state()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Draw from this stream inside the block."""
        outer, outer_start = state(), _Process.seeded
        set_state(self.state)
        try:
            if not _Process.shared:
                _Process.seeded = self.start
            yield
        finally:
            self.state = state()
            set_state(outer)
            if not _Process.shared:
                _Process.seeded = outer_start
