"""Find runs, and read their evaluation returns from directories or from files of the original program."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from envs.names import resolve_env, without_module
from results.curves import MOST_STEPS, Curve
from results.metrics import LARGEST, metric_rows
from utils.files import read_file
from utils.settings.json_files import MOST_BYTES
from utils.text import error_of, one_line, printable

MOST_ROWS = 2**26                   # bytes of evaluation returns in a file
NO_TAG = re.compile(r"(?:^|[ ,_-]+)seed[ _=-]*\d+$")      # sweep.py adds it to the name of a run


def read_curves(arguments: Iterable[str], complain: Callable[[str], object], by: str = "algorithm",
                metric: str = "") -> list[Curve]:
    """Read the runs that a command line names.

    Args:
        arguments: directories of runs, directories above runs, or npz files; each may be written NAME=PATH.
        complain: called with a line for each path that cannot be read.
        by: the curve's name, "algorithm" or "tag"; NAME= wins.
        metric: a column of metrics.csv, instead of the evaluation returns.
    """
    curves: list[Curve] = []
    seen: set[Path] = set()
    for argument in arguments:
        name, path = split_name(argument)
        everything = list(find(path, complain))
        if not everything:
            complain(f"{path}: {'contains no runs' if os.path.exists(path) else 'does not exist'}")
        for one in (one for one in everything if one.resolve() not in seen):
            seen.add(one.resolve())
            try:
                curves.append(read_run(one, name, by, metric) if one.is_dir() else read_original(one, name))
            except ValueError as error:
                why = last_error(one)
                complain(f"{one}: {error}" + f"; the run ended with {why}" * bool(why))
    return one_name_a_task(curves)


def split_name(argument: str) -> tuple[str | None, Path]:
    """'NAME=PATH' -> (NAME, PATH). Of several equals signs, the first one before an existing path separates."""
    if not os.path.exists(argument):
        cuts = [match.start() for match in re.finditer("=", argument)]
        cut = next((cut for cut in cuts if os.path.exists(argument[cut + 1:])), cuts[0] if cuts else None)
        if cut:
            return printable(argument[:cut]), Path(argument[cut + 1:])
    return None, Path(argument)


def find(path: Path, complain: Callable[[str], object]) -> Iterator[Path]:
    """The directories of runs, and the npz files outside of runs, at and below a path; links are followed."""
    if os.path.isfile(path):
        yield path.parent.parent if _belongs_to_a_run(path) else path
    if not os.path.isdir(path):
        return
    seen: set[str] = set()
    for folder, below, files in os.walk(path, followlinks=True,
                                        onerror=lambda error: complain(f"{error.filename}: {error.strerror}")):
        place = os.path.realpath(folder)
        if place in seen or "config.json" in files:
            below.clear()                               # a loop of links, or a run, which contains no other
        if place in seen:
            continue
        seen.add(place)
        below.sort(key=by_number)
        if "config.json" in files:
            yield Path(folder)
        else:
            yield from (Path(folder, file) for file in sorted(files, key=by_number) if file.endswith(".npz"))


def by_number(name: str) -> list[str | int]:
    """A key of sorting that puts K=8 before K=16."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def _belongs_to_a_run(path: Path) -> bool:
    return path.parent.name == "rews" and (path.parent.parent / "config.json").is_file()


def read_run(directory: Path, name: str | None = None, by: str = "algorithm", metric: str = "") -> Curve:
    """Read the evaluation returns, or a metric, of a run of train.py.

    Args:
        name: the curve's name, instead of one from the settings.
        by: the setting that names the curve, "algorithm" or "tag".
        metric: a column of metrics.csv.
    Raises:
        ValueError: the run cannot be read, or has no evaluation yet.
    """
    settings = read_settings(directory / "config.json")
    seed = settings.get("seed")
    which = f"seed {seed}" if isinstance(seed, int) else printable(directory.name)
    chosen = name or (by == "tag" and tag_name(settings))
    rows = metric_rows(directory, metric) if metric else evaluation_rows(directory, settings)
    return Curve(chosen or algorithm_name(settings), task_name(settings), which, rows, settings, directory,
                 bool(chosen))


def evaluation_rows(directory: Path, settings: dict[str, Any]) -> np.ndarray:
    """Read (evaluations, 2) of a run: environment steps and mean return.

    Raises:
        ValueError: there are none.
    """
    files = sorted((directory / "rews").glob("*.npz"))
    if not files and settings.get("test_rollouts") == 0:
        raise ValueError("no evaluations; --metric=train/return draws its training returns")
    if len(files) != 1:
        raise ValueError(f"{len(files) or 'no'} files of evaluation returns in rews/, expected one")
    return read_rows(files[0])


def last_error(directory: Path) -> str:
    """The type and the first line of the error in a run's error.txt; "" if no error ended the run."""
    try:
        return error_of(read_file(directory / "error.txt", MOST_BYTES).decode("utf-8", errors="replace"))
    except (OSError, ValueError):
        return ""


