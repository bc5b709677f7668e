"""Tensor environments in Gymnasium's registry: one row as a `gymnasium.Env`, N rows as the tensor class.

This module imports no PyTorch, because worker processes read the registry, too.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import gymnasium as gym

ONE_ROW, ROWS, ADAPTED = "envs.one_row:OneRow", "envs.one_row:make_rows", "envs.self_resetting:adapted"
OWN = {"PointMassRL-v0": "envs.point_mass:PointMassRL", "PushCubeRL-v0": "envs.push_cube:PushCubeRL",
       "Arena-v0": "envs.arena.env:Arena", "MarineNav-v0": "envs.marinenav.env:MarineNav"}


def register_env(id: str, max_episode_steps: int | None = None, override: bool = False) -> Callable[[type], type]:
    """Register a user's class in Gymnasium's registry; a decorator. Every program takes the id as --env.

    The class is below `envs.tensor.TensorEnv`; or a batch of environments that resets itself and is called with `cfg`,
    see `envs.self_resetting`; or another `gymnasium.Env`. Of the first two, `gymnasium.make(id, **settings)` makes one
    row as a `gymnasium.Env`, `gymnasium.make_vec(id, num_envs, **settings)` the rows as a tensor environment.

    Args:
        id: such as `MyTask-v0`.
        max_episode_steps: the default of the task's setting of this name; of one that resets itself, where its
            episodes are truncated.
        override: replace a task that has this id.
    Raises:
        ValueError: the id is taken, also with a version, or the task has no such setting.
    """
    def register(task: type) -> type:
        spec = gym.registry.get(id)
        if spec is not None and not override and not _is_same(spec, task):
            raise ValueError(f"env: {id!r} is registered, expected another id, or override=True")
        if spec is None and (known := [one for one in gym.registry if one.rpartition("-v")[0] == id]):
            raise ValueError(f"env: {known[-1]!r} is registered, expected another id than {id!r}")
        if _is_single(task):
            gym.registry.pop(id, None)
            gym.register(id, task, max_episode_steps=max_episode_steps)
            return task
        if not hasattr(task, "SETTINGS"):
            task_class = load(ADAPTED)(task)
            _register(id, task_class, {} if max_episode_steps is None else {"max_episode_steps": max_episode_steps})
            return task
        if max_episode_steps is not None and "max_episode_steps" not in task.SETTINGS:
            raise ValueError(f"max_episode_steps: got {max_episode_steps}, but {task.__name__} has no such setting")
        if spec is None or spec.kwargs.get("task") != OWN.get(id, ""):      # ours are registered by their names
            _register(id, task, {} if max_episode_steps is None else {"max_episode_steps": max_episode_steps})
        return task
    return register


def _is_single(task: type) -> bool:
    """Return whether a class is one environment of Gymnasium's, rather than rows that are called with `cfg`."""
    return issubclass(task, gym.Env) and next(iter(inspect.signature(task).parameters), None) != "cfg"


def is_tensor_env(id: str) -> bool:
    """Return whether an id, perhaps `module:id`, is that of a tensor environment; the module is imported."""
    module, _, name = id.rpartition(":")
    if module:
        importlib.import_module(module)
    spec = gym.registry.get(name)
    return spec is not None and spec.entry_point == ONE_ROW


def is_one_row(env: gym.Env) -> bool:
    """Return whether an environment, perhaps in wrappers, is one row of a tensor environment."""
    spec = env.unwrapped.spec
    return spec is not None and spec.entry_point == ONE_ROW


def tensor_class(id: str) -> Any:
    """Return the tensor class of an id, or None if the id is of another environment; see `is_tensor_env`."""
    spec = gym.registry.get(id.rpartition(":")[2])
    return load(spec.kwargs["task"]) if is_tensor_env(id) else None


def load(task: str | type) -> Any:
    """Return a tensor class, given as itself or as `module:name`."""
    if not isinstance(task, str):
        return task
    module, _, name = task.partition(":")
    return getattr(importlib.import_module(module), name)


def registered_settings(id: str) -> dict[str, Any]:
    """Return the settings that a tensor environment was registered with."""
    return dict(gym.registry[id.rpartition(":")[2]].kwargs["settings"])


def as_settings(id: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of `gymnasium.make` with the task's settings among `kwargs` in one, `settings`.

    So a setting may have the name of an argument of `gymnasium.make`, such as max_episode_steps.
    """
    shown = {name: kwargs[name] for name in ("render_mode",) if name in kwargs}
    return shown | {"settings": registered_settings(id) | {name: kwargs[name] for name in kwargs if name not in shown}}


def _register(id: str, task: str | type, settings: dict[str, Any]) -> None:
    gym.registry.pop(id, None)
    gym.register(id, entry_point=ONE_ROW, vector_entry_point=ROWS, kwargs={"task": task, "settings": settings},
                 order_enforce=False, disable_env_checker=True)


def _is_same(spec: Any, task: type) -> bool:
    """Whether an id is of the same class, or of an older version of it, such as a notebook's."""
    known = spec.kwargs.get("task")
    place = f"{task.__module__}:{task.__qualname__}"
    return known == place or (isinstance(known, type) and f"{known.__module__}:{known.__qualname__}" == place)


for _id, _task in OWN.items():
    _register(_id, _task, {})
