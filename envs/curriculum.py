"""Settings of a task that change over a run: by what its last episodes reached, or by the steps taken.

    curriculum = Curriculum([Stage({"success_threshold": 0.2}, {"success": 0.8}, 50), Stage({})])
    changes = curriculum.update(ended, steps)               # ended: metric -> values of the episodes that have ended
    if changes is not None:
        env.configure(**changes)

The caller owns it, not the environment, and calls `update` after each step in which episodes end, before their reset.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from envs.task_settings import Value
from utils.errors import ConfigError
from utils.text import did_you_mean

Bounds = tuple[float | None, float | None]              # (lowest, highest) mean
ALWAYS = ("return", "length")                           # metrics that every episode has


@dataclass(frozen=True)
class Stage:
    """Settings of the task, and what its episodes have to reach before the next stage.

    Attributes:
        until: metric -> the lowest mean over the last episodes, or (lowest, highest), None where there is no bound.
        episodes: the least number of episodes.
    """

    settings: Mapping[str, Value]
    until: Mapping[str, float | Bounds] = field(default_factory=dict)
    episodes: int = 1
    name: str = ""

    def bounds(self) -> dict[str, Bounds]:
        """Return `until` as metric -> (lowest, highest)."""
        return {name: tuple(bound) if isinstance(bound, Sequence) else (bound, None)
                for name, bound in self.until.items()}


class Curriculum:
    """Stages, one after another; the last one stays.

    The next stage begins when at least `episodes` episodes have ended and the mean of each metric over the last
    `window` episodes is within its bounds; at most one at each `update`. A metric that is NaN has no value for that
    episode (the time of a win that was none); one without any value is not within its bounds.
    """

    def __init__(self, stages: Iterable[Stage], window: int = 100, fresh: bool = True, keep: int | None = None):
        """
        Args:
            window: how many episodes a mean is over.
            fresh: whether each stage begins without episodes; otherwise those of the stages before count, too.
            keep: how many episodes are kept in `values`, at least `window`.
        Raises:
            ConfigError: there is no stage, or a number is wrong.
        """
        self.stages, self.window, self.fresh, self.keep = tuple(stages), window, fresh, max(keep or 0, window)
        if not self.stages or window < 1:
            raise ConfigError(f"curriculum: got {len(self.stages)} stages and window {window}, expected at least 1")
        self.stage = self.episodes = 0
        self.values: dict[str, deque[float]] = {}

    def settings(self) -> dict[str, Value]:
        """Return the settings of the present stage."""
        return self.of_stage(self.stage)

    def last_settings(self) -> dict[str, Value]:
        """Return the settings of the last stage, which evaluation plays."""
        return self.of_stage(len(self.stages) - 1)

    def of_stage(self, number: int) -> dict[str, Value]:
        """Return the settings of a stage, counted from 0."""
        return dict(self.stages[number].settings)

    def update(self, ended: Mapping[str, Iterable[float]], steps: int = 0) -> dict[str, Value] | None:
        """Count episodes that have ended; return the settings of the next stage if it begins, else None.

        Args:
            ended: metric -> a value of each episode, in order.
            steps: not read; those of the run so far.
        """
        self.record(ended)
        return self.advance()

    def record(self, ended: Mapping[str, Iterable[float]]) -> None:
        """Count episodes that have ended; see `update`."""
        columns = {name: [float(value) for value in values] for name, values in ended.items()}
        self.episodes += max(map(len, columns.values()), default=0)
        for name, values in columns.items():
            self.values.setdefault(name, deque(maxlen=self.keep)).extend(values)

    def advance(self) -> dict[str, Value] | None:
        """Begin the next stage if the present one is passed, and return its settings, else None."""
        if not self.passed():
            return None
        self.stage += 1
        if self.fresh:
            self.episodes, self.values = 0, {}
        return self.settings()

    def passed(self) -> bool:
        """Return whether the present stage is passed; the last one never is."""
        stage = self.stages[self.stage]
        if self.stage == len(self.stages) - 1 or self.episodes < stage.episodes:
            return False
        return all(_is_within(self.mean(name), bounds) for name, bounds in stage.bounds().items())

    def mean(self, name: str) -> float | None:
        """Return the mean of a metric over the last `window` episodes; None if it has no value there."""
        values = self.values.get(name, ())
        last = islice(values, max(len(values) - self.window, 0), None)
        known = [value for value in last if not math.isnan(value)]
        return math.fsum(known) / len(known) if known else None

    def state(self) -> dict[str, Any]:
        """Return the stage and its episodes, as JSON values."""
        values = {name: [None if math.isnan(value) else value for value in column]
                  for name, column in self.values.items()}
        return {"stage": self.stage, "episodes": self.episodes, "values": values}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.stage, self.episodes = int(state["stage"]), int(state["episodes"])
        self.values = {name: deque((math.nan if value is None else float(value) for value in values), self.keep)
                       for name, values in state["values"].items()}


class Schedule(Curriculum):
    """Stages that begin at given numbers of environment steps of the run."""

    def __init__(self, timesteps: Sequence[int], stages: Iterable[Stage]):
        """
        Args:
            timesteps: when each stage begins, ascending; the first at 0.
        Raises:
            ConfigError: they are of another number or order.
        """
        super().__init__(stages)
        self.timesteps = list(timesteps)
        if len(self.timesteps) != len(self.stages) or self.timesteps != sorted({0, *self.timesteps}):
            raise ConfigError(f"curriculum: got timesteps {self.timesteps}, expected {len(self.stages)}, one for each "
                              "stage, ascending from 0")

    def update(self, ended: Mapping[str, Iterable[float]], steps: int = 0) -> dict[str, Value] | None:
        """Return the settings of the stage that is due after `steps` steps if it is another one, else None."""
        due = bisect.bisect_right(self.timesteps, steps) - 1
        if due == self.stage:
            return None
        self.stage = due
        return self.settings()


def _is_within(mean: float | None, bounds: Bounds) -> bool:
    low, high = bounds
    return mean is not None and (low is None or mean >= low) and (high is None or mean <= high)


def complete(curriculum: Curriculum, settings: Mapping[str, Value]) -> None:
    """Let every stage set what any of them sets, by default as the run does, so that no stage leaks into the next.

    Args:
        settings: of the run's environment, with its own values.
    """
    touched = dict.fromkeys(name for stage in curriculum.stages for name in stage.settings)
    curriculum.stages = tuple(Stage({name: stage.settings.get(name, settings[name]) for name in touched},
                                    stage.until, stage.episodes, stage.name) for stage in curriculum.stages)


def check_metrics(curriculum: Curriculum, metrics: Iterable[str]) -> None:
    """Check that a curriculum reads metrics that the environment has.

    Raises:
        ConfigError: it does not; the message names the nearest one.
    """
    known = [*metrics, *ALWAYS]
    for name in (name for stage in curriculum.stages for name in stage.until if name not in known):
        raise ConfigError(f"curriculum: got metric {name!r}{did_you_mean(name, known)}, expected one of "
                          f"{', '.join(known)}")
