"""The figures of plot.py, as wide as a column of text; needs matplotlib, the extra [plot]."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from results.curves import FEW, FEWER, Line
from results.labels import WIDE, ends_of, label_ends, plain, wrapped
from results.scores import AGGREGATES, Estimate, Improvement, Profile
from results.styles import DIFFERENT, Styles, missing_letters, plain_ticks, styled

WIDTH = 4.2                             # inches
MOST_PAIRS = 45                         # pairs in a figure: those of ten algorithms
UNITS = {1: "", 1e3: " (thousands)", 1e6: " (millions)"}
# The metrics of a diagnosis that are drawn, in this order, and the part of their range that is shown.
PANELS = {"pearson_within": (-1.05, 1.05), "spearman_within": (-1.05, 1.05), "std_within": (None, None),
          "pearson_across": (-1.05, 1.05), "spearman_across": (-1.05, 1.05), "r2": (-1.05, 1.05)}


def save(figure: Figure, path: Path) -> None:
    """Write `path`.png (200 dpi) and `path`.svg; the same figure gives the same bytes."""
    with styled():
        figure.savefig(path.with_name(path.name + ".png"), dpi=200)
        figure.savefig(path.with_name(path.name + ".svg"), metadata={"Date": None})


def notes(algorithms: Sequence[str], envs: Sequence[str], found: Sequence[Improvement]) -> Iterator[str]:
    """Warnings about letters, lines and pairs that the figures cannot show."""
    if letters := missing_letters([*algorithms, *envs]):
        yield f"no installed font has {letters[:20]}, boxes are drawn instead; Noto Sans CJK has most letters"
    if len(algorithms) > DIFFERENT:
        yield f"{len(algorithms)} algorithms share {DIFFERENT} kinds of lines; draw fewer at a time to tell them apart"
    if len(found) > MOST_PAIRS:
        yield (f"of {len(found)} probabilities of improvement only those of {found[0].x} are drawn; improvement.csv of "
               "plot.py has all")


# Learning curves ----------------------------------------------------------------------------------------------------

def learning_curves(env: str, lines: Sequence[Line], styles: Styles, window: int = 1,
                    metric: str = "") -> Figure:
    """The lines of one environment, averages with bands and thin single runs, labelled at their ends.

    Args:
        metric: what is drawn; evaluation returns if it is "".
    """
    with styled():
        ends = ends_of(lines)
        labels = sum(end.label.count("\n") + 1 for end in ends)
        figure = Figure((WIDTH, max(2.9, 1.1 + 0.13 * labels)), layout="constrained")
        axes = plain_ticks(figure.add_subplot())
        most = max(line.steps[-1] for line in lines if len(line.steps))
        unit = _unit(most)
        for line in joined(lines):
            _curve(axes, line, styles[line.algorithm], unit)
        axes.set_xlim(0, most / unit or 1)                   # labels are at the right edge
        axes.set_title(wrapped(env, WIDE), loc="left")
        axes.set_xlabel("environment steps" + UNITS[unit])
        axes.set_ylabel((metric or "mean return") + f", mean of {window} evaluations" * (window > 1))
        figure.legend(handles=_kinds(lines), loc="outside lower center", ncols=2, handlelength=1.6, columnspacing=1.5)
        label_ends(figure, axes, ends, styles, most)
    return figure


def joined(lines: Sequence[Line]) -> list[Line]:
    """The lines, where a FEWER one begins at the end of the average that it resumes."""
    averages = {line.algorithm: line for line in lines if line.kind in ("IQM", "mean")}
    return [_after(averages[line.algorithm], line) if line.kind == FEWER else line for line in lines]


def _after(average: Line, line: Line) -> Line:
    columns = {name: np.append(getattr(average, name)[-1:], getattr(line, name)) for name in ("steps", "runs", "value")}
    nothing = np.full(len(columns["steps"]), np.nan)
    return line._replace(**columns, low=nothing, high=nothing)


def _curve(axes: Axes, line: Line, style: dict, unit: float) -> None:
    average = line.kind in ("IQM", "mean")
    points = "." if len(line.steps) == 1 else ""
    axes.plot(line.steps / unit, line.value, **style, linewidth=1.6 if average else 0.7, alpha=1 if average else 0.7,
              marker=points)
    if np.isfinite(line.low).any():
        axes.fill_between(line.steps / unit, line.low, line.high, color=style["color"], alpha=0.2, linewidth=0)


def _kinds(lines: Sequence[Line]) -> list:
    """The legend of line widths and bands; the algorithms are labelled at the lines' ends."""
    kinds = {line.kind for line in lines}
    averages = [label for kind, label in (("IQM", "IQM (n ≥ 3)"), ("mean", "mean (n = 2)")) if kind in kinds]
    handles: list = []
    if averages:
        handles.append(Line2D([], [], color="0.3", linewidth=1.6, label=", ".join(averages)))
    if "IQM" in kinds:
        handles.append(Patch(color="0.3", alpha=0.2, linewidth=0, label="95 % bootstrap interval"))
    if FEWER in kinds:
        handles.append(Line2D([], [], color="0.3", linewidth=0.7, label=f"mean of fewer than {FEW}"))
    if kinds - {"IQM", "mean", FEWER}:
        handles.append(Line2D([], [], color="0.3", linewidth=0.7, label="single run"))
    return handles


# Learned rewards ----------------------------------------------------------------------------------------------------

