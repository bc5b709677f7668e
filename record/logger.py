"""Metrics, averaged over a cycle and written to `metrics.csv` and TensorBoard.

This thread writes the event files: tensorboardX's own writer uses a second thread, which does not report a full disk.
"""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from record.charts import shown
from utils.errors import ConfigError
from utils.files import saving, sync, write_file
from utils.floats import widened


class Logger:
    """Collect values by name without reading them, so that no update waits for the device."""

    def __init__(self, directory: Path, names: list[str], saved: Mapping[str, Any] | None = None,
                 points: Mapping[str, str | None] | None = None):
        """Begin a record, or resume one.

        Args:
            names: all metrics, in the order of the columns.
            saved: `state` of the record in the directory; lines that were written after it are removed.
            points: what metrics are called in TensorBoard, if not by their names; None: not written with a cycle.
        """
        self.points = dict(points or {})
        names = _columns(saved["csv"], names) if saved else names
        self.means = {name: Mean() for name in names}
        self.path, self.events = directory / "metrics.csv", directory / "tensorboard"
        self._restore(saved or {"csv": _line(names).decode(), "events": {}, "sums": {}})
        self.file = open(self.path, "ab")
        self.events.mkdir(exist_ok=True)
        # A run may be resumed twice within a second: files of one name would overwrite each other.
        with saving(self.events, 0):
            self.board = EventsWriter(str(self.events / "events"), f".{len(list(self.events.iterdir()))}.{os.getpid()}")

    def add(self, info: Mapping[str, float | np.ndarray | torch.Tensor]) -> None:
        """Add one value to each name; an array of several elements counts as their mean.

        Raises:
            ConfigError: a registered algorithm returns a metric that it does not name.
        """
        for name, value in info.items():
            self._mean(name).add(value)

    def add_sums(self, sums: Iterable[tuple[str, torch.Tensor, int]]) -> None:
        """Add many values to each name, given as (name, their sum, how many)."""
        for name, total, count in sums:
            self._mean(name).add(total, count)

    def set(self, info: Mapping[str, float]) -> None:
        """Set a value of each name, in place of those before: the last one of a cycle is recorded."""
        for name, value in info.items():
            mean = self._mean(name)
            mean.total, mean.count = float(value), 1

    def add_series(self, steps: Sequence[int], series: Mapping[str, np.ndarray]) -> None:
        """Add a value at each of some steps, and write each of them to TensorBoard.

        Args:
            steps: environment steps of the run, T of them.
            series: name -> (T,); NaN where it has no value.
        Raises:
            SaveError: the file could not be written.
        """
        with saving(self.events, 0):
            for name, values in series.items():
                self.points[name] = None                # its points are those of the steps
                known = values[~np.isnan(values)]
                self._mean(name).add(float(known.sum(dtype=np.float64)), len(known))
                for step, value in zip(steps, values.tolist(), strict=True):
                    self._write_point(name, value, step)

    def write(self, points: Mapping[str, float], step: int) -> None:
        """Write values to TensorBoard alone.

        Raises:
            SaveError: the file could not be written.
        """
        with saving(self.events, 0):
            for name, value in points.items():
                self._write_point(name, value, step)

    def _write_point(self, name: str, value: float, step: int) -> None:
        if math.isfinite(value):
            self.board.write_event(Event(step=step, wall_time=time.time(), summary=scalar(name, value)))

    def _mean(self, name: str) -> Mean:
        if name not in self.means:
            raise ConfigError(f"metric {name!r}: not among those that the algorithm names; expected it in train_info, "
                              "if q_loss or pi_loss gives it, in step_info (evaluate_step) or explore_info "
                              "(explore_metrics)")
        return self.means[name]

    def flush(self, steps: int) -> dict[str, float | None]:
        """Write the mean of all values since the last call to both files, and return it; None: there were none.

        Raises:
            SaveError: a file could not be written.
        """
        means = {name: mean.take() for name, mean in self.means.items()}
        line = _line(map(_as_text, means.values()))
        with saving(self.path, len(line)):
            self.file.write(line)
            self.file.flush()
        with saving(self.events, len(line)):
            for name, value in shown(means, self.points).items():
                if value is not None:
                    self._write_point(name, value, steps)
            self.board.flush()
        return means

    def close(self) -> None:
        """Close the files.

        Raises:
            SaveError: their last lines could not be written.
        """
        with saving(self.path, 0):
            self.board.close()
            self.file.close()

    def sums(self) -> dict[str, list[float]]:
        """Return what was added since the last `flush`: name -> (sum, count)."""
        return {name: [float(mean.total), mean.count] for name, mean in self.means.items() if mean.count}

    def set_sums(self, sums: Mapping[str, list[float]]) -> None:
        """Restore what `sums` returned."""
        for name, mean in self.means.items():
            mean.total, mean.count = sums.get(name, (0.0, 0))

    def state(self) -> dict[str, Any]:
        """Write everything to disk; return all rows, the sizes of the event files, and `sums`."""
        with saving(self.path, 0):
            self.file.flush()
            self.board.flush()
            for path in (self.path, *self.events.iterdir()):
                sync(path)
        sizes = {path.name: path.stat().st_size for path in self.events.iterdir()}
        return {"csv": self.path.read_bytes().decode(), "events": sizes, "sums": self.sums()}

    def _restore(self, saved: Mapping[str, Any]) -> None:
        write_file(self.path, _widened(saved["csv"], list(self.means)).encode())
        for path in sorted(self.events.iterdir()) if self.events.is_dir() else ():
            size = saved["events"].get(path.name)
            if size is None:
                path.unlink()
            elif path.stat().st_size > size:
                os.truncate(path, size)
        self.set_sums(saved["sums"])


