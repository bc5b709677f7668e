"""A tensor environment as training uses it: actions in [-1, 1], a time limit, rewards per step or per episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor

from envs.spaces import is_symmetric
from envs.state import below
from envs.tensor import Step, TensorEnv
from utils.errors import ConfigError
from utils.torch_utils import joined


class TrainingEnv(TensorEnv):
    """A task with the rules of a run.

    Observations are vectors, or pictures: the parts of a dict are concatenated in alphabetical order of their names,
    and `parts` holds the slice of each. Actions are in [-1, 1], and the task is given them in its own bounds. An
    episode is truncated after `limit` steps, unless the task ends it before. `info["true_rews"]` (N,) holds the task's
    rewards, "return" and "length" those of the episode so far; with `paid_at_end` the reward is 0 until the episode
    ends, then its return; with `every`, at every so many steps and at the end, it is the sum since it was last paid.
    """

    STATE = ("steps", "returns")
    trusted = True

    def __init__(self, task: TensorEnv, limit: int, paid_at_end: bool, every: int = 0):
        """
        Raises:
            ConfigError: the bounds of the actions are not finite.
        """
        self.task, self.limit, self.paid_at_end, self.every = task, limit, paid_at_end, every
        if every:
            self.STATE = (*self.STATE, "paid")          # the part of the returns that is paid already
        for name in ("num_groups", "rows_per_group", "device", "on_cpu", "dtype", "generator", "rewards", "metrics",
                     "curriculum", "checked"):
            setattr(self, name, getattr(task, name))
        self.setup()

    def setup(self) -> None:
        self.observation_space, self.parts = _flattened(self.task.observation_space)
        self.action_space, self.scale, self.shift = self._scaled(self.task.action_space)
        self.paid = self.zeros(dtype=torch.float64)
        self.steps, self.returns = self.zeros(dtype=torch.int64), self.zeros(dtype=torch.float64)

    def _scaled(self, space: Any) -> tuple[Any, Tensor | None, Tensor | None]:
        """Return the space of the agent's actions; and what they are multiplied by, and then what is added, or None."""
        if not isinstance(space, Box):
            return space, None, None
        if not (np.isfinite(space.high).all() and np.isfinite(space.low).all()):
            raise ConfigError(f"env: {type(self.task).__name__} acts in {space}, expected finite bounds")
        symmetric, unit = is_symmetric(space), Box(-1.0, 1.0, space.shape, np.float32)
        if symmetric and (space.high == 1).all():
            return unit, None, None
        scale = space.high if symmetric else (space.high - space.low) / 2
        scale, shift = (torch.as_tensor(x, dtype=self.dtype, device=self.device) for x in (scale, space.high - scale))
        return unit, scale, None if symmetric else shift

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
    def obs(self) -> Tensor | None:
        """See `TensorEnv`."""
        return None if self.task.obs is None else joined(self.task.obs)

    @obs.setter
    def obs(self, obs: Tensor) -> None:
        """Ignore what `TensorEnv` sets: the task holds it."""

    def configure(self, **settings: Any) -> None:
        self.task.configure(**settings)

    def render(self, row: int = 0) -> np.ndarray:
        return self.task.render(row)

    def close(self) -> None:
        self.task.close()

    # Episodes -------------------------------------------------------------------------------------------------------

    def _reset(self, rows: Tensor) -> Tensor:
        self.steps = self.steps.masked_fill(rows, 0)
        self.returns = self.returns.masked_fill(rows, 0)
        self.paid = self.paid.masked_fill(rows, 0)
        return joined(self.task.reset(rows))

    def _step(self, acts: Tensor) -> Step:
        obs, true, terminated, truncated, info = self.task.step(self._own(acts))
        self.steps = self.steps + 1
        self.returns = self.returns + true
        truncated = truncated | (self.steps >= self.limit)
        info = {**info, "true_rews": true, "return": self.returns, "length": self.steps}
        return joined(obs), self._paid(true, terminated | truncated), terminated, truncated, info

    def _own(self, acts: Tensor) -> Tensor:
        """Return actions in the task's own bounds."""
        acts = acts if self.scale is None else acts * self.scale
        return acts if self.shift is None else acts + self.shift

    def _paid(self, true: Tensor, over: Tensor) -> Tensor:
        """Return what is paid for a step, (N,); a sum that is not finite at once, so that the error names the step."""
        if not (self.paid_at_end or self.every):
            return true
        due = over | ~self.returns.isfinite()
        if not self.every:
            return torch.where(due, self.returns, 0).to(self.dtype)
        due |= self.steps % self.every == 0
        owed = torch.where(due, self.returns - self.paid, 0)
        self.paid = torch.where(due, self.returns, self.paid)
        return owed.to(self.dtype)

    def state(self) -> dict[str, Tensor]:
        own = {name: getattr(self, name).to("cpu", copy=True) for name in self.STATE}
        return own | {f"task/{name}": tensor for name, tensor in self.task.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> Tensor:
        lost = self.task.restore(below("task", state))
        for name in self.STATE:
            setattr(self, name, state[name].to(self.device, copy=True).masked_fill(lost, 0))
        return lost


def _flattened(space: Any) -> tuple[Box, dict[str, slice] | None]:
    """Return the space of flat observations, and the slice of each part."""
    if not isinstance(space, Dict):
        return space, None
    parts, start = {}, 0
    for name in sorted(space.spaces):
        size = int(np.prod(space[name].shape))
        parts[name], start = slice(start, start + size), start + size
    low, high = (np.concatenate([getattr(space[name], bound).reshape(-1) for name in parts])
                 for bound in ("low", "high"))
    return Box(low, high, dtype=np.float32), parts
