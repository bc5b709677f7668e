"""The columns of a run's record."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from learner.diagnoser import columns as diagnosis_columns
from learner.rollouts import rollout_columns
from learner.staging import task_columns
from learner.worlds import COLUMNS as WORLD_COLUMNS
from learner.worlds import has_worlds
from utils.errors import ConfigError
from utils.settings.fields import Config
from utils.text import did_you_mean


def check_best(config: Config, columns: list[str]) -> None:
    """Raise a ConfigError if `best` names no column of the record."""
    name = config.best.removeprefix("-")
    if name not in columns:
        raise ConfigError(f"best: got {config.best!r}{did_you_mean(name, columns)}, expected one of "
                          f"{', '.join(columns)}, or one with a - before it")
    if name == "Rewards" and not config.test_rollouts:
        return                                          # without evaluations there is no best checkpoint


def metric_names(config: Config, env: gym.Env, agent: Any) -> list[str]:
    """Return the metrics of a run, after its counts and times, in the order of `metrics.csv`."""
    dropped = ["test/dropped"] if config.on_nan == "drop" else []
    worlds = WORLD_COLUMNS if has_worlds(config) and config.test_rollouts else ()
    return [*agent.explore_info, *agent.train_info, *agent.step_info, "Steps", "Rewards", *worlds,
            *rollout_columns(config), *dropped, *task_columns(config, env), *diagnosis_columns(config)]
