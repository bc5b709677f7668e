"""Evaluation returns of runs: found, read, grouped by environment and algorithm, and brought onto one grid of steps."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs import resolve_env
from utils import statistics
from utils.config import MOST_BYTES, printable
from utils.directories import MAY_CHANGE
from utils.files import read_file

FEW = 3                             # with fewer runs there is no interval, and single runs are shown
MOST_POINTS = 500                   # of a curve that is drawn
MOST_ROWS = 2**26                   # bytes of evaluation returns that are read from a file
# Settings in which the runs of one curve may differ: what does not change what is learned, and the seed.
OF_A_RUN = {"tag", "seed", "seeds", "device", "buffer_device", "engine", *MAY_CHANGE}


class Curve(NamedTuple):
    """The evaluation returns of one run."""

    algorithm: str
    env: str
    run: str                        # which one: 'seed 1', or where it stands
    rows: np.ndarray                # (evaluations, 2): environment steps, which grow, and mean return
    settings: dict[str, Any]        # its config.json; empty for a file of the original program
    path: Path = Path()             # the run's directory, or the file


class Line(NamedTuple):
    """What is drawn of a group of runs: an average with its band, or a single run."""

    algorithm: str
    kind: str                       # IQM, mean, or which run it is
    steps: np.ndarray               # (P,)
    runs: np.ndarray                # (P,), how many there are at these steps
    value: np.ndarray               # (P,)
    low: np.ndarray                 # (P,), NaN where there is no band
    high: np.ndarray


Groups = dict[str, dict[str, list[Curve]]]          # environment -> algorithm -> its runs


# Reading ------------------------------------------------------------------------------------------------------------

def read_curves(arguments: Iterable[str], complain: Callable[[str], None]) -> list[Curve]:
    """The runs that a command line names: directories of runs or above them, or npz files, each also as NAME=PATH.

    Args:
        complain: is given a line for everything that cannot be read.
    """
    curves: list[Curve] = []
    seen: set[Path] = set()
    for argument in arguments:
        name, path = split_name(argument)
        found = [one for one in find(path) if one.resolve() not in seen]
        if not found and not any(find(path)):
            complain(f"{path}: {'no runs in it' if path.exists() else 'does not exist'}")
        for one in found:
            seen.add(one.resolve())
            try:
                curves.append(read_run(one, name) if one.is_dir() else read_original(one, name))
            except ValueError as error:
                complain(f"{one}: {error}")
    return curves


def split_name(argument: str) -> tuple[str | None, Path]:
    """'NAME=PATH' -> (NAME, PATH). Both may hold further equals signs: what exists decides."""
    if not os.path.exists(argument):
        cuts = [match.start() for match in re.finditer("=", argument)]
        cut = next((cut for cut in cuts if os.path.exists(argument[cut + 1:])), cuts[0] if cuts else None)
        if cut:
            return printable(argument[:cut]), Path(argument[cut + 1:])
    return None, Path(argument)


def find(path: Path) -> Iterator[Path]:
    """Directories of runs, and npz files that belong to none, at and below a path."""
    if path.is_file():
        yield path
    for folder, below, files in os.walk(path):
        below.sort()
        if "config.json" in files:
            below.clear()
            yield Path(folder)
        else:
            yield from (Path(folder, file) for file in sorted(files) if file.endswith(".npz"))


def read_run(directory: Path, name: str | None = None) -> Curve:
    """What a run of train.py left behind.

    Args:
        name: the algorithm's, instead of the one that follows from the settings.
    Raises:
        ValueError: it cannot be read, or was not evaluated yet.
    """
    settings = read_settings(directory / "config.json")
    files = sorted((directory / "rews").glob("*.npz"))
    if len(files) != 1:
        raise ValueError(f"{len(files) or 'no'} files of evaluation returns in rews/, wants one")
    seed = settings.get("seed")
    which = f"seed {seed}" if isinstance(seed, int) else printable(directory.name)
    return Curve(name or algorithm_name(settings), environment_name(settings["env"]), which, read_rows(files[0]),
                 settings, directory)


def read_original(path: Path, name: str | None = None) -> Curve:
    """A file of evaluation returns that stands by itself, as the original program wrote them: `<env>.npz`.

    Its environment is the file's name up to `_seed1` or the like.

    Raises:
        ValueError: it cannot be read.
    """
    env, seed = re.fullmatch(r"(.+?)(?:[-_]seed[-_]?(\d+))?", path.stem, re.DOTALL).groups()
    rows = read_rows(path)
    algorithm = name or printable(path.resolve().parent.name)
    which = f"seed {seed}" if seed else printable(str(path))
    return Curve(algorithm, environment_name(env), which, rows, {}, path)


def read_rows(path: Path) -> np.ndarray:
    """(evaluations, 2): environment steps and mean return.

    Raises:
        ValueError: no such rows; nothing in the file is run, and no more memory is taken than MOST_ROWS.
    """
    try:
        data = io.BytesIO(read_file(path, MOST_ROWS))
        with zipfile.ZipFile(data) as archive:
            if archive.getinfo("info.npy").file_size > MOST_ROWS:
                raise ValueError("too long")
        with np.load(data, allow_pickle=False) as file:
            rows = file["info"]
    except (OSError, MemoryError) as error:
        raise ValueError(f"cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}") from None
    except Exception as error:          # there is no end to what a damaged archive makes of its readers
        raise ValueError(f"no evaluation returns: {_one_line(error)}") from None
    if rows.ndim != 2 or rows.shape[1] != 2 or rows.dtype.kind not in "fiu":
        raise ValueError(f"got {rows.dtype} {rows.shape} under 'info', wants rows of (steps, mean return)")
    if not len(rows):
        raise ValueError("no evaluation yet")
    rows = rows.astype(np.float64)
    if not np.isfinite(rows).all() or (np.diff(rows[:, 0]) <= 0).any():
        raise ValueError("returns that are not finite, or steps that do not grow")
    return rows


def algorithm_name(settings: dict[str, Any]) -> str:
    """'RRD-SAC', 'RRD-L(RD)-TD3', 'Uniform-SAC', 'SAC (dense reward)'."""
    alg = settings["alg"]
    name = alg.capitalize() if alg == "uniform" else alg.upper()        # a word among abbreviations
    name += "-L(RD)" * bool(settings.get("rrd_bias_correction"))
    basis = f"-{settings['basis_alg'].upper()}" if settings.get("basis_alg") else ""
    return printable(name + basis + " (dense reward)" * (settings.get("env_type") == "normal"))


def environment_name(name: str) -> str:
    """The name of the task itself: 'HalfCheetah-v2' is run as 'HalfCheetah-v4', 'Assault' is 'ALE/Assault-v5'."""
    return printable(str(resolve_env(name)))


def read_settings(path: Path) -> dict[str, Any]:
    """Only what is used here is checked: a newer version's settings can be drawn as well."""
    try:
        settings = json.loads(read_file(path, MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"config.json cannot be read: {_one_line(error)}") from None
    names = [settings.get(name, "") for name in ("alg", "env", "basis_alg")] if isinstance(settings, dict) else [None]
    if not all(isinstance(name, str) for name in names) or not all(names[:2]):
        raise ValueError("config.json names no algorithm and environment")
    return settings


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split())[:200] or type(error).__name__)


