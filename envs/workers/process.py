"""A worker process, as the main process uses it."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

from envs.workers.worker import serve
from utils.settings.fields import Config
from utils.stop import SIGNALS

LONGEST = 1e6       # seconds to wait for a pipe; the system counts milliseconds in 32 bits
SPAWN = multiprocessing.get_context("spawn")        # not fork: PyTorch's threads and CUDA do not survive it


class Worker:
    """A worker: its process, and a pipe to it."""

    def __init__(self, config: Config, layout: tuple, i: int, restart: int):
        """Start the process.

        Args:
            layout: the arguments of `shared_rows`; the worker writes row `i`.
            restart: the number of restarts in the run so far; 0 for the first processes.
        """
        self.restart, self.heard = restart, False
        self.pipe, theirs = SPAWN.Pipe()
        # No daemon, which may start no processes: an environment may. `Workers.close` ends it, and so does the end of
        # this process, see `envs.workers.worker`.
        self.process = SPAWN.Process(target=serve, args=(theirs, config, layout, i), daemon=False)
        with theirs:                                    # else the pipe would stay open when the worker dies
            self.process.start()

    def send(self, request: tuple) -> None:
        """Send (method, argument); if the process is dead, `receive` says so."""
        with contextlib.suppress(OSError):
            self.pipe.send(request)

    def receive(self, timeout: float) -> Any:
        """The next answer.

        Raises:
            TimeoutError: none came within `timeout` seconds.
            EOFError, OSError: the process is dead.
        """
        if not self.pipe.poll(timeout):
            raise TimeoutError
        answer = self.pipe.recv()
        self.heard = True
        return answer

    def fate(self, timeout: float = 0.0) -> str | None:
        """How the process ended, or None if it still runs after `timeout` seconds."""
        self.process.join(timeout)
        code = self.process.exitcode
        if code is None or code >= 0:
            return None if code is None else f"ended with exit code {code}"
        return f"was ended by signal {-code} ({signal.strsignal(-code)}{'; out of memory?' * (code == -9)})"

    def kill(self) -> None:
        """End the process at once, and wait until it has ended."""
        self.pipe.close()
        self.process.kill()
        self.process.join()


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Deliver the signals of `utils.stop` after the block; a process that it starts gets none before it is ready.

    Otherwise a signal would end a starting process, sometimes with a traceback; an interrupt of the main process would
    end one that has read half of its instructions.
    """
    if not hasattr(signal, "pthread_sigmask"):                  # Windows
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)    # a process inherits the mask
    held, handlers = set(), {}
    try:
        resource_tracker.ensure_running()       # a process of Python's own; its first start clears the mask
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        _collect(held, handlers)
        yield
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number in held:
            signal.raise_signal(number)


def _collect(held: set[int], handlers: dict[int, Any]) -> None:
    """Add signals to `held` instead of handling them, and the former handlers to `handlers`.

    Another thread may take a signal that this one blocks; Python then runs the handler in the main thread.
    """
    if threading.current_thread() is threading.main_thread():
        for one in filter(lambda one: callable(signal.getsignal(one)), SIGNALS):
            handlers[one] = signal.signal(one, lambda number, frame: held.add(number))