def read_original(path: Path, name: str | None = None) -> Curve:
    """Read a file of evaluation returns of the original program, `<env>.npz` or `<env>_seed<N>.npz`.

    Raises:
        ValueError: it cannot be read.
    """
    env, seed = re.fullmatch(r"(.+?)(?:[-_]seed[-_]?(\d+))?", path.stem, re.DOTALL).groups()
    rows = read_rows(path)
    algorithm = name or printable(path.resolve().parent.name)
    which = f"seed {seed}" if seed else printable(str(path))
    return Curve(algorithm, environment_name(env), which, rows, {}, path, name is not None)


def read_rows(path: Path) -> np.ndarray:
    """Read (evaluations, 2): environment steps and mean return.

    Raises:
        ValueError: the file holds no such rows. Nothing in it is executed, and it takes at most MOST_ROWS of memory.
    """
    try:
        rows = _load_rows(path)
    except (OSError, MemoryError) as error:
        raise ValueError(f"cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}") from None
    except Exception as error:          # a damaged archive may raise anything
        raise ValueError(f"no evaluation returns: {_one_line(error)}") from None
    if rows.ndim != 2 or rows.shape[1] != 2 or rows.dtype.kind not in "fiu":
        raise ValueError(f"got {rows.dtype} {rows.shape} under 'info', expected rows of (steps, mean return)")
    if not len(rows):
        raise ValueError("no evaluation yet")
    rows = rows.astype(np.float64)
    if not (np.abs(rows) <= LARGEST).all() or (np.diff(rows[:, 0]) <= 0).any() or rows[-1, 0] >= MOST_STEPS:
        raise ValueError("returns that are not finite or too large, or steps that do not increase")
    return rows


def _load_rows(path: Path) -> np.ndarray:
    data = io.BytesIO(read_file(path, MOST_ROWS))
    with zipfile.ZipFile(data) as archive:
        if archive.getinfo("info.npy").file_size > MOST_ROWS:
            raise ValueError("too long")
    with np.load(data, allow_pickle=False) as file:
        return file["info"]


def algorithm_name(settings: dict[str, Any]) -> str:
    """The name of the algorithm: 'RRD-SAC', 'RRD-L(RD)-TD3', 'Uniform-SAC', 'SAC (dense reward)'."""
    alg = settings["alg"]
    name = alg.capitalize() if alg == "uniform" else alg.upper()        # a word among abbreviations
    name += "-L(RD)" * bool(settings.get("rrd_bias_correction"))
    basis = f"-{settings['basis_alg'].upper()}" if settings.get("basis_alg") else ""
    every = settings.get("reward_every")
    paid = f" (reward every {every} steps)" if every else " (dense reward)" * (settings.get("env_type") == "normal")
    return printable(name + basis + paid)


def tag_name(settings: dict[str, Any]) -> str:
    """The tag without its seed, which names a run of a suite: 'K=64 seed 3' -> 'K=64'."""
    tag = settings.get("tag")
    return printable(NO_TAG.sub("", tag)).strip() if isinstance(tag, str) else ""


def environment_name(name: str, kwargs: dict[str, Any] | None = None) -> str:
    """The id under which an environment runs: 'HalfCheetah-v2' -> 'HalfCheetah-v4', 'Assault' -> 'ALE/Assault-v5'."""
    return printable(str(resolve_env(name, kwargs)))


def task_name(settings: dict[str, Any]) -> str:
    """The environment of a run with its arguments; if evaluation has others, they are named after it."""
    kwargs, other = (value if isinstance(value := settings.get(name), dict) else None
                     for name in ("env_kwargs", "eval_env_kwargs"))
    name = environment_name(settings["env"], kwargs)
    if other is None or other == (kwargs or {}):
        return name
    return f"{name}, evaluated with {', '.join(f'{key}={other[key]}' for key in other) or 'no arguments'}"


def one_name_a_task(curves: list[Curve]) -> list[Curve]:
    """The curves with `module:id` as `id`, unless two modules register the same id."""
    modules: dict[str, set[str]] = {}
    for module, id, _ in (_parts(curve.env) for curve in curves):
        modules.setdefault(id, set()).update([module] if module else [])
    return [curve._replace(env=id + rest) if len(modules[id]) == 1 else curve
            for curve, (_, id, rest) in ((curve, _parts(curve.env)) for curve in curves)]


def _parts(env: str) -> tuple[str, str, str]:
    """(module or "", id, arguments with their comma or "") of an environment's name."""
    name, comma, arguments = env.partition(", ")
    return name.rpartition(":")[0], without_module(name), comma + arguments


def read_settings(path: Path) -> dict[str, Any]:
    """Read config.json; only the settings used here are checked, so that runs of newer versions can be drawn.

    Raises:
        ValueError: it cannot be read, or names no algorithm or environment.
    """
    try:
        settings = json.loads(read_file(path, MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"config.json cannot be read: {_one_line(error)}") from None
    names = [settings.get(name, "") for name in ("alg", "env", "basis_alg")] if isinstance(settings, dict) else [None]
    if not all(isinstance(name, str) for name in names) or not all(names[:2]):
        raise ValueError("config.json names no algorithm and environment")
    return settings


def _one_line(error: Exception) -> str:
    return printable(one_line(error)[:200] or type(error).__name__)
