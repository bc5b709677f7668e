"""One row of a tensor environment as a `gymnasium.Env`, for evaluation, video, diagnosis and other libraries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from envs.registration import load
from envs.state import Obs
from envs.tensor import TensorEnv
from utils.errors import ConfigError

State = dict[str, Any]              # JSON values


class OneRow(gym.Env):
    """A tensor environment of one row; observations and actions are NumPy's. One of several rows says its spaces alone.

    `info` has the row's values of the tensor environment's: `info["metrics"]["success"]` is a float.
    """

    metadata = TensorEnv.metadata

    def __init__(self, task: str | type[TensorEnv], render_mode: str | None = None, device: str = "cpu",
                 settings: Mapping[str, Any] | None = None, **named: Any):
        """
        Args:
            task: a class below TensorEnv, or `module:name` of one.
            settings: of the task, such as max_episode_steps, which `gymnasium.make` would take for itself.
            named: more settings.
        Raises:
            ConfigError: a setting is unknown or invalid.
        """
        self.task, self.render_mode = load(task)(1, device, **{**(settings or {}), **named}), render_mode
        self.metadata = self.task.metadata
        self.observation_space, self.action_space = self.task.observation_space, self.task.action_space
        self.metadata = self.task.metadata

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Begin an episode; a seed seeds the task's generator.

        Raises:
            ConfigError: the task has several rows a group, which no single action moves.
        """
        if self.task.num_envs != 1:
            raise ConfigError(f"env: {type(self.task).__name__} has {self.task.num_envs} rows a group, expected one "
                              "as a gymnasium.Env")
        first = self._np_random is None
        super().reset(seed=seed)
        if first or seed is not None:
            self.task.generator.manual_seed(int(self.np_random.integers(2**63)))
        return row_of(self.task.reset(), self.observation_space), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step; see `TensorEnv.step`."""
        acts = torch.as_tensor(np.asarray(action), device=self.task.device)[None]
        obs, rews, terminated, truncated, info = self.task.step(acts)
        return (row_of(obs, self.observation_space), float(rews[0]), bool(terminated[0]), bool(truncated[0]),
                _row_of_info(info))

    def render(self) -> np.ndarray | None:
        """Draw the row, if `render_mode` is "rgb_array"."""
        return self.task.render(0) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Release what the task holds."""
        self.task.close()

    def random_state(self) -> State:
        """Return the state of the task's generator, for `envs.origin`."""
        return {"generator": self.task.generator.get_state().numpy().tobytes().hex()}

    def set_random_state(self, state: State) -> None:
        """Restore what `random_state` returned."""
        data = bytearray.fromhex(state["generator"])
        self.task.generator.set_state(torch.frombuffer(data, dtype=torch.uint8).clone())


def make_rows(task: str | type[TensorEnv], num_envs: int = 1, device: str = "cpu", seed: int = 0,
              settings: Mapping[str, Any] | None = None, **named: Any) -> TensorEnv:
    """Make a tensor environment, as `gymnasium.make_vec` calls it; see `TensorEnv`."""
    return load(task)(num_envs, device, seed, **{**(settings or {}), **named})


def row_of(obs: Obs, space: gym.Space, row: int = 0) -> Any:
    """Return the observation of a row as NumPy's arrays, with the dtypes of its space."""
    if isinstance(obs, dict):
        return {name: row_of(value, space[name], row) for name, value in obs.items()}
    return obs[row].cpu().numpy().astype(space.dtype)


def _row_of_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first row of each tensor in `info`: numbers, and arrays of what has more dimensions."""
    return {name: _row_of_info(value) if isinstance(value, Mapping) else _first(value)
            for name, value in info.items()}


def _first(value: Any) -> Any:
    if not isinstance(value, Tensor) or not value.dim():
        return value
    return value[0].item() if value.dim() == 1 else value[0].cpu().numpy()
