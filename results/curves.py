"""Evaluation returns of runs, grouped by environment and algorithm and interpolated on one grid of steps."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from record.directories import MAY_CHANGE
from results import statistics
from utils.text import printable

FEW = 3                             # with fewer runs no interval is computed, and each run is drawn
MOST_POINTS = 500                   # of a curve that is drawn
# Settings in which the runs of one curve may differ: the seed, and those that do not affect learning.
OF_A_RUN = {"tag", "seed", "seeds", "env", "device", "buffer_device", "engine", "cycles", "iterations", "test_rollouts",
            "diagnose_every", *MAY_CHANGE}
MOST_STEPS = 2**62
FEWER = "fewer"                     # the kind of the line that resumes an average where fewer than FEW runs continue


class Curve(NamedTuple):
    """The evaluation returns of one run."""

    algorithm: str
    env: str
    run: str                        # 'seed 1', or the path
    rows: np.ndarray                # (evaluations, 2): environment steps, increasing, and mean return
    settings: dict[str, Any]        # its config.json; empty for a file of the original program
    path: Path = Path()             # the run's directory, or the file
    named: bool = False             # whether the user chose the name, by NAME= or --by=tag


class Line(NamedTuple):
    """A line of a figure: the average of a group of runs with its band, or a single run."""

    algorithm: str
    kind: str                       # IQM, mean, FEWER, or the name of the run
    steps: np.ndarray               # (P,)
    runs: np.ndarray                # (P,), the number of runs at each step
    value: np.ndarray               # (P,)
    low: np.ndarray                 # (P,), NaN where there is no band
    high: np.ndarray                # (P,), likewise


Groups = dict[str, dict[str, list[Curve]]]          # environment -> algorithm -> its runs


# Grouping -----------------------------------------------------------------------------------------------------------

def group(curves: Iterable[Curve]) -> Groups:
    """Group by environment, then by algorithm; the order is kept."""
    groups: Groups = {}
    for curve in curves:
        groups.setdefault(curve.env, {}).setdefault(curve.algorithm, []).append(curve)
    return groups


def notes(groups: Groups) -> Iterator[str]:
    """Warnings about runs that share a curve: other settings, repeated seeds, other lengths."""
    for env, algorithms in groups.items():
        for algorithm, curves in algorithms.items():
            where = f"{algorithm} on {env}"
            if names := _differences([curve.settings for curve in curves if curve.settings]):
                yield f"{where}: the runs differ in {', '.join(names)}; --by=tag or NAME=PATH tells them apart"
            seeds = Counter(curve.run for curve in curves)
            if twice := [run for run, times in seeds.items() if times > 1]:
                yield f"{where}: several runs of {', '.join(twice)}; they are counted as independent runs"
            ends = sorted({curve.rows[-1, 0] for curve in curves})
            if len(ends) > 1:
                yield f"{where}: the runs end after {ends[0]:g} to {ends[-1]:g} steps; each run is scored at its end"


def run_length(settings: dict[str, Any]) -> int | None:
    """The number of steps that a run of these settings is to make; None if they do not say."""
    parts = [settings.get(name) for name in ("epochs", "cycles", "iterations", "timesteps")]
    length = settings.get("total_timesteps") or (math.prod(parts) if all(map(is_count, parts)) else None)
    return length if is_count(length) else None


def is_count(value: Any) -> bool:
    """Whether this is a whole number above 0 that a run may count."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < MOST_STEPS


def _differences(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The settings with several values; one that an older run lacks is no difference."""
    values: dict[str, set[str]] = {}
    for name, value in (item for one in settings for item in one.items()):
        values.setdefault(name, set()).add(json.dumps(value, sort_keys=True))
    return [printable(name) for name in values if len(values[name]) > 1 and name not in OF_A_RUN]


# Curves of groups ---------------------------------------------------------------------------------------------------

def final_score(rows: np.ndarray, last: float) -> float:
    """The mean return of the last evaluations: this share of them, but at least one."""
    return float(rows[-max(1, round(last * len(rows))):, 1].mean())


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """The running mean over `window` values, (N,) -> (N,); over fewer at the start."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return values if window == 1 else (sums[ends] - sums[starts]) / (ends - starts)


def common_grid(curves: Sequence[np.ndarray], most: int = MOST_POINTS) -> np.ndarray:
    """The steps at which any run was evaluated, (P,); if there are more than `most`, `most` equidistant steps.

    Args:
        curves: (evaluations, 2) for each run: steps, return.
    """
    steps = np.unique(np.concatenate([rows[:, 0] for rows in curves]))
    return steps if len(steps) <= most else np.linspace(steps[0], steps[-1], most)


def on_grid(rows: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The returns of a run at these steps by linear interpolation, (P,); NaN outside of its evaluations."""
    return np.interp(steps, rows[:, 0], rows[:, 1], left=np.nan, right=np.nan)


def lines(algorithm: str, curves: Sequence[Curve], window: int = 1, resamples: int = 2000) -> list[Line]:
    """The lines of the runs of one algorithm on one environment.

    Three runs or more give the IQM with a 95 % band at steps that at least three of them reach, and a line of the kind
    FEWER, the mean of the others, at the steps after these. Fewer runs give a line each, and their mean at steps that
    all of them reach. Runs that do not overlap give only a line each.
    """
    smoothed = [np.column_stack([one.rows[:, 0], smooth(one.rows[:, 1], window)]) for one in curves]
    steps = common_grid(smoothed)
    values = np.stack([on_grid(rows, steps) for rows in smoothed], axis=-1)         # (P, runs)
    average = _average(algorithm, steps, values, resamples)
    averages = [average] if len(average.steps) and len(curves) > 1 else []
    if averages and len(curves) >= FEW:
        return [*averages, *_rest(algorithm, steps, values, average)]
    single = [Line(algorithm, one.run, rows[:, 0], np.ones(len(rows), int), rows[:, 1], *_no_band(len(rows)))
              for one, rows in zip(curves, smoothed, strict=True)]
    is_dot = len(average.steps) == 1 < len(steps)       # of runs that overlap at one step
    return single if is_dot else [*single, *averages]


def _rest(algorithm: str, steps: np.ndarray, values: np.ndarray, average: Line) -> list[Line]:
    """The mean of the runs that continue after the end of an average, if any does."""
    after = steps > average.steps[-1]
    if not after.any():
        return []
    return [Line(algorithm, FEWER, steps[after], np.isfinite(values[after]).sum(axis=1),
                 np.nanmean(values[after], axis=1), *_no_band(after.sum()))]


def _average(algorithm: str, steps: np.ndarray, values: np.ndarray, resamples: int) -> Line:
    there = np.isfinite(values)
    enough = there.sum(axis=1) >= min(FEW, values.shape[1])
    steps, values, there = steps[enough], values[enough], there[enough]
    value = np.empty(len(steps))
    low, high = _no_band(len(steps))
    for mask in np.unique(there, axis=0):               # points with the same runs
        points = (there == mask).all(axis=1)
        scores = [values[points][:, mask]]
        value[points] = statistics.interquartile_mean(scores) if mask.sum() >= FEW else statistics.mean(scores)
        if mask.sum() >= FEW:
            low[points], high[points] = statistics.bootstrap(statistics.interquartile_mean, scores,
                                                             resamples=resamples)
    kind = "IQM" if values.shape[1] >= FEW else "mean"
    return Line(algorithm, kind, steps, there.sum(axis=1), value, low, high)


def _no_band(points: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(points, np.nan), np.full(points, np.nan)
