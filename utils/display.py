"""Show runs on standard output: on a terminal a table a cycle and a progress bar; elsewhere plain lines."""

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
    """Print a line on standard output; after its reader has gone, do nothing."""
    print(line, file=Output(), flush=True)


class Output:
    """Standard output that may lose its reader: then output is dropped, and the program continues to run."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)

    def write(self, text: str) -> int:
        """Write text; returns its length."""
        with lasting():
            sys.stdout.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if there is a reader."""
        with lasting():
            sys.stdout.flush()


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Send standard output to nowhere if writing inside the block finds a broken pipe or a closed terminal."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):         # such as a full disk
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console(**options: Any) -> Console:
    """A console of Rich that writes to `Output`."""
    return Console(file=Output(), highlight=False, **options)


class Display:
    """Standard output, shared by the runs of this process, which may use it from several threads.

    A context manager: it restores the terminal at the end.
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
        """The part of one run; each of several runs has a name."""
        return View(self, run_length, name)

    def say(self, line: str) -> None:
        """Print a line."""
        self.console.print(line, markup=False)


class View:
    """One run's part of a display; its lines and tables begin with the run's name, if it has one."""

    def __init__(self, display: Display, run_length: int, name: str):
        self.display, self.name = display, name
        self.begins = f"{name}: " if name else ""
        self.task = display.bars.add_task(self.begins, total=run_length)

    def say(self, line: str) -> None:
        """Print a line with the run's name."""
        self.display.say(self.begins + line)

    def progress(self, steps: int) -> None:
        """Move the progress bar."""
        self.display.bars.update(self.task, completed=steps)

    def show(self, means: dict[str, float | None]) -> None:
        """Show the metrics of a cycle."""
        shown = {name: "" if value is None else f"{value:.6g}" for name, value in means.items()}
        if not self.display.is_terminal:
            self.say("  ".join(f"{name}={value}" for name, value in shown.items() if value))
            return
        table = Table(show_header=False, title=self.name or None)
        for name, value in shown.items():
            table.add_row(name, value, style="green" if name in ("Episodes", "Rewards") else None)
        self.display.console.print(table)

    def close(self) -> None:
        """Stop the clock of the progress bar."""
        self.display.bars.stop_task(self.task)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f} steps/s" if speed else "")
