"""The cycles of runs as rows of a table on a terminal: as many columns as fit, the important ones first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

Metrics = dict[str, float | None]           # None: nothing was measured
HEADINGS = {"Timesteps": "steps", "Rewards": "return", "train/return": "train return", "Steps": "length",
            "train/length": "train length", "Episodes": "episodes", "TimeCost(sec)/train": "train sec",
            "TimeCost(sec)/test": "test sec"}
FIRST = ("Timesteps", "Rewards", "train/return", "Steps", "train/length", "Episodes")
LAST = ("TimeCost(sec)/train", "TimeCost(sec)/test")
COUNTS = ("Timesteps", "Episodes")
LEFT_OUT = ("Epoch", "Cycle")
GAP = "  "
WIDTH = 10                  # of a number, at most
REPEAT = 30                 # rows below a heading, after which it stands again


@dataclass(frozen=True)
class Column:
    """A column: the metric, its heading, its width."""

    metric: str
    heading: str
    width: int


def percent(steps: float | None, total: int) -> str:
    """The share of a run that is done: '33%', rounded down, so that only the end is 100%."""
    return f"{int(100 * (steps or 0) / total)}%"


def columns_of(names: Sequence[str], total: int, run: str, width: int) -> list[Column]:
    """The columns that fit into `width` characters, at least the first three.

    Args:
        names: of all metrics.
        total: steps of the run.
        run: its name, "" if there is only one.
    """
    found = [Column("run", "run", len(run))] * bool(run) + list(_columns(names, total))
    while sum(len(GAP) + one.width for one in found) - len(GAP) > width and len(found) > 3:
        found.pop()
    return found


def _columns(names: Sequence[str], total: int) -> Iterator[Column]:
    others = [name for name in names if name not in (*FIRST, *LAST, *LEFT_OUT)]
    for name in (*(name for name in FIRST if name in names), *others, *(name for name in LAST if name in names)):
        heading = HEADINGS.get(name, name)
        widest = len(str(total)) if name == "Timesteps" else 0 if name == "Episodes" else WIDTH
        if name == "Timesteps":
            yield Column("share", "done", 4)
        yield Column(name, heading, max(len(heading), widest))


class Rows:
    """The table of a display, whose runs share the headings."""

    def __init__(self) -> None:
        self.columns, self.below = [], 0

    def add(self, means: Metrics, total: int, run: str, width: int) -> list[Text]:
        """The lines of a cycle: its row, below a new heading if the columns have changed or the last one is far.

        Args:
            means: the metrics of the cycle.
            total, run, width: as for `columns_of`.
        """
        columns = columns_of([*means], total, run, width)
        new = columns != self.columns or self.below >= REPEAT
        self.columns, self.below = columns, 1 if new else self.below + 1
        row = Text(GAP).join(_cell(one, means, total, run) for one in columns)
        return [Text(GAP.join(f"{one.heading:>{one.width}}" for one in columns), style="bold"), row] if new else [row]


def _cell(column: Column, means: Metrics, total: int, run: str) -> Text:
    if column.metric == "run":
        return Text(f"{run:>{column.width}}")
    if column.metric == "share":
        return Text(f"{percent(means.get('Timesteps'), total):>{column.width}}")
    style = "green" if column.metric == "Rewards" else ""
    return Text(f"{_number(column.metric, means[column.metric]):>{column.width}}", style=style)


def _number(name: str, value: float | None) -> str:
    """At most `WIDTH` characters; a dash for what was not measured."""
    if value is None:
        return "-"
    if name in COUNTS:
        return f"{value:.0f}"
    return next(text for digits in (5, 4, 3) if len(text := f"{value:.{digits}g}") <= WIDTH)
