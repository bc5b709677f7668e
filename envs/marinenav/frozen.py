"""Frozen worlds, which every evaluation plays: sampled once, by a seed of their own, stage by stage of a schedule."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from envs.marinenav.layout import Layout, joined
from envs.marinenav.sampler import sample, shortfall
from envs.marinenav.settings import DEFAULTS, LIMITS, Settings
from envs.task_settings import checked
from utils.errors import ConfigError

SEED = 253                      # of the published evaluation
COUNT = "num_episodes"
COLUMNS = (COUNT, "num_robots", "num_cores", "num_obstacles", "min_start_goal_dis")


def stages_of(schedule: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the stages of a schedule of lists, `{"num_episodes": [10, 10], "num_robots": [3, 5]}`, in order.

    Raises:
        ConfigError: a name is unknown, a value invalid, or a list of another length.
    """
    for name in schedule:
        if name not in COLUMNS:
            raise ConfigError(f"eval_worlds: got {name!r}, expected {', '.join(COLUMNS)}")
    counts = schedule.get(COUNT)
    if not isinstance(counts, list) or not counts or not all(_is_count(one) for one in counts):
        raise ConfigError(f"eval_worlds: got {counts!r} as {COUNT}, expected a list of integers, each at least 1")
    for name, column in schedule.items():
        if not isinstance(column, list) or len(column) != len(counts):
            raise ConfigError(f"eval_worlds: got {column!r} as {name}, expected a list as long as {COUNT}, of "
                              f"{len(counts)}")
    settings = [{name: column[i] for name, column in schedule.items() if name != COUNT} for i in range(len(counts))]
    return [{COUNT: count, **checked("MarineNav", DEFAULTS, LIMITS, one)}
            for count, one in zip(counts, settings, strict=True)]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100_000


def freeze(stages: list[dict[str, Any]], settings: Mapping[str, Any], seed: int = SEED) -> Layout:
    """Sample the worlds of all stages, in float64 on the CPU.

    Args:
        settings: of the worlds, where a stage says nothing.
    Raises:
        ConfigError: no robot found room in a world.
    """
    generator, layouts = torch.Generator().manual_seed(seed), []
    for stage in stages:
        rules = Settings(**settings | {name: value for name, value in stage.items() if name != COUNT})
        layout, _ = sample(stage[COUNT], rules, torch.float64, generator)
        if not layout.robot_exists.any(1).all():
            raise ConfigError(f"min_start_goal_dis: got {rules.min_start_goal_dis:g}, but no robot found room in "
                              f"{rules.proposals} proposals; expected a smaller distance")
        if line := shortfall(layout, rules):
            logging.getLogger("envs.marinenav").info(line)
        layouts.append(layout)
    return joined(layouts)
