"""Check what a task, perhaps a user's own, returns: shapes and dtypes alone, so that no GPU is waited for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor

from utils.errors import ConfigError
from utils.text import one_line


def check_spaces(env: Any) -> None:
    """Check a task's spaces after its `setup`.

    Raises:
        ConfigError: one is missing, or of a kind that no algorithm reads.
    """
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(env, name, None), gym.Space):
            _refuse(env, f"has no {name}, expected one of gymnasium.spaces, set in setup()")
    observed, acts = env.observation_space, env.action_space
    parts = observed.spaces.values() if isinstance(observed, Dict) else [observed]
    if not all(isinstance(part, Box) for part in parts):
        _refuse(env, f"observes {one_line(observed)}, expected a Box, or a Dict of Boxes")
    if not (isinstance(acts, Discrete) or (isinstance(acts, Box) and len(acts.shape) == 1)):
        _refuse(env, f"acts in {one_line(acts)}, expected a Box with one dimension, or Discrete")


def check_obs(env: Any, obs: Any) -> None:
    """Check observations (N, ...), or names -> (N, ...).

    Raises:
        ConfigError: they are not what the observation space says.
    """
    space = env.observation_space
    if not isinstance(space, Dict):
        _check(env, "obs", obs, (env.num_envs, *space.shape), obs_dtype(env, space))
        return
    if not isinstance(obs, Mapping) or set(obs) != set(space.spaces):
        got = ", ".join(obs) if isinstance(obs, Mapping) else type(obs).__name__
        _refuse(env, f"gives {got} as obs, expected the keys {', '.join(space.spaces)}")
    for name, part in space.spaces.items():
        _check(env, f"obs[{name!r}]", obs[name], (env.num_envs, *part.shape), obs_dtype(env, part))


def check_acts(env: Any, acts: Any) -> None:
    """Check actions: (N, A) of floats, or (N,) of integers.

    Raises:
        ConfigError: they are not what the action space says.
    """
    floats = isinstance(env.action_space, Box)
    shape = (env.num_envs, *env.action_space.shape)
    if not (isinstance(acts, Tensor) and acts.shape == shape and acts.is_floating_point() == floats):
        kind = "floats" if floats else "integers"
        raise ConfigError(f"acts: got {_described(acts)}, expected {kind} of shape {shape}")


def check_step(env: Any, step: Any) -> None:
    """Check what `_step` returned.

    Raises:
        ConfigError: it is not what `TensorEnv.step` says.
    """
    if not isinstance(step, tuple) or len(step) != 5:
        _refuse(env, f"gives {_described(step)} from _step, expected (obs, rews, terminated, truncated, info)")
    obs, rews, terminated, truncated, info = step
    rows = (env.num_envs,)
    check_obs(env, obs)
    _check(env, "rews", rews, rows, env.dtype)
    _check(env, "terminated", terminated, rows, torch.bool)
    _check(env, "truncated", truncated, rows, torch.bool)
    for kind in ("rewards", "metrics"):
        _check_info(env, info, kind, rows)


def _check_info(env: Any, info: Any, kind: str, rows: tuple[int]) -> None:
    if not isinstance(info, Mapping):
        _refuse(env, f"gives a {type(info).__name__} as info, expected a dict")
    found, names = info.get(kind, {}), getattr(env, kind)
    if not isinstance(found, Mapping) or set(found) != set(names):
        got = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        _refuse(env, f"gives {got or 'nothing'} as info[{kind!r}], expected {', '.join(names) or 'nothing'}, as its "
                     f"`{kind}` says")
    for name, value in found.items():
        _check(env, f"info[{kind!r}][{name!r}]", value, rows, env.dtype)


def obs_dtype(env: Any, space: Box) -> torch.dtype:
    """Return the dtype of observations: uint8 of pictures, else the environment's."""
    return torch.uint8 if space.dtype == "uint8" else env.dtype


def _check(env: Any, field: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if not isinstance(value, Tensor) or value.shape != shape or value.dtype != dtype:
        _refuse(env, f"gives {_described(value)} as {field}, expected {_name(dtype)} of shape {tuple(shape)}")
    if value.device.type != env.device.type:
        _refuse(env, f"gives {field} on {value.device}, expected {env.device}")


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{_name(value.dtype)} of shape {tuple(value.shape)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _refuse(env: Any, what: str) -> None:
    raise ConfigError(f"env: {type(env).__name__} {what}")
