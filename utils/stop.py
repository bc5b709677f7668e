"""Signals that stop a run: it saves its state first, and its exit code says that it can be resumed."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]
PATIENCE = 30.0         # seconds that a run may take to save its state
AGAIN = 75              # exit code: temporary failure, run the command again (EX_TEMPFAIL)
INTERRUPTED = 130       # exit code after Ctrl-C


class Stopped(BaseException):
    """Raised between two iterations of a run that was asked to stop. No error: `except Exception` does not catch it."""


class Stop:
    """Whether a run, or several runs in threads, must stop; a context manager that handles signals meanwhile.

    The first signal only sets this. Later ones have no effect, except after `PATIENCE` seconds: then one raises
    KeyboardInterrupt, unless the state is being saved, because an environment may hang.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal: int | None = None
        self.resumable = True                   # whether a stopped run can be resumed
        self.since = 0.0
        self.saves = 0
        self.handlers: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():       # Python allows handlers only there
            self.handlers = {number: handle(number, self._hear) for number in SIGNALS if not _is_left(number)}
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
        """Return whether the run must stop."""
        return self.event.is_set()

    def set(self) -> None:
        """Ask the run to stop, as a signal does."""
        self.event.set()

    def check(self) -> None:
        """Raise Stopped if the run must stop."""
        if self.is_set():
            raise Stopped

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C; after other signals 75, or 128 + their number if the run cannot be resumed."""
        if self.signal in (None, signal.SIGINT):
            return INTERRUPTED
        return AGAIN if self.resumable else 128 + self.signal

    def told(self) -> str:
        """Return why the run stopped, in a few words."""
        return "interrupted" if self.exit_code == INTERRUPTED else f"stopped by {signal.Signals(self.signal).name}"

    def pass_on(self) -> None:
        """Let the signal have its usual effect, after the run is saved and the handlers are restored.

        Raises:
            KeyboardInterrupt: it was Ctrl-C; or the signal did not end the process.
        """
        if self.signal not in (None, signal.SIGINT):
            signal.raise_signal(self.signal)
        raise KeyboardInterrupt(self.told())


_ours: list[Any] = []                       # the handlers of SIGTERM that a process must not inherit


def handle(number: int, handler: Any) -> Any:
    """Set a handler and return the one before; a process that is forked later does not inherit it for SIGTERM.

    An environment may fork a helper process. Python ends it by SIGTERM when the program ends, and waits: a helper that
    only takes note of the signal would never end. Other signals go to the whole group of processes; the helper leaves
    them to this one, which may first save while its environments work.
    """
    if number == signal.SIGTERM:
        _ours[:] = [handler]
    return signal.signal(number, handler)


def _forget() -> None:
    """In a forked process: SIGTERM ends it, as it ends any process."""
    if _ours and signal.getsignal(signal.SIGTERM) == _ours[0]:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _is_left(number: int) -> bool:
    """Return whether a signal keeps its handler: under nohup, or one that was not set by Python."""
    handler = signal.getsignal(number)
    return handler is None or (signal.Signals(number).name == "SIGHUP" and handler == signal.SIG_IGN)
