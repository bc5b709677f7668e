"""Labels of curves: at the right edge of a figure, beside the ends of the curves, where they do not overlap."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.curves import FEWER, Line
from results.styles import Styles

LABEL = 7                               # points
WRAP, WIDE = 17, 56                     # characters of a line of a label, and of a title
NEAR = 0.97                             # the share of the steps before which a curve ends far from its label


class End(NamedTuple):
    """Where the curve of an algorithm ends, and its label."""

    algorithm: str
    label: str
    step: float
    value: float


def ends_of(lines: Sequence[Line]) -> list[End]:
    """The end of each algorithm's longest line; of equally long ones that of its average."""
    found: dict[str, list[Line]] = {}
    for line in (line for line in lines if len(line.steps)):
        found.setdefault(line.algorithm, []).append(line)
    return [_end(name, some) for name, some in found.items()]


def _end(algorithm: str, lines: Sequence[Line]) -> End:
    """n: of single runs their number, of which those that reach the end are told."""
    last = max(lines, key=lambda line: (line.steps[-1], line.kind in ("IQM", "mean")))
    single = [line for line in lines if line.kind not in ("IQM", "mean", FEWER)]
    most = max(len(single), *(line.runs.max() for line in lines))
    there = sum(line.steps[-1] == last.steps[-1] for line in single) if single else last.runs[-1]
    count = f"n={most}" if there == most else f"n={there} of {most}"
    return End(algorithm, f"{wrapped(algorithm)} ({count})", last.steps[-1], last.value[-1])


def label_ends(figure: Figure, axes: Axes, ends: Sequence[End], styles: Styles, most: float) -> None:
    """Write labels at the right edge, as high as their lines end, moved apart where they would overlap.

    A dotted line leads from the end of a curve that ends before `most` steps to its label.
    """
    texts = [axes.annotate(end.label, (1.02, 0.5), xycoords="axes fraction", fontsize=LABEL, va="center",
                           color=styles[end.algorithm]["color"], linespacing=1.0, annotation_clip=False)
             for end in ends]
    figure.draw_without_rendering()                     # computes the sizes of axes and labels
    box = axes.get_window_extent()
    low, high = axes.get_ylim()
    sizes = [text.get_window_extent().height / box.height * 1.05 for text in texts]
    wanted = [(end.value - low) / (high - low) for end in ends]
    for end, text, height, place in zip(ends, texts, wanted, spread(wanted, sizes), strict=True):
        text.xyann = (1.02, place)
        if end.step < NEAR * most:
            axes.plot([end.step / most, 1.01], [height, place], transform=axes.transAxes, linestyle=":", linewidth=0.7,
                      color=styles[end.algorithm]["color"], clip_on=False)


def spread(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Positions near the wanted ones, in the same order, at which boxes of these sizes do not overlap, inside [0, 1].

    Boxes that touch form a pile, centred at the mean of their wanted positions. A pile larger than 1 is centred at 0.5.
    """
    order = np.argsort(wanted, kind="stable")
    piles: list[tuple[float, float, list[int]]] = []    # (centre, size, members)
    for index in order:
        pile = (_inside(wanted[index], sizes[index]), sizes[index], [index])
        while piles and piles[-1][0] + piles[-1][1] / 2 > pile[0] - pile[1] / 2:
            pile = _join(piles.pop(), pile)
        piles.append(pile)
    places = [0.0] * len(wanted)
    for centre, size, members in piles:
        edge = centre - size / 2
        for index in members:
            places[index] = float(edge + sizes[index] / 2)
            edge += sizes[index]
    return places


def _join(below: tuple, above: tuple) -> tuple[float, float, list[int]]:
    members = below[2] + above[2]
    centre = (below[0] * len(below[2]) + above[0] * len(above[2])) / len(members)
    size = below[1] + above[1]
    return _inside(centre, size), size, members


def _inside(centre: float, size: float) -> float:
    return 0.5 if size > 1 else min(max(centre, size / 2), 1 - size / 2)


def wrapped(name: str, width: int = WRAP) -> str:
    """A name in lines of so many characters at most."""
    return plain("\n".join(textwrap.wrap(name, width, break_on_hyphens=False)))


def plain(name: str) -> str:
    """Escape a name for matplotlib: a $ would begin a formula, a _ at the start would hide the label."""
    return re.sub(r"^_", " _", name.replace("$", r"\$"))
