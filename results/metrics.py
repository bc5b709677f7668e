"""Read metrics.csv of a run, which may be damaged or still growing. What cannot be read counts as absent."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from results.curves import MOST_STEPS
from utils.files import read_file
from utils.text import did_you_mean, shown

LARGEST = 1e100                     # magnitude of a number; sums of squares stay finite
MOST_CSV = 2**27                    # bytes
STEPS = "Timesteps"
Metrics = dict[str, np.ndarray]     # column -> (rows,), NaN for an empty cell


def read_metrics(directory: Path) -> Metrics:
    """Read the columns of metrics.csv."""
    rows = [_cells(line) for line in text_of(directory / "metrics.csv", MOST_CSV).replace("\0", "").splitlines()]
    names, cells = (rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]) if rows else ([], [])
    return {name: np.array([_number(row[i]) for row in cells]) for i, name in enumerate(names)}


def metric_rows(directory: Path, name: str) -> np.ndarray:
    """Read (rows, 2): environment steps and the value of a metric, where it has one.

    Raises:
        ValueError: there is no such metric, or no row.
    """
    metrics = read_metrics(directory)
    if name not in metrics or STEPS not in metrics:
        hint = did_you_mean(name, metrics) or (f"; there are {', '.join(metrics)}" if metrics else "")
        raise ValueError(f"{shown(name)}: no such column in metrics.csv{hint}")
    rows = np.column_stack([metrics[STEPS], metrics[name]])
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        raise ValueError(f"no value of {shown(name)} yet")
    if (np.diff(rows[:, 0]) <= 0).any() or rows[-1, 0] >= MOST_STEPS:
        raise ValueError("steps that do not increase")
    return rows


def text_of(path: Path, most: int) -> str:
    """The text of a file of at most `most` bytes; "" if it cannot be read."""
    try:
        return read_file(path, most).decode("utf-8-sig", errors="replace")
    except (OSError, ValueError):
        return ""


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:                                   # a quote without an end
        return []


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if abs(number) <= LARGEST else math.nan
