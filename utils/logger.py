"""Metrics: averaged over a cycle, then to `metrics.csv` and TensorBoard."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from tensorboardX import SummaryWriter


class Logger:
    """Collects values by name without looking at them, so that no update waits for the device."""

    def __init__(self, directory: Path, names: list[str]):
        """names: every metric there can be, in the order of the columns."""
        self.means = {name: Mean() for name in names}
        self.file = open(directory / "metrics.csv", "w", newline="", encoding="utf-8")
        self.csv = csv.writer(self.file)
        self.csv.writerow(names)
        self.board = SummaryWriter(str(directory / "tensorboard"), flush_secs=10)

    def add(self, info: Mapping[str, float | np.ndarray | torch.Tensor]) -> None:
        """Count one value for each name; an array of several elements counts as their mean."""
        for name, value in info.items():
            self.means[name].add(value)

    def add_sums(self, sums: Iterable[tuple[str, torch.Tensor, int]]) -> None:
        """Count many values for each name, given as (name, their sum, how many)."""
        for name, total, count in sums:
            self.means[name].add(total, count)

    def flush(self, steps: int) -> dict[str, float | None]:
        """Average what was collected, write it to both files, and start anew. None: nothing was collected."""
        means = {name: mean.take() for name, mean in self.means.items()}
        self.csv.writerow(["" if value is None else f"{value:.10g}" for value in means.values()])
        self.file.flush()
        for name, value in means.items():
            if value is not None and math.isfinite(value):
                self.board.add_scalar(name, value, steps)
        self.board.flush()
        return means

    def close(self) -> None:
        self.board.close()
        self.file.close()


class Mean:
    """A running mean of floats, or of tensors without waiting for their device.

    A sum rather than a list: thousands of small tensors that live for a cycle scatter over the heap, and keep
    hundreds of megabytes between them from being given back.
    """

    def __init__(self):
        self.total, self.count = 0.0, 0

    def add(self, value: float | np.ndarray | torch.Tensor, count: int = 1) -> None:
        """One value, or the sum of `count` of them."""
        if isinstance(value, torch.Tensor):
            value = value.double() if value.ndim == 0 else value.double().mean()
        elif isinstance(value, np.ndarray):
            value = value.mean(dtype=np.float64)
        self.total, self.count = self.total + value, self.count + count

    def take(self) -> float | None:
        """The mean so far, None of nothing; starts anew."""
        mean = float(self.total) / self.count if self.count else None
        self.total, self.count = 0.0, 0
        return mean
