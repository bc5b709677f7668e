"""A worker process as its parent sees it."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

from envs.workers.worker import _work
from utils.settings.fields import Config
from utils.stop import SIGNALS

LONGEST = 1e6       # seconds that one may wait for a pipe; the system counts milliseconds in 32 bits
SPAWN = multiprocessing.get_context("spawn")        # not forked: PyTorch's threads and CUDA do not survive that


class Worker:
    """A worker as the main process sees it: the process, and a pipe to it."""

    def __init__(self, config: Config, layout: tuple, i: int, restart: int):
        """Start the process.

        Args:
            layout: what `observations` makes an array of; the worker writes row `i`.
            restart: which restart of the run this is, from 1; 0 for the first processes.
        """
        self.restart, self.heard = restart, False
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_work, args=(theirs, config, layout, i), daemon=True)
        with theirs:                                    # else the pipe would not break with the worker
            self.process.start()

    def send(self, request: tuple) -> None:
        with contextlib.suppress(OSError):              # it is dead, which `receive` tells
            self.pipe.send(request)

    def receive(self, timeout: float) -> Any:
        """Raises TimeoutError; EOFError or another OSError if the process is dead."""
        if not self.pipe.poll(timeout):
            raise TimeoutError
        answer = self.pipe.recv()
        self.heard = True
        return answer

    def fate(self, timeout: float = 0.0) -> str | None:
        """How the process ended, if it does so within `timeout` seconds."""
        self.process.join(timeout)
        code = self.process.exitcode
        if code is None or code >= 0:
            return None if code is None else f"ended with exit code {code}"
        return f"was ended by signal {-code} ({signal.strsignal(-code)}{'; out of memory?' * (code == -9)})"

    def kill(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """The signals wait until the end of the block, and never reach a process that is started in it before it is ready.

    Else they would end it, some with a traceback; and so would one end whose main process was interrupted half-way
    through telling it what to do.
    """
    if not hasattr(signal, "pthread_sigmask"):                  # Windows
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)    # processes inherit it
    held, handlers = set(), {}
    try:
        resource_tracker.ensure_running()       # a process of Python's own; its first start lifts the mask
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        if threading.current_thread() is threading.main_thread():       # where Python's handlers run, whichever thread
            for one in filter(lambda one: callable(signal.getsignal(one)), SIGNALS):        # takes the signal
                handlers[one] = signal.signal(one, lambda number, frame: held.add(number))
        yield
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number in held:
            signal.raise_signal(number)
