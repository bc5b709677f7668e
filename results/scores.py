"""Final scores of runs, normalised scores, and statistics over all environments."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from envs.names import without_module
from results import statistics
from results.curves import FEW, Groups, final_score
from results.reading import environment_name
from utils.errors import ConfigError
from utils.files import read_file
from utils.settings.json_files import MOST_BYTES

AGGREGATES: dict[str, Callable] = {"IQM": statistics.interquartile_mean, "median": statistics.median,
                                   "mean": statistics.mean, "optimality gap": statistics.optimality_gap}
MOST_TAUS = 400
Anchors = dict[str, tuple[float, float]]            # environment -> the returns that are scores 0 and 1


class Score(NamedTuple):
    """The final score of an algorithm on an environment; the interval is NaN with fewer than three runs."""

    env: str
    algorithm: str
    runs: int
    statistic: str                  # IQM, or mean of fewer than three runs
    value: float
    low: float
    high: float
    normalized: float               # value between the anchors, NaN without any


class Estimate(NamedTuple):
    """A statistic over all environments."""

    algorithm: str
    statistic: str
    value: float
    low: float
    high: float


class Profile(NamedTuple):
    """The share of runs and tasks with a score above each tau; all arrays are (T,)."""

    algorithm: str
    taus: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Improvement(NamedTuple):
    """The probability that a run of `x` has a higher score than one of `y`."""

    x: str
    y: str
    probability: float
    low: float
    high: float


def final_scores(groups: Groups, last: float) -> dict[str, dict[str, np.ndarray]]:
    """Environment -> algorithm -> the final score of each run, (runs,)."""
    return {env: {algorithm: np.array([final_score(curve.rows, last) for curve in curves])
                  for algorithm, curves in algorithms.items()} for env, algorithms in groups.items()}


def score_table(scores: dict[str, dict[str, np.ndarray]], anchors: Anchors, resamples: int) -> list[Score]:
    """A row for each algorithm on each environment, the highest score of an environment first."""
    rows = []
    for env, algorithms in scores.items():
        low, high = anchors.get(env, (math.nan, math.nan))
        for algorithm, values in algorithms.items():
            name = "IQM" if len(values) >= FEW else "mean"
            value, *ends = _estimate(AGGREGATES[name], [[values]], resamples)
            rows.append(Score(env, algorithm, len(values), name, value, *ends, (value - low) / (high - low)))
    order = {env: i for i, env in enumerate(scores)}
    return sorted(rows, key=lambda row: (order[row.env], -row.value))


def best(table: Sequence[Score]) -> set[tuple[str, str]]:
    """(environment, algorithm) of the highest score on each environment that has several algorithms."""
    rows: dict[str, list[Score]] = {}
    for row in table:
        rows.setdefault(row.env, []).append(row)
    return {(env, max(some, key=lambda row: row.value).algorithm) for env, some in rows.items() if len(some) > 1}


# Normalised scores --------------------------------------------------------------------------------------------------

def anchors_of_runs(groups: Groups, last: float, complain: Callable[[str], None]) -> Anchors:
    """The mean final scores of SAC with episodic rewards (score 0) and with dense rewards (score 1).

    An environment has anchors only if both are among the runs, and the second is higher.

    Args:
        complain: called with a line for each environment where it is not.
    """
    anchors = {}
    for env, algorithms in groups.items():
        curves = [curve for group in algorithms.values() for curve in group if curve.settings.get("alg") == "sac"]
        kinds = [[curve for curve in curves if curve.settings.get("env_type") == kind
                  and not curve.settings.get("reward_every")] for kind in ("ep_rews", "normal")]
        if not all(kinds):
            continue
        if mixed := [names for kind in kinds if len(names := dict.fromkeys(one.algorithm for one in kind)) > 1]:
            complain(f"{env}: not normalised: an anchor would be the mean of {', '.join(mixed[0])}; give --normalize")
            continue
        ends = [[final_score(curve.rows, last) for curve in kind] for kind in kinds]
        low, high = map(float, map(np.mean, ends))
        if low < high:
            anchors[env] = (low, high)
        else:
            complain(f"{env}: not normalised: SAC is no better with dense rewards ({high:g}) than with episodic "
                     f"ones ({low:g})")
    return anchors


def read_anchors(path: str) -> Anchors:
    """Read anchors from a JSON file: {"HalfCheetah-v4": [return of score 0, return of score 1], ...}.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    found, anchors = _read_object(path), {}
    for env, pair in found.items():
        if not _is_pair(pair):
            raise ConfigError(f"--normalize: {path!r}: {env}: got {pair!r}, expected two numbers, "
                              "the smaller one first")
        task = environment_name(without_module(env))
        if task in anchors:
            raise ConfigError(f"--normalize: {path!r}: {env}: a second scale for {task}, expected one")
        anchors[task] = float(pair[0]), float(pair[1])
    return anchors


