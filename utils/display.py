"""What is seen of runs: on a terminal a table a cycle, over a progress bar each; elsewhere plain lines."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text


def say(line: str) -> None:
    """A line on standard output; once nobody reads it any more, nothing is said."""
    print(line, file=Output(), flush=True)


class Output:
    """Standard output that outlives its reader: the work goes on, for its results go to files."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)

    def write(self, text: str) -> int:
        with lasting():
            sys.stdout.write(text)
        return len(text)

    def flush(self) -> None:
        with lasting():
            sys.stdout.flush()


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Where the pipe is broken or the terminal closed, nothing is said any more."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):         # a full disk is told
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console(**options: Any) -> Console:
    """Rich's, on such output."""
    return Console(file=Output(), highlight=False, **options)


class Display:
    """Standard output, which the runs of this process share; they may show themselves from threads of their own.

    A context manager: the terminal is restored at the end.
    """

    def __init__(self):
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")            # a tag may hold what the terminal cannot show
        self.console = console(soft_wrap=True)
        self.is_terminal = self.console.is_terminal
        self.bars = Progress(TextColumn("{task.description}{task.completed}/{task.total} steps"), BarColumn(), _Rate(),
                             TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
                             console=self.console, speed_estimate_period=300, disable=not self.is_terminal)

    def __enter__(self) -> Display:
        if self.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.is_terminal:
            self.bars.stop()

    def view(self, run_length: int, name: str = "") -> View:
        """Where one run shows itself; of several, each has a name."""
        return View(self, run_length, name)

    def say(self, line: str) -> None:
        """A line for people."""
        self.console.print(line, markup=False)


class View:
    """One run's part of a display; its lines and tables bear the run's name, if it has one."""

    def __init__(self, display: Display, run_length: int, name: str):
        self.display, self.name = display, name
        self.begins = f"{name}: " if name else ""
        self.task = display.bars.add_task(self.begins, total=run_length)

    def say(self, line: str) -> None:
        """A line for people."""
        self.display.say(self.begins + line)

    def progress(self, steps: int) -> None:
        """Move the progress bar."""
        self.display.bars.update(self.task, completed=steps)

    def show(self, means: dict[str, float | None]) -> None:
        """The metrics of a cycle."""
        shown = {name: "" if value is None else f"{value:.6g}" for name, value in means.items()}
        if not self.display.is_terminal:
            self.say("  ".join(f"{name}={value}" for name, value in shown.items() if value))
            return
        table = Table(show_header=False, title=self.name or None)
        for name, value in shown.items():
            table.add_row(name, value, style="green" if name in ("Episodes", "Rewards") else None)
        self.display.console.print(table)

    def close(self) -> None:
        """The run is over: its bar's clock stands still."""
        self.display.bars.stop_task(self.task)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f} steps/s" if speed else "")