def reward_numbers(env: str, numbers: Mapping[str, Sequence[Line]], styles: Styles) -> Figure:
    """A panel for each metric of PANELS that the runs have, with the lines of all algorithms."""
    names = [name for name in PANELS if name in numbers] or [*numbers][:len(PANELS)]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    every = [line for name in names for line in numbers[name]]
    unit = _unit(max(line.steps[-1] for line in every if len(line.steps)))
    with styled():
        figure = Figure((max(WIDTH, 2.3 * columns), 0.7 + 1.7 * rows), layout="constrained")
        panels = [plain_ticks(axes) for axes in figure.subplots(rows, columns, squeeze=False).flat]
        for name, axes in zip(names, panels, strict=False):
            _panel(axes, name, numbers[name], styles, unit)
        for axes in panels[max(0, len(names) - columns):len(names)]:            # nothing stands below these
            axes.set_xlabel("environment steps" + UNITS[unit], fontsize=7)
        for axes in panels[len(names):]:
            axes.set_axis_off()
        figure.suptitle(f"{plain(env)}: the learned reward beside the true one", fontsize=8, x=0.01, ha="left")
        shown = dict.fromkeys(line.algorithm for line in every)
        handles = [Line2D([], [], **styles[name], label=plain(name)) for name in shown]
        figure.legend(handles=[*handles, *_kinds(every)], loc="outside lower center", ncols=3, handlelength=1.6,
                      columnspacing=1.5)
    return figure


def _panel(axes: Axes, name: str, lines: Sequence[Line], styles: Styles, unit: float) -> None:
    for line in joined(lines):
        _curve(axes, line, styles[line.algorithm], unit)
    axes.set_title(plain(name), fontsize=7, loc="left")
    _limit(axes, *PANELS.get(name, (None, None)))


def _limit(axes: Axes, low: float | None, high: float | None) -> None:
    """Limit the axis to [low, high]; R2 has no lower bound, and a very negative value is not informative.

    The panel of a curve that is nowhere within them shows all of [low, high].
    """
    bottom, top = axes.get_ylim()
    limits = bottom if low is None else max(low, bottom), top if high is None else min(high, top)
    axes.set_ylim(limits if limits[0] < limits[1] else (low, high))
    axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)


# Over all environments ----------------------------------------------------------------------------------------------

def aggregates(found: Sequence[Estimate], styles: Styles) -> Figure:
    """A panel for each statistic, an interval for each algorithm."""
    names = list(dict.fromkeys(one.algorithm for one in found))[::-1]
    with styled():
        figure = Figure((WIDTH, 1.5 + 0.5 * len(names)), layout="constrained")
        panels = [plain_ticks(axes) for axes in figure.subplots(2, 2, sharey=True).flat]
        for axes, statistic in zip(panels, AGGREGATES, strict=True):
            for one in (one for one in found if one.statistic == statistic):
                _interval(axes, names.index(one.algorithm), one, one.value, styles[one.algorithm]["color"])
            better = "lower is better" if statistic == "optimality gap" else "higher is better"
            axes.set_title(f"{statistic} ({better})", fontsize=7, loc="left")
            _rows(axes, [wrapped(name) for name in names])
            axes.use_sticky_edges = False
            axes.margins(x=0.06)
        figure.supxlabel("normalised score", fontsize=8)
    return figure


def improvements(found: Sequence[Improvement], styles: Styles) -> Figure:
    """P(X > Y) of each pair with its interval; of more than MOST_PAIRS only those with the best algorithm."""
    if len(found) > MOST_PAIRS:
        found = [one for one in found if one.x == found[0].x]
    with styled():
        figure = Figure((WIDTH, 0.8 + 0.36 * len(found)), layout="constrained")
        axes = plain_ticks(figure.add_subplot())
        for row, one in enumerate(reversed(found)):
            _interval(axes, row, one, one.probability, styles[one.x]["color"])
        axes.axvline(0.5, color="0.3", linewidth=0.8, linestyle=":", zorder=0)
        axes.set(xlim=(-0.02, 1.02), xlabel="probability that a run of the first is better")
        _rows(axes, [f"{plain(one.x)}\nover {plain(one.y)}" for one in reversed(found)])
    return figure


def _interval(axes: Axes, row: int, one: Estimate | Improvement, value: float, colour: str) -> None:
    if np.isfinite(one.low):
        axes.barh(row, one.high - one.low, left=one.low, height=0.55, color=colour, alpha=0.35, linewidth=0)
    axes.plot([value, value], [row - 0.275, row + 0.275], color=colour, linewidth=1.8, solid_capstyle="butt")


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, linespacing=1.0)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def profiles(found: Sequence[Profile], styles: Styles) -> Figure:
    """The share of runs above each score, as a line with steps."""
    with styled():
        figure = Figure((WIDTH, 2.4 + 0.15 * -(-len(found) // 2)), layout="constrained")
        axes = plain_ticks(figure.add_subplot())
        for one in found:
            style = styles[one.algorithm]
            axes.plot(one.taus, one.share, **style, drawstyle="steps-post")
            if np.isfinite(one.low).any():
                axes.fill_between(one.taus, one.low, one.high, step="post", color=style["color"], alpha=0.15,
                                  linewidth=0)
        axes.set(ylim=(-0.02, 1.02), xlabel="normalised score $\\tau$", ylabel="share of runs with score > $\\tau$")
        axes.margins(x=0)
        handles = [Line2D([], [], **styles[one.algorithm], label=plain(one.algorithm)) for one in found]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=1.6, columnspacing=1.5)
    return figure


# Text ---------------------------------------------------------------------------------------------------------------

def _unit(most: float) -> float:
    return 1e6 if most >= 2e6 else 1e3 if most >= 2e3 else 1
