"""How long a call takes, and how contestants are timed in turn on a machine that others use as well."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.child import Lost

Turns = dict[str, Callable[[], float]]
Rounds = dict[str, list[float]]


def synchronize() -> None:
    """Wait until a GPU has finished."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call; a GPU's work counts in full."""
    synchronize()
    start = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - start


def median_seconds(call: Callable[[], object], repeats: int, warmup: int = 20) -> float:
    """The median of `repeats` calls, after `warmup` others; a GPU's work counts in full."""
    for _ in range(warmup):
        call()
    return statistics.median(timed(call) for _ in range(repeats))


def fixed_turn(run: Callable[[int], object], count: int, calls: int = 1) -> Callable[[], float]:
    """A turn that does `run(count)` so many times -> seconds per unit of it."""
    return lambda: timed(lambda: [run(count) for _ in range(calls)]) / (calls * count)


def rate_turn(run: Callable[[int], object], count: int, seconds: float) -> Callable[[], float]:
    """`fixed_turn` of about so many seconds, after a warm-up here; each round is the same work."""
    run(count)
    return fixed_turn(run, count, max(1, math.ceil(seconds / timed(lambda: run(count)))))


def take_turns(turns: Turns, rounds: int) -> Rounds:
    """The results of each turn by round; every round begins with another turn, so that none is always first.

    A turn that is `Lost` has no results, also of the rounds before.
    """
    results: Rounds = {name: [] for name in turns}
    for number in range(rounds):
        first = number % len(turns)
        for name in [*turns][first:] + [*turns][:first]:
            if name in results:
                try:
                    results[name].append(turns[name]())
                except Lost:
                    del results[name]
    return results


def median_ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median of one / other, each taken within a round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))
