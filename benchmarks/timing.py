"""How long a call takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def median_seconds(call: Callable[[], object], repeats: int, warmup: int = 20) -> float:
    """The median of `repeats` calls, after `warmup` others; a GPU's work counts in full."""
    def timed() -> float:
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start
    for _ in range(warmup):
        call()
    return statistics.median(timed() for _ in range(repeats))
