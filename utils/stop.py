"""Signals that end a run in good order: it saves itself, and says by its exit code that it may go on."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]
PATIENCE = 30.0         # seconds within which a run has saved itself
AGAIN = 75              # exit code: temporary failure, run the command again (EX_TEMPFAIL)
INTERRUPTED = 130       # exit code of Ctrl-C


class Stopped(BaseException):
    """Raised where nothing of a run is half done, once it is asked to stop. No error: `except Exception` lets it by."""


class Stop:
    """Whether the run, or each of several in threads, is to stop; a context manager that listens for signals.

    The first signal only sets this, whoever else is in the middle of something. Others change nothing; but after
    `PATIENCE` seconds, unless something is being saved, one more raises KeyboardInterrupt, for an environment may hang.
    """

    def __init__(self):
        self.event = threading.Event()
        self.signal: int | None = None
        self.since = 0.0
        self.saves = 0
        self.handlers: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():       # only there may handlers be set
            self.handlers = {number: signal.signal(number, self._hear) for number in SIGNALS if not by_nohup(number)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: object) -> None:
        if not self.is_set():
            self.signal, self.since = number, time.monotonic()
            self.set()
        elif not self.saves and time.monotonic() - self.since > PATIENCE:
            raise KeyboardInterrupt

    def is_set(self) -> bool:
        return self.event.is_set()

    def set(self) -> None:
        """As a signal would."""
        self.event.set()

    def check(self) -> None:
        """Raise Stopped if it is time."""
        if self.is_set():
            raise Stopped

    @property
    def exit_code(self) -> int:
        return INTERRUPTED if self.signal in (None, signal.SIGINT) else AGAIN

    def told(self) -> str:
        """What has happened, in a word or two."""
        return "interrupted" if self.exit_code == INTERRUPTED else f"stopped by {signal.Signals(self.signal).name}"


def by_nohup(number: int) -> bool:
    """Whether it is ignored because the run was started to outlive its terminal."""
    return signal.Signals(number).name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN
