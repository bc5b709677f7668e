"""Read the records of runs: metrics, systems, errors, and images of learned rewards.

The files may be damaged or still growing. A part that cannot be read counts as absent.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from results.curves import MOST_STEPS, Curve, run_length
from results.metrics import Metrics, read_metrics, text_of
from results.reading import last_error
from utils.files import read_file
from utils.settings.json_files import MOST_BYTES

MOST_PICTURE = 2**22
PNG = b"\x89PNG\r\n\x1a\n"
REWARD = "Reward/"                      # `algorithm.decomposition.diagnosis.PREFIX`; its package imports PyTorch


@dataclass
class Record:
    """A run: its evaluation returns, metrics, system and error."""

    curve: Curve
    metrics: Metrics = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)         # run.json
    error: str = ""                     # type and first line of error.txt

    @property
    def steps(self) -> int:
        """The number of environment steps at the last row."""
        return int(max(self.curve.rows[-1, 0], _last(self.metrics.get("Timesteps"))))

    @property
    def length(self) -> int | None:
        """The number of steps that the run is set to make; None if its settings do not say."""
        return run_length(self.curve.settings)

    @property
    def seconds(self) -> tuple[float, float]:
        """The seconds spent on training and on evaluation."""
        return tuple(float(np.nansum(self.metrics.get(f"TimeCost(sec)/{kind}", 0.0))) for kind in ("train", "test"))

    @property
    def state(self) -> str:
        """"failed", "done", "not done", or "the original's" for a file of the original program."""
        if self.error:
            return "failed"
        if not self.curve.settings:
            return "the original's"
        return "done" if self.length is None or self.steps >= self.length else "not done"


def read_record(curve: Curve) -> Record:
    """Read the other files in the directory of a run; a file of the original program has none."""
    if not curve.path.is_dir():
        return Record(curve)
    return Record(curve, read_metrics(curve.path), read_facts(curve.path), last_error(curve.path))


def read_facts(directory: Path) -> dict[str, Any]:
    """Read run.json, an object; {} if it cannot be read."""
    try:
        facts = json.loads(text_of(directory / "run.json", MOST_BYTES) or "{}")
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def reward_curves(records: Iterable[Record]) -> dict[str, dict[str, list[Curve]]]:
    """Environment -> metric of a diagnosis -> its runs, with rows (diagnoses, 2): steps, value of the metric."""
    found: dict[str, dict[str, list[Curve]]] = {}
    for record in records:
        steps = record.metrics.get("Timesteps")
        for name in (name for name in record.metrics if name.startswith(REWARD) and steps is not None):
            # every column gets its place in the order, also if this run has no value there
            runs = found.setdefault(record.curve.env, {}).setdefault(name.removeprefix(REWARD), [])
            rows = np.column_stack([steps, record.metrics[name]])
            rows = rows[np.isfinite(rows).all(axis=1)]
            if len(rows) and (np.diff(rows[:, 0]) > 0).all():
                runs.append(record.curve._replace(rows=rows))
    some = {env: {name: runs for name, runs in numbers.items() if runs} for env, numbers in found.items()}
    return {env: numbers for env, numbers in some.items() if numbers}


def newest_picture(directory: Path) -> bytes:
    """The last PNG that `evaluate.py --diagnose` drew for the run, or b""; the files are named by time."""
    for path in sorted((directory / "evaluations").glob("*.png"), reverse=True):
        with contextlib.suppress(OSError, ValueError):
            data = read_file(path, MOST_PICTURE)
            if data.startswith(PNG):
                return data
    return b""


def _last(values: Sequence[float] | None) -> float:
    counts = [value for value in ([] if values is None else values) if abs(value) < MOST_STEPS]
    return counts[-1] if counts else 0.0