def _columns(text: str, names: list[str]) -> list[str]:
    """The columns of a record, and behind them those of `names` that an earlier version, or other settings, lacked."""
    return list(dict.fromkeys([*next(csv.reader([text.partition("\n")[0]]), []), *names]))


def _widened(text: str, names: list[str]) -> str:
    """The text of a record with these columns; the new ones are empty."""
    rows = list(csv.reader(text.splitlines()))
    if not rows or rows[0] == names:
        return text
    return b"".join(_line([*row, *[""] * (len(names) - len(row))]) for row in [names, *rows[1:]]).decode()


def read_rows(directory: Path) -> list[dict[str, float]]:
    """Return the rows of a run's `metrics.csv`, one for each cycle, without the metrics that have no value."""
    with open(directory / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def as_row(means: Mapping[str, float | None]) -> dict[str, float]:
    """Return the row that `read_rows` returns for these metrics."""
    return {name: float(_as_text(value)) for name, value in means.items() if value is not None}


def _as_text(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


def _line(values: Iterable[str]) -> bytes:
    """Return a row of a CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text).writerow(values)
    return text.getvalue().encode()


class Mean:
    """A running mean of floats, or of tensors without waiting for their device.

    It keeps a sum instead of a list: thousands of small tensors that live for a cycle would be scattered over the heap,
    and keep hundreds of megabytes between them from being freed.
    """

    def __init__(self):
        self.total, self.count = 0.0, 0

    def add(self, value: float | np.ndarray | torch.Tensor, count: int = 1) -> None:
        """Add one value, or the sum of `count` values."""
        if isinstance(value, torch.Tensor):
            value = widened(value) if value.ndim == 0 else widened(value).mean()
        elif isinstance(value, np.ndarray):
            value = value.mean(dtype=np.float64)
        self.total, self.count = self.total + value, self.count + count

    def take(self) -> float | None:
        """Return the mean, None if nothing was added, and reset it."""
        mean = float(self.total) / self.count if self.count else None
        self.total, self.count = 0.0, 0
        return mean