# Grouping -----------------------------------------------------------------------------------------------------------

def group(curves: Iterable[Curve]) -> Groups:
    """By environment, then by algorithm, in the order in which they come."""
    groups: Groups = {}
    for curve in curves:
        groups.setdefault(curve.env, {}).setdefault(curve.algorithm, []).append(curve)
    return groups


def notes(groups: Groups) -> Iterator[str]:
    """What a reader of the figures should know of the runs that share a curve."""
    for env, algorithms in groups.items():
        for algorithm, curves in algorithms.items():
            where = f"{algorithm} on {env}"
            if names := _differences([curve.settings for curve in curves if curve.settings]):
                yield f"{where}: the runs differ in {', '.join(names)}; NAME=PATH tells them apart"
            seeds = Counter(curve.run for curve in curves)
            if twice := [run for run, times in seeds.items() if times > 1]:
                yield f"{where}: several runs of {', '.join(twice)}, which are counted as if they were independent"
            ends = sorted({curve.rows[-1, 0] for curve in curves})
            if len(ends) > 1:
                yield f"{where}: the runs end after {ends[0]:g} to {ends[-1]:g} steps; a run's score is of its own end"


def _differences(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Names with several values; an older run may lack a setting, which is no difference."""
    values: dict[str, set[str]] = {}
    for name, value in (item for one in settings for item in one.items()):
        values.setdefault(name, set()).add(json.dumps(value))
    return [printable(name) for name in values if len(values[name]) > 1 and name not in OF_A_RUN]


# Curves of groups ---------------------------------------------------------------------------------------------------

def final_score(rows: np.ndarray, last: float) -> float:
    """The mean return of the last evaluations: this share of them, and at least one."""
    return float(rows[-max(1, round(last * len(rows))):, 1].mean())


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of each value and those before it, `window` in all; at the start of those that there are."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return values if window == 1 else (sums[ends] - sums[starts]) / (ends - starts)


def common_grid(curves: Sequence[np.ndarray], most: int = MOST_POINTS) -> np.ndarray:
    """All steps at which any of them was evaluated; if that is too many, as many at equal distances.

    Args:
        curves: rows of (steps, return), (evaluations, 2) each.
    """
    steps = np.unique(np.concatenate([rows[:, 0] for rows in curves]))
    return steps if len(steps) <= most else np.linspace(steps[0], steps[-1], most)


def on_grid(rows: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """A run's returns at these steps by linear interpolation, (P,); NaN before its first and after its last one."""
    return np.interp(steps, rows[:, 0], rows[:, 1], left=np.nan, right=np.nan)


def lines(algorithm: str, curves: Sequence[Curve], window: int = 1, resamples: int = 2000) -> list[Line]:
    """What is drawn of the runs of an algorithm on an environment.

    Of three runs or more the IQM with a 95 % band, where at least three of them go on; of fewer each run, and their
    mean where all go on. Where there is no such average, for the runs do not overlap, only the runs.
    """
    smoothed = [np.column_stack([one.rows[:, 0], smooth(one.rows[:, 1], window)]) for one in curves]
    steps = common_grid(smoothed)
    values = np.stack([on_grid(rows, steps) for rows in smoothed], axis=-1)         # (P, runs)
    average = _average(algorithm, steps, values, resamples)
    averages = [average] if len(average.steps) and len(curves) > 1 else []
    if averages and len(curves) >= FEW:
        return averages
    single = [Line(algorithm, one.run, rows[:, 0], np.ones(len(rows), int), rows[:, 1], *_no_band(len(rows)))
              for one, rows in zip(curves, smoothed, strict=True)]
    return [*single, *averages]


def _average(algorithm: str, steps: np.ndarray, values: np.ndarray, resamples: int) -> Line:
    there = np.isfinite(values)
    enough = there.sum(axis=1) >= min(FEW, values.shape[1])
    steps, values, there = steps[enough], values[enough], there[enough]
    value = np.empty(len(steps))
    low, high = _no_band(len(steps))
    for mask in np.unique(there, axis=0):               # points that have the same runs
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
