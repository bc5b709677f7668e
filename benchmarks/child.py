"""A program in a process of its own that answers requests one at a time and sleeps between them.

Both are lines of JSON, on its standard input and output: {"ask": NAME, ARGUMENT: VALUE, ...}, and {"found": VALUE} or
{"error": TEXT}. What the program prints itself goes to its standard error. It ends with its input, and so with its
parent, in whatever way that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.clocks import how_it_ended, last_line
from utils.text import one_line

LIMIT = 600.0                   # seconds for a reply
GRACE = 5.0                     # seconds to end in


class Lost(Exception):
    """A contestant cannot be measured."""


# The parent ----------------------------------------------------------------------------------------------------------

class Child:
    """The parent's side; the process starts with the first request."""

    def __init__(self, name: str, command: Sequence[str], tell: Callable[[str], None], limit: float = LIMIT,
                 env: Mapping[str, str] | None = None):
        """Take what to start.

        Args:
            name: of the program in the notes.
            tell: takes a note of one line about each request that fails.
            limit: seconds for a reply, after which the process is killed.
            env: variables of the environment, besides this process's own.
        """
        self.name, self.command, self.tell, self.limit = name, [*command], tell, limit
        self.env = {**os.environ, **(env or {})}
        self.process: subprocess.Popen[str] | None = None
        self.over = False                                       # it ended, and is not started again

    def ask(self, what: str, **arguments: Any) -> Any:
        """Send a request and return its answer.

        Raises:
            Lost: the program failed at it, or has ended; `tell` got the reason.
        """
        if self.over:
            raise Lost(self.name)
        if self.process is None:
            self._start()
        reply = self._exchange(json.dumps({"ask": what, **arguments}) + "\n")
        if "found" in reply:
            return reply["found"]
        self.tell(f"{self.name}: {what}: {reply['error']}, so it is not compared")
        raise Lost(self.name)

    def close(self) -> int | None:
        """End the process; return its exit code, or None if it was never started."""
        self.over = True
        if self.process is None:
            return None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            return self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self.process.stdout.close()
            self.log.close()

    def _start(self) -> None:
        self.log = tempfile.NamedTemporaryFile()
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                        text=True, env=self.env)

    def _exchange(self, request: str) -> dict[str, Any]:
        """Return the reply; that of a process that ended, or that is late, is an error."""
        with contextlib.suppress(BrokenPipeError):              # it has ended, which the empty reply shows
            self.process.stdin.write(request)
            self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], self.limit)
        if reply := self.process.stdout.readline() if ready else "":
            return json.loads(reply)
        if not ready:
            self.process.kill()
        self.process.wait()
        said = last_line(Path(self.log.name))
        why = how_it_ended(self.close()) if ready else f"no reply in {self.limit:g} s"
        return {"error": f"{why} ({said})"}


# The child -----------------------------------------------------------------------------------------------------------

def serve(answers: Mapping[str, Callable[..., Any]]) -> None:
    """Answer the requests on standard input with the functions of these names, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)                # Ctrl-C is for the parent, which ends the input
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)                                               # what a library prints is not a reply
    with contextlib.suppress(BrokenPipeError):                  # the parent ended
        for line in sys.stdin:
            print(json.dumps(reply(answers, json.loads(line))), file=replies, flush=True)


def reply(answers: Mapping[str, Callable[..., Any]], request: dict[str, Any]) -> dict[str, Any]:
    """Return the reply to one request."""
    arguments = dict(request)
    try:
        return {"found": answers[arguments.pop("ask")](**arguments)}
    except Exception as error:
        return {"error": one_line(f"{type(error).__name__}: {error}")}
