"""Tensor environments: N environments, the rows, that are stepped at once and whose state is tensors on one device.

A task is a class below `TensorEnv` with `setup`, `_reset` and `_step`; `register_env` gives it an id of Gymnasium's.
There is no autoreset: `step` returns the last observation of an episode that ends, and the caller resets the rows whose
episode is over.

    obs = env.reset()
    while training:
        active = env.active                                             # (N,): rows that take part in this step
        obs_next, rews, terminated, truncated, info = env.step(acts)
        obs = env.reset(terminated | truncated)                         # obs_next where nothing ended
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from envs.checks import check_acts, check_obs, check_spaces, check_step
from envs.registration import register_env
from envs.state import Obs, choose, named, over, taken, unnamed
from envs.task_settings import Value, as_tensor, as_value, checked
from utils.errors import ConfigError

__all__ = ["Obs", "Step", "TensorEnv", "register_env"]

Step = tuple[Obs, Tensor, Tensor, Tensor, dict[str, Any]]


class TensorEnv(abc.ABC):
    """N environments as tensors.

    Attributes:
        num_groups, rows_per_group: usually a row is a group, and rows_per_group is 1. Where several robots of one world
            are rows, the world is a group, and begins a new episode when all of its rows are over (see `reset`).
        active: (N,) bool, the rows that take part in the next step. Nothing is stored of the others, whatever `step`
            returns for them. A row of a group is inactive from its last step until its group begins anew.
        obs: the observations that `reset` or `step` returned last, by which the next actions are chosen.
        settings: name -> value, for the episodes that begin from now on.
        generator: the environment's own, on its device.
    """

    # A task sets these.
    SETTINGS: ClassVar[Mapping[str, Value]] = {}    # name -> default: bool, int, float, str, or a tuple of numbers
    LIMITS: ClassVar[Mapping[str, tuple]] = {}      # name -> (lowest, highest) of a number; None: no limit
    PER_ROW: ClassVar[tuple[str, ...]] = ()         # settings, numbers, that `of_row` keeps for the open episodes
    STATE: ClassVar[tuple[str, ...]] = ()           # attributes: the tensors that, with the generator, are its state
    rewards: ClassVar[tuple[str, ...]] = ()         # names in info["rewards"]
    metrics: ClassVar[tuple[str, ...]] = ()         # names in info["metrics"]
    curriculum: ClassVar[Mapping[str, Any] | None] = None       # the task's own, as envs.curriculum_forms reads it
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 30,
                                          "autoreset_mode": gym.vector.AutoresetMode.DISABLED}
    observation_space: gym.Space                    # of one row: a Box, or a Dict of Boxes
    action_space: gym.Space                         # of one row: a Box with one dimension, or Discrete
    rows_per_group = 1
    trusted: ClassVar[bool] = False                 # whether `_step` needs no check: it returns what was checked
    spec: Any = None                                # gym.make_vec sets it

    def __init__(self, num_envs: int = 1, device: str | torch.device = "cpu", seed: int = 0,
                 dtype: torch.dtype = torch.float32, **settings: Any):
        """
        Args:
            num_envs: the number of groups, which is that of rows unless the task has several rows a group.
            seed: of `generator`.
            dtype: of observations (pictures are uint8), rewards and info.
            settings: values in place of those in SETTINGS.
        Raises:
            ConfigError: a setting is unknown or invalid.
        """
        self.num_groups, self.device, self.dtype = num_envs, torch.device(device), dtype
        self.on_cpu = self.device.type == "cpu"         # elsewhere, to ask for a value is to wait for the device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._take({**self.SETTINGS, **self.checked(settings)})
        self.setup()
        check_spaces(self)
        self.active = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        self.row_settings = self.per_row.repeat(self.num_envs, 1)                   # (N, K), K = len(PER_ROW)
        self.obs: Obs | None = None

    # What a task writes ---------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def setup(self) -> None:
        """Set the spaces, the tensors of the state, and `rows_per_group` if it is not 1, by `self.settings`."""

    @abc.abstractmethod
    def _reset(self, rows: Tensor) -> Obs:
        """Begin a new episode in these rows, (N,) bool, whole groups, by the present `settings`.

        A task whose groups differ in size sets `self.active` of these rows here; it is True before.

        Returns:
            Observations (N, ...); those of the other rows are not read.
        """

    @abc.abstractmethod
    def _step(self, acts: Tensor) -> Step:
        """Step all rows, as `step` describes; what is returned of rows that are not active is not read."""

    def render(self, row: int = 0) -> np.ndarray:
        """Draw a row: RGB, uint8 (H, W, 3)."""
        raise ConfigError(f"env: {type(self).__name__} draws no pictures, expected a task with render()")

    def close(self) -> None:                        # noqa: B027
        """Release what the environment holds."""

    # What a caller uses ---------------------------------------------------------------------------------------------

    def reset(self, mask: Tensor | None = None) -> Obs:
        """Begin a new episode where `mask`, (N,) bool, is true; everywhere if it is None.

        A group begins anew if each of its rows is in the mask or inactive, and one at least is in the mask. So with
        `reset(terminated | truncated)` after each step, a row waits, inactive, until its whole group is over.

        Returns:
            Observations (N, ...); the last ones of rows that do not begin anew.
        Raises:
            ConfigError: the task's observations are not what its space says.
        """
        if self.obs is None or mask is None:
            mask = torch.ones_like(self.active)
        rows = self.beginning(mask)
        if self.on_cpu and not rows.any():
            return self.obs
        self.active = self.active | rows
        if self.PER_ROW:
            self.row_settings = torch.where(rows[:, None], self.per_row, self.row_settings)
        obs = self._reset(rows)
        check_obs(self, obs)
        self.obs = obs if self.obs is None else choose(rows, obs, self.obs)
        return self.obs

    def beginning(self, mask: Tensor) -> Tensor:
        """Return the rows, (N,) bool, in which `reset(mask)` begins a new episode: whole groups."""
        if self.rows_per_group == 1:
            return mask
        mask, active = (rows.view(-1, self.rows_per_group) for rows in (mask, self.active))
        whole = (mask | ~active).all(1) & mask.any(1)
        return whole.repeat_interleave(self.rows_per_group)

    def step(self, acts: Tensor) -> Step:
        """Step all rows.

        Args:
            acts: (N, A), within the bounds of the action space, or (N,) indices.
        Returns:
            Observations (N, ...), the last ones of episodes that end; rewards (N,); terminated (N,) bool, the task
            ended; truncated (N,) bool, time was up; and info, with "rewards", the parts of the reward, and "metrics",
            each names -> (N,). A metric is the value so far of the row's episode; at its last step, of the episode.
        Raises:
            ConfigError: the actions, or what the task returns, have another shape or dtype.
        """
        check_acts(self, acts)
        step = self._step(acts.to(self.dtype) if acts.is_floating_point() else acts)
        if not self.trusted:
            check_step(self, step)
        self.obs, rews, terminated, truncated, info = step
        if self.rows_per_group > 1:
            self.active = self.active & ~(terminated | truncated)
        return self.obs, rews, terminated, truncated, {"rewards": {}, "metrics": {}, **info}

    def configure(self, **settings: Any) -> None:
        """Change settings of the episodes that begin from now on; of the open ones where the task says so.

        `self.settings` changes at once. So a setting that `_reset` reads, or `of_row`, changes with a row's next
        episode, and one that `_step` reads changes at once.

        Raises:
            ConfigError: a setting is unknown or invalid; the message names the nearest one.
        """
        self._take(self.settings | self.checked(settings))

    def _take(self, settings: dict[str, Value]) -> None:
        self.settings = settings
        self.per_row = torch.tensor([float(settings[name]) for name in self.PER_ROW], dtype=self.dtype,
                                    device=self.device)                             # (K,), for the next episodes

    @classmethod
    def checked(cls, settings: Mapping[str, Any]) -> dict[str, Value]:
        """Return settings as values of the types in SETTINGS.

        Raises:
            ConfigError: one is unknown or invalid.
        """
        return checked(cls.__name__, cls.SETTINGS, cls.LIMITS, settings)

    def state(self) -> dict[str, Tensor]:
        """Return copies, on the CPU, of all tensors that the future depends on; open episodes are in them."""
        tensors = {name: getattr(self, name) for name in (*self.STATE, "active", "row_settings")}
        tensors |= {f"settings/{name}": as_tensor(value) for name, value in self.settings.items()}
        tensors |= named("obs", self.obs) | {"generator": self.generator.get_state()}
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    def restore(self, state: Mapping[str, Tensor]) -> Tensor:
        """Restore what `state` returned, in an environment that was made in the same way.

        Returns:
            (N,) bool: the rows whose open episode could not be restored, and that begin another one. None of a task
            that is tensors; of Gymnasium's environments (`envs.batch`) those that do not repeat themselves.
        Raises:
            ConfigError: it is of another task, or of another number of rows.
        """
        if self.obs is None:
            self.reset()
        found = {name: taken(state, name, getattr(self, name)) for name in (*self.STATE, "active", "row_settings")}
        obs = {name: taken(state, name, tensor) for name, tensor in named("obs", self.obs).items()}
        for name, tensor in found.items():
            setattr(self, name, tensor)
        self.obs = unnamed("obs", obs)
        self._take({name: as_value(state[f"settings/{name}"], value) for name, value in self.SETTINGS.items()})
        self.generator.set_state(state["generator"])
        return torch.zeros_like(self.active)

    @property
    def num_envs(self) -> int:
        """The number of rows, N."""
        return self.num_groups * self.rows_per_group

    @property
    def row_group(self) -> Tensor:
        """The group of each row, (N,) int64; the rows of a group are neighbours."""
        return torch.arange(self.num_envs, device=self.device) // self.rows_per_group

    @property
    def unwrapped(self) -> TensorEnv:
        """The environment itself, as `gym.make_vec` expects."""
        return self

    # Helpers of a task ----------------------------------------------------------------------------------------------

    def renew(self, rows: Tensor, draw: Callable[[int], dict[str, Tensor]]) -> None:
        """Write `draw(count)`, attributes -> (count, ...), into these rows, (N,) bool, of the state.

        On the CPU `count` is the number of these rows; elsewhere it is N.
        """
        if self.on_cpu:
            index = rows.nonzero()[:, 0]
            for name, value in draw(len(index)).items():        # copies: `info` may hold the present tensors
                setattr(self, name, getattr(self, name).index_put((index,), value))
            return
        for name, value in draw(self.num_envs).items():
            setattr(self, name, torch.where(over(rows, value), value, getattr(self, name)))

    def of_row(self, name: str) -> Tensor:
        """Return a setting of PER_ROW, (N,): as it was when the row's episode began."""
        return self.row_settings[:, self.PER_ROW.index(name)]

    def zeros(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return zeros (N, *shape)."""
        return torch.zeros(self.num_envs, *shape, dtype=dtype or self.dtype, device=self.device)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw from U(low, high) by the environment's generator."""
        return low + (high - low) * torch.rand(shape, generator=self.generator, dtype=self.dtype, device=self.device)
