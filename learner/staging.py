"""What a collector of a tensor environment records at each step, and the stage of its curriculum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from envs.curriculum import Curriculum
from envs.curriculum_forms import open_curriculum
from envs.registration import is_one_row
from envs.tensor import TensorEnv
from utils.settings.fields import Config

KINDS = ("rewards", "metrics")          # the parts of `info` that are columns of the record: rewards/NAME, metrics/NAME
STAGE = "Stage"
EVALUATED = "eval/metrics/"             # before the name of a metric of the episodes of an evaluation


def dense_columns(env: TensorEnv | type[TensorEnv]) -> list[str]:
    """Return the columns of what a tensor environment tells at every step."""
    return [f"{kind}/{name}" for kind in KINDS for name in getattr(env, kind)]


def task_columns(config: Config, env: gym.Env) -> list[str]:
    """Return the columns that a run on a tensor environment has beside the others.

    Args:
        env: what `envs.make_env` made for the run.
    """
    if not is_one_row(env):
        return []
    task = env.unwrapped.task
    return [*dense_columns(task), *([STAGE] if open_curriculum(config.curriculum, task) else []),
            *(evaluated_columns(env) if config.test_rollouts else [])]


def evaluated_columns(env: gym.Env | None) -> list[str]:
    """Return the columns of the metrics of whole episodes that an environment of evaluation tells."""
    return [EVALUATED + name for name in env.unwrapped.task.metrics] if env is not None and is_one_row(env) else []


class Dense:
    """The means over the active rows at each step of what the environment tells; nothing waits for the device."""

    def __init__(self, env: TensorEnv):
        self.env, self.columns = env, dense_columns(env)
        self.points: list[Tensor] = []                  # (M,) each, of the steps since `log`

    def add(self, info: Mapping[str, Any], active: Tensor) -> None:
        """Add a step; active: (N,) bool, the rows that took part. A value that is NaN is none."""
        if not self.columns:
            return
        values = torch.stack([info[kind][name] for kind in KINDS for name in getattr(self.env, kind)])      # (M, N)
        known = active & ~values.isnan()
        self.points.append(torch.where(known, values, 0).sum(1) / known.sum(1))         # NaN where no row has a value

    def log(self, logger: Any, steps: int) -> None:
        """Log the steps since the last call.

        Args:
            steps: of each environment so far.
        """
        if not self.points:
            return
        values = torch.stack(self.points).double().cpu().numpy()                        # (T, M), one transfer
        first = steps - len(values)
        self.points = []
        logger.add_series([(first + t + 1) * self.env.num_groups for t in range(len(values))],
                          dict(zip(self.columns, values.T, strict=True)))


class Staged:
    """The curriculum of a run, if it has one, and the environment that it changes."""

    def __init__(self, env: TensorEnv, curriculum: Curriculum | None):
        """Set the environment, which is not reset yet, to the first stage."""
        self.env, self.curriculum = env, curriculum
        if curriculum is not None:
            env.configure(**curriculum.settings())

    def update(self, over: Tensor, info: Mapping[str, Any], steps: int) -> None:
        """Count the episodes that end with a step, and begin the next stage if it is due.

        Call it before those rows are reset.

        Args:
            over: (N,) bool, the active rows whose episode ends.
            steps: of each environment so far.
        """
        if self.curriculum is None or not over.any():
            return
        told = {**info["metrics"], "return": info["return"], "length": info["length"]}
        ended = {name: values[over].tolist() for name, values in told.items()}
        changes = self.curriculum.update(ended, steps * self.env.num_groups)
        if changes is not None:
            self.env.configure(**changes)

    def log(self, logger: Any) -> None:
        """Log the stage."""
        if self.curriculum is not None:
            logger.set({STAGE: self.curriculum.stage})

    def state(self) -> dict[str, Any] | None:
        """Return the curriculum's state, as JSON values; None without one."""
        return None if self.curriculum is None else self.curriculum.state()

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Restore what `state` returned; the environment restores its settings itself."""
        if self.curriculum is not None and state is not None:
            self.curriculum.restore(state)
