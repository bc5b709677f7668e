"""The trials of a grid, see `utils.settings.grid`."""

from __future__ import annotations

import dataclasses

from envs.names import with_version
from sweeps.suite import Trial
from utils.settings.cli import parse_args
from utils.settings.grid import Grid


def trials_of(grid: Grid) -> list[Trial]:
    """Return the trials of a grid, in its order.

    Raises:
        ConfigError: a setting of one is invalid.
    """
    trials = [Trial(name, settings, grid.modules) for name, settings in grid.trials.items()]
    for trial in trials:
        config = parse_args(trial.flags)
        trial.config = dataclasses.replace(config, env=with_version(config.env))
    return trials