def _read_object(path: str) -> dict:
    try:
        found = json.loads(read_file(path, MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"--normalize: {path!r} cannot be read: {why}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"--normalize: {path!r} holds a {type(found).__name__}, expected an object of environments")
    return found


def _is_pair(pair) -> bool:
    numbers = isinstance(pair, list) and len(pair) == 2 and all(type(one) in (int, float) for one in pair)
    return numbers and all(map(math.isfinite, pair)) and pair[0] < pair[1]


def normalized(scores: dict[str, dict[str, np.ndarray]], anchors: Anchors,
               complain: Callable[[str], None]) -> dict[str, list[np.ndarray]]:
    """Algorithm -> its normalised scores, one array (runs,) for each environment that has anchors.

    An algorithm without runs on one of these environments is skipped: its average would be over other tasks.

    Args:
        complain: called with a line for each algorithm that is skipped.
    """
    tasks = [env for env in scores if env in anchors]
    found = {}
    for algorithm in dict.fromkeys(name for env in tasks for name in scores[env]):
        missing = [env for env in tasks if algorithm not in scores[env]]
        if missing:
            complain(f"{algorithm}: not in the figures over all environments: no run on {', '.join(missing)}")
            continue
        found[algorithm] = [(scores[env][algorithm] - anchors[env][0]) / (anchors[env][1] - anchors[env][0])
                            for env in tasks]
    return found


# Over all environments ----------------------------------------------------------------------------------------------

def estimates(scores: dict[str, list[np.ndarray]], resamples: int) -> list[Estimate]:
    """IQM, median, mean and optimality gap of each algorithm, the one with the highest IQM first.

    Args:
        scores: the result of `normalized`.
    """
    return [Estimate(algorithm, name, *_estimate(statistic, [scores[algorithm]], resamples))
            for algorithm in ranked(scores) for name, statistic in AGGREGATES.items()]


def ranked(scores: dict[str, list[np.ndarray]]) -> list[str]:
    """The algorithms by their IQM, the highest first."""
    return sorted(scores, key=lambda name: -statistics.interquartile_mean(scores[name]))


def profiles(scores: dict[str, list[np.ndarray]], resamples: int) -> list[Profile]:
    """The performance profile of each algorithm, at the scores that occur, where the profiles have their steps."""
    occur = np.unique(np.concatenate([task for tasks in scores.values() for task in tasks]))
    margin = 0.05 * (occur[-1] - occur[0]) or 0.05
    taus = np.array([occur[0] - margin, *occur, occur[-1] + margin])
    if len(taus) > MOST_TAUS:
        taus = np.linspace(taus[0], taus[-1], MOST_TAUS)
    return [Profile(algorithm, taus, *_estimate(lambda tasks: statistics.performance_profile(tasks, taus), [tasks],
                                                resamples)) for algorithm, tasks in scores.items()]


def improvements(scores: dict[str, list[np.ndarray]], resamples: int) -> list[Improvement]:
    """The probability of improvement of each pair of algorithms, the one with the higher IQM first."""
    return [Improvement(x, y, *_estimate(statistics.probability_of_improvement, [scores[x], scores[y]], resamples))
            for x, y in combinations(ranked(scores), 2)]


def _estimate(statistic: Callable, samples: Sequence[Sequence[np.ndarray]], resamples: int) -> tuple:
    """(value, low, high); the interval is NaN if a task has fewer than three runs, for which it would be too narrow."""
    value = statistic(*samples)
    if min(len(task) for tasks in samples for task in tasks) < FEW:
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    return value, *statistics.bootstrap(statistic, *samples, resamples=resamples)


def weak_points(scores: dict[str, list[np.ndarray]]) -> Iterator[str]:
    """Warnings about few or unequally many runs behind the figures over all environments."""
    for algorithm, tasks in scores.items():
        runs = [len(task) for task in tasks]
        if min(runs) < FEW:
            yield f"{algorithm}: no intervals over all environments: one has fewer than {FEW} runs"
        if min(runs) < max(runs):
            yield f"{algorithm}: {min(runs)} to {max(runs)} runs per environment; the IQM weighs all runs alike"
