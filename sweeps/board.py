"""The display of a sweep: on a terminal a table of its trials, elsewhere a line for each change."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from rich.cells import cell_len, set_cell_size
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweeps.suite import Trial
from utils.display import console, say

ORDER = ("running", "failed", "stopped", "elsewhere", "done", "pruned")       # of the rows of the table
STYLES = {"done": "green", "failed": "red", "running": "bold"}
HEADINGS = ("state", "steps", "left", "return")
NARROW = 80                 # columns of a terminal below which the table has no lines, and steps are 450k/1M
BESIDE = 7                  # lines of a terminal that hold no trial


@contextlib.contextmanager
def live_table(trials: Sequence[Trial]) -> Iterator[Callable[[], None]]:
    """A function that shows the trials: on a terminal as a table that is redrawn, elsewhere a line for each change."""
    screen = console()
    if not screen.is_terminal:
        changes = Changes(trials)
        yield changes.say
        changes.say()
        return
    with Live(table(trials, screen.height, screen.width), console=screen, refresh_per_second=2) as live:
        yield lambda: live.update(table(trials, screen.height, screen.width))
        live.update(table(trials, screen.height, screen.width))


class Changes:
    """Prints each change of a trial's state once."""

    def __init__(self, trials: Sequence[Trial]):
        self.trials, self.seen = trials, {}

    def say(self) -> None:
        """Print the changes since the last call."""
        for trial in self.trials:
            if self.seen.get(trial.name, "waiting") != trial.state:
                self.seen[trial.name] = trial.state
                say(f"{trial.name}: {trial.state}{_result(trial) if trial.state == 'done' else ''}")


def _result(trial: Trial) -> str:
    found = _return(trial)                              # none if evaluation is off
    return f"; return {found} after {trial.steps} steps" if found else f"; {trial.steps} steps" * bool(trial.steps)


def _return(trial: Trial) -> str:
    return f"{float(trial.fields['Rewards']):.6g}" if "Rewards" in trial.fields else ""


def table(trials: Sequence[Trial], height: int, width: int) -> Group:
    """As many trials as the terminal has room for, running ones first; their counts and the time left below."""
    now, is_narrow = time.monotonic(), width < NARROW
    shown = sorted((one for one in trials if one.state in ORDER), key=lambda trial: ORDER.index(trial.state))
    shown = shown[:max(1, height - BESIDE)]
    cells = [(trial.state, _steps(trial, is_narrow), _clock(trial.left(now)), _return(trial)) for trial in shown]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *cells, strict=True)]
    drawn = Table(box=None, pad_edge=False) if is_narrow else Table()
    room = width - sum(widths) - (2 * len(widths) if is_narrow else 3 * len(widths) + 4)
    drawn.add_column("trial", no_wrap=True)
    for name, size in zip(HEADINGS, widths, strict=True):
        drawn.add_column(name, min_width=size, no_wrap=True, justify="left" if name == "state" else "right")
    for trial, row in zip(shown, cells, strict=True):
        # Text: a name may look like markup
        drawn.add_row(*map(Text, (shortened(trial.name, room), *row)), style=STYLES.get(trial.state))
    left = seconds_left(trials, now)
    return Group(drawn, Text(counts(trials) + (f"; about {_clock(left)} left" if left is not None else "")))


def shortened(name: str, width: int) -> str:
    """A name in at least 8 columns of a terminal, without its middle if it is longer: its end says the seed."""
    width = max(width, 8)
    if cell_len(name) <= width:
        return name
    end = name
    while cell_len(end) > width // 2:
        end = end[1:]
    return set_cell_size(name, width - 1 - cell_len(end)) + "\N{HORIZONTAL ELLIPSIS}" + end


def _steps(trial: Trial, is_short: bool) -> str:
    shown = _short if is_short else str
    return f"{shown(trial.steps)}/{shown(trial.length)}" if trial.steps else ""


def _short(count: int) -> str:
    """1234567 -> 1.23M."""
    unit, name = (1_000_000, "M") if count >= 1_000_000 else (1000, "k")
    return f"{count / unit:.3g}{name}" if count >= 10_000 else str(count)


def _clock(seconds: float | None) -> str:
    """0:12:34; "" for None."""
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def counts(trials: Sequence[Trial]) -> str:
    """The numbers of trials by state: '3 done, 2 running, 7 waiting'."""
    return ", ".join(f"{count} {state}" for state, count in Counter(trial.state for trial in trials).items())


def seconds_left(trials: Sequence[Trial], now: float) -> float | None:
    """An estimate of the time until the last trial ends; None while no running trial has a speed.

    The steps that are left, over the mean speed times the number of running trials; at least what the slowest of these
    needs.
    """
    running = [trial for trial in trials if trial.state == "running"]
    speeds = [speed for trial in running if (speed := trial.speed)]
    if not speeds:
        return None
    steps = sum(trial.length - trial.expected(now) for trial in trials if trial.state in ("running", "waiting"))
    return max(steps / (sum(speeds) / len(speeds) * len(running)), *(trial.left(now) or 0 for trial in running))
