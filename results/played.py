"""Metrics of whole episodes, summarised over the episodes of an evaluation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MOST_BARS = 32                      # different values that are counted one by one


def summarise(episodes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Summarise metrics, by name, over the episodes.

    Args:
        episodes: the metrics of each episode; a number that is NaN, as the step of a win that never was, is absent.
    Returns:
        For each name `mean`, `std` (of the population), `median`, `min`, `max` and `count`, of the episodes that have
        it, with None for those of none; `episodes`, each value, None where it is absent; and `distribution`, the
        number of episodes by value, if all values are integers and few.
    """
    names = dict.fromkeys(name for one in episodes for name, value in one.items() if isinstance(value, int | float))
    return {name: _summary([one.get(name, math.nan) for one in episodes]) for name in names}


def _summary(values: Sequence[float]) -> dict[str, Any]:
    numbers = np.array([value for value in values if math.isfinite(value)], np.float64)
    few: dict[str, Any] = dict.fromkeys(("mean", "std", "median", "min", "max"))
    if len(numbers):
        few = {name: float(getattr(np, name)(numbers)) for name in few}
    found = few | {"count": len(numbers), "episodes": [float(x) if math.isfinite(x) else None for x in values]}
    bars = Counter(map(int, numbers)) if len(numbers) and (numbers == np.floor(numbers)).all() else {}
    return found | ({"distribution": {str(x): bars[x] for x in sorted(bars)}} if 0 < len(bars) <= MOST_BARS else {})
