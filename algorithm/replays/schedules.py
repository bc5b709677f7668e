"""Cases of learning rates over the run."""

from __future__ import annotations

from typing import Any

import numpy as np

from algorithm.learning_rates import LRSchedule
from algorithm.replays.case import Case

STEPS = 10**12                  # of the run, so many that the step at a progress is exact
END = 0.1                       # of the initial rate, where a setting names no end; also the fall of an exponential


def schedules_case(case: Case) -> dict[str, Any]:
    """`lr/<setting>` at each `progress`, from 0, the start, to 1, the end."""
    progress = case.array("progress")
    return {f"lr/{name}": rates(setting, progress) for name, setting in case.value("settings").items()}


def rates(setting: dict[str, Any], progress: np.ndarray) -> np.ndarray:
    """The learning rates of one setting."""
    lr, kind = setting["lr"], setting["kind"]
    if kind == "constant":
        return np.full(len(progress), lr)
    end = END if setting.get("lr_end") is None else setting["lr_end"] / lr
    warmup = 0.0 if kind == "exponential" else setting.get("warmup_fraction", 0.0)
    schedule = LRSchedule(kind, end, warmup, STEPS, start=end, decay=END)
    return np.array([lr * schedule(1 + at * STEPS) for at in progress])
