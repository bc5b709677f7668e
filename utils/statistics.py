"""What a few returns tell: mean, median and inter-quartile mean, each with how sure it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RESAMPLES = 10_000
BLOCK = 1_000_000           # numbers drawn at once


def iqm(values: np.ndarray) -> np.ndarray:
    """The inter-quartile mean along the last axis: the mean without the floor(N / 4) least and as many greatest.

    (..., N) -> (...)
    """
    cut = values.shape[-1] // 4
    return np.sort(values, axis=-1)[..., cut:values.shape[-1] - cut].mean(-1)


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(-1)


def _median(values: np.ndarray) -> np.ndarray:
    return np.median(values, axis=-1)


STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"mean": _mean, "median": _median, "iqm": iqm}


def summary(values: np.ndarray, seed: int) -> dict[str, dict[str, float | list[float] | None]]:
    """`value` and `interval` of each statistic of (N,) numbers, N at least 1.

    `interval` holds the 2.5th and the 97.5th percentile of the statistic over 10 000 resamples of N with replacement;
    the same resamples for each statistic, by `seed`. One number has no interval: None.
    """
    values = np.asarray(values, np.float64)
    resampled = {name: [] for name in STATISTICS}
    random, rows = np.random.default_rng(seed), max(BLOCK // len(values), 1)
    for start in range(0, RESAMPLES if len(values) > 1 else 0, rows):
        drawn = values[random.integers(len(values), size=(min(rows, RESAMPLES - start), len(values)))]
        for name, statistic in STATISTICS.items():
            resampled[name].append(statistic(drawn))
    return {name: {"value": float(statistic(values)), "interval": _interval(resampled[name])}
            for name, statistic in STATISTICS.items()}


def _interval(blocks: list[np.ndarray]) -> list[float] | None:
    return np.percentile(np.concatenate(blocks), [2.5, 97.5]).tolist() if blocks else None
