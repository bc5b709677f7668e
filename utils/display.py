"""Display runs: on a terminal a row for each cycle and a progress bar, elsewhere plain lines."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from utils.rows import Rows, percent

WIDE = 80                   # columns of a terminal from which a progress bar shows the time that has passed


def say(line: str) -> None:
    """Print a line on standard output; do nothing if its reader has closed it."""
    print(line, file=Output(), flush=True)


class Output:
    """Standard output that ignores a closed reader, because the results of a run are written to files.

    Characters that its encoding lacks become question marks.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)

    def write(self, text: str) -> int:
        """Write a text; return its length."""
        encoding = getattr(sys.stdout, "encoding", None)
        if encoding:
            text = text.encode(encoding, "replace").decode(encoding)
        with lasting():
            sys.stdout.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush standard output."""
        with lasting():
            sys.stdout.flush()


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Redirect standard output to nowhere once its pipe is broken or its terminal closed."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):         # such as a full disk
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console(**options: Any) -> Console:
    """Return a console of Rich on `Output`; in a notebook it prints plain lines."""
    return Console(file=Output(), highlight=False, force_jupyter=False, **options)


class Display:
    """Standard output, shared by the runs of this process, which may be in several threads.

    A context manager, which restores the terminal.
    """

    def __init__(self) -> None:
        self.console = console(soft_wrap=True)
        self.is_terminal = self.console.is_terminal
        elapsed = [TimeElapsedColumn()] * (self.console.width >= WIDE)
        self.bars = Progress(TextColumn("{task.description}{task.completed}/{task.total} steps"), BarColumn(None),
                             _Rate(), *elapsed, TextColumn("left"), TimeRemainingColumn(), expand=True,
                             console=self.console, speed_estimate_period=300, disable=not self.is_terminal)
        self.rows, self.lock = Rows(), threading.Lock()

    def __enter__(self) -> Display:
        if self.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.is_terminal:
            self.bars.stop()

    def view(self, run_length: int, name: str = "") -> View:
        """Return the view of one run.

        Args:
            run_length: its number of environment steps.
            name: distinguishes it if there are several.
        """
        return View(self, run_length, name)

    def say(self, line: str) -> None:
        """Display a line."""
        self.console.print(line, markup=False)


class View:
    """The part of a display that belongs to one run; its name, if any, begins its lines and rows."""

    def __init__(self, display: Display, run_length: int, name: str):
        self.display, self.name, self.run_length = display, name, run_length
        self.begins = f"{name}: " if name else ""
        self.task = display.bars.add_task(self.begins, total=run_length)

    def say(self, line: str) -> None:
        """Display a line."""
        self.display.say(self.begins + line)

    def progress(self, steps: int) -> None:
        """Move the progress bar to `steps` environment steps."""
        self.display.bars.update(self.task, completed=steps)

    def show(self, means: dict[str, float | None]) -> None:
        """Display the metrics of a cycle."""
        if not self.display.is_terminal:
            self.say(self._line(means))
            return
        console = self.display.console
        with self.display.lock:
            for line in self.display.rows.add(means, self.run_length, self.name, console.width):
                console.print(line)

    def _line(self, means: dict[str, float | None]) -> str:
        """Return `Timesteps=40  Progress=33%  ...`; what was not measured is left out."""
        shown = {name: f"{value:.6g}" for name, value in means.items() if value is not None}
        parts = [f"{name}={value}" for name, value in shown.items()]
        if "Timesteps" in shown:
            parts.insert([*shown].index("Timesteps") + 1, f"Progress={percent(means['Timesteps'], self.run_length)}")
        return "  ".join(parts)

    def close(self) -> None:
        """Stop the clock of the progress bar."""
        self.display.bars.stop_task(self.task)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f} steps/s" if speed else "")
