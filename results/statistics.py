"""Statistics of few runs (Agarwal et al., 2021, arXiv 2108.13264), with the same numbers as the package rliable.

With x[m, n] the score of run n = 1..N on task m = 1..M:

    mean              (1/M) sum_m (1/N) sum_n x[m, n]
    median            median_m of (1/N) sum_n x[m, n]
    IQM               the mean of the sorted M N scores without the floor(M N / 4) lowest and as many highest ones
    optimality gap    gamma - (1/M) sum_m (1/N) sum_n min(x[m, n], gamma)
    profile           F(tau) = (1/M) sum_m (1/N) sum_n [x[m, n] > tau]
    P(X > Y)          (1/M) sum_m U_m / (N K),  U_m = sum_{n, k} ([x[m, n] > y[m, k]] + [x[m, n] = y[m, k]] / 2)

U is the Mann-Whitney statistic, with K runs of Y. `scores` is a sequence of one array for each task, (..., runs of that
task). Leading axes, such as points in time or resamples, are kept. Tasks may have different numbers of runs; then every
task has the same weight, except in the IQM, where every score has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

Scores = Sequence[np.ndarray]
BLOCK = 100                     # resamples computed at once, which limits the memory


def mean(scores: Scores) -> np.ndarray:
    """The mean of the tasks' means, (...)."""
    return _task_means(scores).mean(axis=-1)


def median(scores: Scores) -> np.ndarray:
    """The median of the tasks' means, (...)."""
    return np.median(_task_means(scores), axis=-1)


def interquartile_mean(scores: Scores) -> np.ndarray:
    """The mean of the middle half of all scores of all tasks, (...).

    A quarter of the scores, rounded down, is dropped at each end: none of 3, one of 4 to 7.
    """
    ordered = np.sort(np.concatenate(scores, axis=-1), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut:ordered.shape[-1] - cut].mean(axis=-1)


def optimality_gap(scores: Scores, gamma: float = 1.0) -> np.ndarray:
    """The mean distance of the scores below gamma to gamma, (...); 0 is best."""
    return gamma - _task_means([np.minimum(task, gamma) for task in scores]).mean(axis=-1)


def performance_profile(scores: Scores, taus: np.ndarray) -> np.ndarray:
    """The share of runs and tasks with a score above each of `taus` (T,), (..., T)."""
    return np.stack([_task_means([task > tau for task in scores]).mean(axis=-1) for tau in taus], axis=-1)


def probability_of_improvement(x: Scores, y: Scores) -> np.ndarray:
    """The probability that a run of X beats a run of Y on a random task, (...); a tie counts half.

    Raises:
        ValueError: X and Y have different numbers of tasks.
    """
    return np.mean([_wins(*task) for task in zip(x, y, strict=True)], axis=0)


def bootstrap(statistic: Callable[..., np.ndarray], *samples: Scores, resamples: int = 2000, level: float = 0.95,
              seed: int = 0) -> np.ndarray:
    """A stratified bootstrap interval, by the percentile method.

    Each resample draws the runs of each task with replacement from that task's runs. A run keeps all points of its
    leading axes.

    Args:
        statistic: a function of `samples`, each one a Scores, that returns an array (...).
        level: the share of resamples inside the interval.
        seed: of the draws.
    Returns:
        The lower and the upper end, (2, ...).
    Raises:
        ValueError: a task without runs, a level outside (0, 1), or no resamples.
    """
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"got {resamples} resamples and level {level}, expected at least 1, and between 0 and 1")
    if any(np.shape(task)[-1] == 0 for scores in samples for task in scores):
        raise ValueError("a task without runs")
    generator = np.random.default_rng(seed)
    found = [statistic(*([_resample(np.asarray(task), block, generator) for task in scores] for scores in samples))
             for block in _blocks(resamples)]
    tail = 50 * (1 - level)
    return np.percentile(np.concatenate(found), [tail, 100 - tail], axis=0)


def summary(values: np.ndarray, seed: int) -> dict[str, dict[str, float | list[float] | None]]:
    """`value` and 95 % `interval` of the `mean`, `median` and `iqm` of numbers (N,), N at least 1.

    The bootstrap draws 10 000 resamples by `seed`, the same for each statistic. The interval of one number is None.
    """
    numbers = [np.asarray(values, np.float64)]
    statistics = {"mean": mean, "median": lambda scores: np.median(scores[0], axis=-1), "iqm": interquartile_mean}
    return {name: {"value": float(statistic(numbers)), "interval": None if len(values) < 2 else
                   bootstrap(statistic, numbers, resamples=10_000, seed=seed).tolist()}
            for name, statistic in statistics.items()}


def _task_means(scores: Scores) -> np.ndarray:
    """(..., tasks)"""
    return np.stack([np.mean(task, axis=-1) for task in scores], axis=-1)


def _wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """U / (N K) of one task."""
    x, y = np.asarray(x)[..., :, None], np.asarray(y)[..., None, :]
    return ((x > y) + 0.5 * (x == y)).mean(axis=(-1, -2))


def _resample(task: np.ndarray, block: int, generator: np.random.Generator) -> np.ndarray:
    """(..., runs) -> (block, ..., runs)"""
    runs = task.shape[-1]
    return np.moveaxis(task[..., generator.integers(runs, size=(block, runs))], -2, 0)


def _blocks(total: int) -> Iterator[int]:
    while total > 0:
        yield min(BLOCK, total)
        total -= BLOCK
