"""What each method pays for the steps of an episode, beside the truth, as `evaluate.py --diagnose` wrote it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.labels import plain
from results.metrics import text_of
from results.records import Record
from results.styles import plain_ticks, styled

MOST_BYTES = 2**26
PREDICTED, TRUE = "tab:blue", "tab:orange"              # as in the picture and the video of evaluate.py


class Credit(NamedTuple):
    """An episode, (T,), and all episodes by the tenth of their length, (10,), with NaN where nothing is defined."""

    predicted: np.ndarray
    true: np.ndarray
    unit: str
    so_far: np.ndarray                  # correlation over episodes of what was paid with what was earned


def credits_of(records: Iterable[Record]) -> dict[str, dict[str, Credit]]:
    """Environment -> algorithm -> the credit of the last diagnosis, of the first run that has one."""
    found: dict[str, dict[str, Credit]] = {}
    for curve in (record.curve for record in records):
        if curve.algorithm not in found.get(curve.env, {}) and (credit := newest_credit(curve.path)) is not None:
            found.setdefault(curve.env, {})[curve.algorithm] = credit
    return found


def newest_credit(directory: Path) -> Credit | None:
    """Read the credit of the last evaluation of a run that has one; the files are named by time."""
    for path in sorted((directory / "evaluations").glob("*.json"), reverse=True):
        with contextlib.suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
            facts = json.loads(text_of(path, MOST_BYTES) or "{}")
            if isinstance(facts, dict) and "credit" in facts:
                return as_credit(facts["credit"])
    return None


def as_credit(facts: Mapping[str, Any]) -> Credit:
    """Return what the file says; a ValueError, TypeError or KeyError if it says something else."""
    predicted, true, so_far = (np.array(some, np.float64) for some in
                               (facts["predicted"], facts["true"], facts["by_step"]["pearson_so_far"]))
    if predicted.ndim != 1 or predicted.shape != true.shape or not len(true) or so_far.ndim != 1 \
            or not (np.isfinite(predicted).all() and np.isfinite(true).all()):
        raise ValueError("credit: expected numbers of the steps of an episode")
    return Credit(predicted, true, str(facts["unit"]), so_far)


def credit_figure(env: str, credits: Mapping[str, Credit]) -> Figure:
    """A row for each method: its payments by step, what they add up to, and how early they tell episodes apart."""
    with styled():
        figure = Figure((7.2, 0.9 + 1.35 * len(credits)), layout="constrained")
        rows = figure.subplots(len(credits), 3, squeeze=False, width_ratios=(2, 2, 1.2))
        for (name, credit), (by_step, summed, so_far) in zip(credits.items(), rows, strict=True):
            lines = _pair(by_step, credit, credit.true, credit.predicted)
            _pair(summed, credit, credit.true.cumsum(), credit.predicted.cumsum())
            _so_far(so_far, credit)
            by_step.set_title(plain(name), fontsize=7, loc="left")
        for axes, text in zip(rows[-1], ("step", "step", "share of the episode"), strict=True):
            axes.set_xlabel(text, fontsize=7)
        for axes in figure.axes:
            plain_ticks(axes)
        rows[0][1].set_title("summed up", fontsize=7, loc="left")
        rows[0][2].set_title("correlation so far", fontsize=7, loc="left")
        figure.suptitle(f"{plain(env)}: what the steps of an episode are paid", fontsize=8, x=0.01, ha="left")
        figure.legend(handles=lines, loc="outside lower center", ncols=2)
    return figure


def _pair(axes: Axes, credit: Credit, true: np.ndarray, predicted: np.ndarray) -> list:
    """Draw both by step; payments in another unit than the reward's have a scale of their own, on the right."""
    steps = np.arange(1, len(true) + 1)
    other = axes if credit.unit == "reward" else axes.twinx()
    return [*axes.plot(steps, true, color=TRUE, linewidth=0.8, label="true reward"),
            *other.plot(steps, predicted, color=PREDICTED, linewidth=0.8, label="predicted")]


def _so_far(axes: Axes, credit: Credit) -> None:
    share = (np.arange(len(credit.so_far)) + 1) / max(len(credit.so_far), 1)
    axes.plot(share, credit.so_far, color="0.3", linewidth=0.8, marker=".", markersize=3)
    axes.set_ylim(-1.05, 1.05)
    axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)
