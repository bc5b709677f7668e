"""Sections of a benchmark, each in a process of its own and on its own clock.

A section measures named items, the most important first. Its process writes each result to a file at once; when the
section's time is over, the process is killed, and what was measured stays. An item that fails or crashes costs its own
result: the rest is measured in a new process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.errors import ConfigError
from utils.text import one_line

Item = Callable[[], dict[str, Any]]
PAUSE = 0.1                     # seconds between two looks at a process
START = "(start)"               # the name of an error before the first item


@dataclass(frozen=True)
class Section:
    """One entry of a table of sections."""

    title: str
    share: float                                # of the time, relative to the other sections'
    items: Callable[[Any], dict[str, Item]]     # the plan -> what is measured, by name, the most important first
    table: Callable[[dict[str, Any]], str]      # the results by item -> Markdown


class Restart(Exception):
    """Carries the result of an item after which the others need a new process."""


@dataclass
class Found:
    """What became of a section; goes into the JSON file as it is."""

    title: str
    seconds_allotted: float = 0.0
    seconds: float = 0.0
    skipped: str | None = None                                          # why
    planned: list[str] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)               # what is not possible, and why
    errors: dict[str, str] = field(default_factory=dict)
    cut_off: list[str] = field(default_factory=list)
    running: str | None = None                                          # the item that is measured

    @property
    def done(self) -> list[str]:
        return [*self.results, *self.refused, *self.errors]

    def take(self, event: dict[str, Any]) -> None:
        """Take what the process wrote: what it plans, the item that it begins, or what became of that."""
        self.planned = event.get("planned", self.planned)
        self.running = event.get("begins")
        for name, kept in (("found", self.results), ("refused", self.refused), ("error", self.errors)):
            if name in event:
                kept[event["item"]] = event[name]


# The process of a section --------------------------------------------------------------------------------------------

def serve(section: Section, plan: Any, done: list[str], events: Path) -> int:
    """Measure what is not done, and append each result to `events`; return 0 at the end, 1 if a new process is needed.

    A ConfigError of an item says what is not possible here, and is no failure.
    """
    with open(events, "a", encoding="utf-8") as file:
        def tell(**event: Any) -> None:
            print(json.dumps(event), file=file, flush=True)
        items = section.items(plan)
        tell(planned=list(items))
        for name in items:
            if name not in done:
                tell(begins=name)
                event, going = outcome(items[name])
                tell(item=name, **event)
                if not going:
                    return 1
    return 0


def outcome(measure: Item) -> tuple[dict[str, Any], bool]:
    """What becomes of one item, and whether the process can measure others."""
    try:
        return {"found": measure()}, True
    except ConfigError as error:
        return {"refused": str(error)}, True
    except Restart as restart:
        return {"found": restart.args[0]}, False
    except Exception as error:                          # after an error of CUDA's nothing works in this process
        traceback.print_exc()
        return {"error": one_line(f"{type(error).__name__}: {error}")}, False


# The clock -----------------------------------------------------------------------------------------------------------

def run_section(found: Found, start: Callable[..., subprocess.Popen], tell: Callable[[dict[str, Any]], None]) -> None:
    """Run a section for at most `found.seconds_allotted`, and fill `found`.

    Args:
        start: (names that are done, file of events, file of output, seconds left) -> its process, in a process group
            of its own.
        tell: called after each event.
    """
    began = time.monotonic()
    deadline = began + found.seconds_allotted
    try:
        while _run_once(found, start, tell, deadline):
            pass
    finally:
        found.seconds = time.monotonic() - began
        found.cut_off = [name for name in found.planned if name not in found.done]


def _run_once(found: Found, start: Callable, tell: Callable, deadline: float) -> bool:
    """One process; return whether another one has something to do."""
    before = len(found.done)
    with tempfile.TemporaryDirectory() as folder:
        events, output = Path(folder) / "events", Path(folder) / "output"
        events.touch()
        with open(output, "w", encoding="utf-8") as log:
            process = start(found.done, events, log, deadline - time.monotonic())
            with ended(process):
                for event in follow(process, events, deadline):
                    found.take(event)
                    tell(event)
        code, last = process.returncode, last_line(output)
    if time.monotonic() >= deadline:
        found.running = None
        return False
    if found.running is not None or (code and len(found.done) == before):
        found.errors[found.running or START] = f"{how_it_ended(code)}: {last}"
        found.running = None
    return code != 0 and before < len(found.done) < len(found.planned)


@contextlib.contextmanager
def ended(process: subprocess.Popen) -> Iterator[None]:
    """End a process, with those that it started."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def follow(process: subprocess.Popen, events: Path, deadline: float) -> Iterator[dict[str, Any]]:
    """Yield what a process writes, until it ends or the time is over."""
    with open(events, encoding="utf-8") as file:
        text, going = "", True
        while going:
            going = process.poll() is None and time.monotonic() < deadline
            *lines, text = (text + file.read()).split("\n")             # the last one is not whole yet
            yield from map(json.loads, lines)
            if going:
                time.sleep(PAUSE)


def how_it_ended(code: int) -> str:
    return f"the process ended by signal {-code}" if code < 0 else f"the process ended with code {code}"


def last_line(path: Path) -> str:
    """The last line of a process's output that says something."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "no output")
