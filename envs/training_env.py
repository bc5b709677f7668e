"""A tensor environment as training uses it: actions in [-1, 1], a time limit, rewards per step or per episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from envs.state import Obs, below
from envs.tensor import Step, TensorEnv
from utils.errors import ConfigError


class TrainingEnv(TensorEnv):
    """A task with the rules of a run.

    Actions are in [-1, 1], and the task is given `action * action_space.high`. An episode is truncated after `limit`
    steps, unless the task ends it before. `info["true_rews"]` (N,) holds the task's rewards; with `paid_at_end` the
    reward is 0 until the episode ends, then the sum of the task's rewards.
    """

    STATE = ("steps", "returns")

    def __init__(self, task: TensorEnv, limit: int, paid_at_end: bool):
        """
        Raises:
            ConfigError: the bounds of the actions are not finite and symmetric about 0.
        """
        self.task, self.limit, self.paid_at_end = task, limit, paid_at_end
        for name in ("num_groups", "rows_per_group", "device", "dtype", "generator", "rewards", "metrics", "curriculum",
                     "observation_space", "SETTINGS", "LIMITS"):
            setattr(self, name, getattr(task, name))
        self.setup()

    def setup(self) -> None:
        self.action_space, self.high = self._scaled(self.task.action_space)
        self.steps, self.returns = self.zeros(dtype=torch.int64), self.zeros(dtype=torch.float64)

    def _scaled(self, space: Any) -> tuple[Any, Tensor | None]:
        if not isinstance(space, Box):
            return space, None
        if not np.isfinite(space.high).all() or not np.allclose(space.low, -space.high):
            raise ConfigError(f"env: {type(self.task).__name__} acts in {space}, expected finite bounds that are "
                              "symmetric about 0")
        unscaled = (space.high == 1).all()
        return (Box(-1.0, 1.0, space.shape, np.float32),
                None if unscaled else torch.as_tensor(space.high, dtype=self.dtype, device=self.device))

    # What the task holds --------------------------------------------------------------------------------------------

    @property
    def active(self) -> Tensor:
        """See `TensorEnv`."""
        return self.task.active

    @active.setter
    def active(self, rows: Tensor) -> None:
        self.task.active = rows

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `TensorEnv`."""
        return self.task.settings

    @property
    def obs(self) -> Obs | None:
        """See `TensorEnv`."""
        return self.task.obs

    @obs.setter
    def obs(self, obs: Obs) -> None:
        self.task.obs = obs

    def configure(self, **settings: Any) -> None:
        self.task.configure(**settings)

    def render(self, row: int = 0) -> np.ndarray:
        return self.task.render(row)

    def close(self) -> None:
        self.task.close()

    # Episodes -------------------------------------------------------------------------------------------------------

    def _reset(self, rows: Tensor) -> Obs:
        self.steps = self.steps.masked_fill(rows, 0)
        self.returns = self.returns.masked_fill(rows, 0)
        return self.task.reset(rows)

    def _step(self, acts: Tensor) -> Step:
        obs, true, terminated, truncated, info = self.task.step(acts if self.high is None else acts * self.high)
        self.steps = self.steps + 1
        truncated = truncated | (self.steps >= self.limit)
        return obs, self._paid(true, terminated | truncated), terminated, truncated, {**info, "true_rews": true}

    def _paid(self, true: Tensor, over: Tensor) -> Tensor:
        """Return what is paid for a step, (N,); a sum that is not finite at once, so that the error names the step."""
        if not self.paid_at_end:
            return true
        self.returns = self.returns + true
        due = over | ~self.returns.isfinite()
        return torch.where(due, self.returns, 0).to(self.dtype)

    def state(self) -> dict[str, Tensor]:
        own = {name: getattr(self, name).to("cpu", copy=True) for name in self.STATE}
        return own | {f"task/{name}": tensor for name, tensor in self.task.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> Tensor:
        lost = self.task.restore(below("task", state))
        for name in self.STATE:
            setattr(self, name, state[name].to(self.device, copy=True))
        return lost
