"""Curricula as JSON: of a task's own, or of a file.

    {"window": 100, "fresh": true, "stages": [{"name": "near", "settings": {"success_threshold": 0.2},
                                               "until": {"success": 0.8, "length": [null, 60]}, "episodes": 50}, {}]}
    {"timesteps": [0, 1000000], "num_robots": [3, 5]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from envs.curriculum import Curriculum, Schedule, Stage, check_metrics, complete
from envs.tensor import TensorEnv
from utils.errors import ConfigError
from utils.files import read_file
from utils.text import did_you_mean

FORM, STAGE = ("stages", "window", "fresh", "keep"), ("name", "settings", "until", "episodes")


def open_curriculum(choice: str, task: TensorEnv | None) -> Curriculum | None:
    """Return the curriculum of a run; None if it has none.

    Args:
        choice: `default`, the task's own; `none`; a JSON file; or its text, which begins with a brace.
        task: with the run's own settings; None if the environment is not a tensor environment.
    Raises:
        ConfigError: the file is missing or wrong, or the task lacks a setting or metric that it names.
    """
    if task is None:
        if choice not in ("default", "none"):
            raise ConfigError(f"curriculum: got {choice!r}, but the environment's settings cannot change during a run; "
                              "expected none, or a tensor environment")
        return None
    form = {"default": task.curriculum, "none": None}[choice] if choice in ("default", "none") else read_form(choice)
    return None if form is None else of_form(form, task)


def read_form(path: str) -> Any:
    """Read a JSON file, or the text of one.

    Raises:
        ConfigError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path if path.lstrip().startswith("{") else read_file(path))
    except OSError as error:
        raise ConfigError(f"curriculum: {path!r} cannot be read: {error.strerror or error}; expected default, none or "
                          "a JSON file") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"curriculum: {path!r} is no JSON: {error}") from None


def of_form(form: Any, task: TensorEnv) -> Curriculum:
    """Return the curriculum that a form describes, complete and checked for a task.

    Raises:
        ConfigError: a name or value is wrong.
    """
    if not isinstance(form, Mapping):
        _refuse(f"got {type(form).__name__}, expected an object with stages or timesteps")
    curriculum = _schedule(form) if "timesteps" in form else _curriculum(form)
    curriculum.stages = tuple(Stage(task.checked(stage.settings), stage.until, stage.episodes, stage.name)
                              for stage in curriculum.stages)
    complete(curriculum, task.settings)
    check_metrics(curriculum, task.metrics)
    return curriculum


def _schedule(form: Mapping[str, Any]) -> Schedule:
    columns = dict(form)
    timesteps = columns.pop("timesteps")
    for name, column in {"timesteps": timesteps, **columns}.items():
        if not isinstance(column, list) or len(column) != len(timesteps):
            _refuse(f"got {column!r} as {name}, expected a list as long as timesteps")
    if not all(_is_count(step) for step in timesteps):
        _refuse(f"got timesteps {timesteps}, expected integers")
    stages = [Stage({name: column[i] for name, column in columns.items()}) for i in range(len(timesteps))]
    return Schedule(timesteps, stages)


def _curriculum(form: Mapping[str, Any]) -> Curriculum:
    _check_names(form, FORM, "an object")
    stages, window, keep = form.get("stages"), form.get("window", 100), form.get("keep", 0)
    if not isinstance(stages, list) or not all(isinstance(stage, Mapping) for stage in stages):
        _refuse(f"got {stages!r} as stages, expected a list of objects")
    if not (_is_count(window) and _is_count(keep)) or not isinstance(form.get("fresh", True), bool):
        _refuse(f"got window {window!r}, keep {keep!r} and fresh {form.get('fresh')!r}, expected integers and true or "
                "false")
    return Curriculum([_stage(stage) for stage in stages], window, form.get("fresh", True), keep)


def _stage(form: Mapping[str, Any]) -> Stage:
    _check_names(form, STAGE, "a stage")
    settings, until, episodes = form.get("settings", {}), form.get("until", {}), form.get("episodes", 1)
    if not isinstance(settings, Mapping) or not isinstance(until, Mapping) or not _is_count(episodes):
        _refuse(f"got a stage {dict(form)!r}, expected settings and until as objects, episodes as an integer")
    for name, bound in until.items():
        if not (_is_bound(bound) and bound is not None) and not _are_bounds(bound):
            _refuse(f"got {bound!r} as the bound of {name}, expected a number, or [lowest, highest] with null for none")
    return Stage(settings, until, episodes, str(form.get("name", "")))


def _check_names(form: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for name in (name for name in form if name not in known):
        _refuse(f"got {name!r} in {what}{did_you_mean(name, known)}, expected {', '.join(known)}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_bound(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _are_bounds(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_bound, value))


def _refuse(what: str) -> NoReturn:
    raise ConfigError(f"curriculum: {what}")
