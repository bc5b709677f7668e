"""Two functions at a time, by two threads or two CUDA streams."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import torch


def create_pair(device: torch.device, halves: int, cores: int) -> Pair:
    """Two threads on a CPU if `halves` is 2, each with so many cores; else one after the other, with so many."""
    if device.type != "cpu":
        return Pair()
    return Threads(cores) if halves == 2 else Pair(cores)


class Once:
    """A call that the first one to ask for it makes; it passes for the others."""

    def __init__(self, call: Callable[[], Any]):
        self.call, self.claim, self.result = call, threading.Lock(), None

    def __call__(self) -> None:
        if self.claim.acquire(blocking=False):
            self.result = self.call()


def nothing() -> None:
    """Do nothing."""


class Pair:
    """Calls two functions, one after the other, and returns both results."""

    def __init__(self, cores: int | None = None):
        """cores: among which products are shared; None: as before."""
        self.cores = cores

    def __enter__(self) -> Pair:
        self.before = torch.get_num_threads()
        if self.cores is not None:
            torch.set_num_threads(self.cores)
        return self

    def __exit__(self, *error: object) -> None:
        if self.cores is not None:
            torch.set_num_threads(self.before)

    def __call__(self, first: Callable, second: Callable, after: Callable[[], None] = nothing) -> tuple[Any, Any]:
        """after: called when each of them is done, in its thread."""
        one = first()
        after()
        other = second()
        after()
        return one, other


class Threads(Pair):
    """Calls them at the same time: the second in a thread of its own, and each shares its products among `cores`."""

    def __init__(self, cores: int):
        super().__init__(cores)
        self.calls, self.results = SimpleQueue(), SimpleQueue()

    def __enter__(self) -> Threads:
        super().__enter__()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.calls.put(None)
            self.thread.join()
        finally:                                        # Ctrl-C may interrupt the wait
            super().__exit__(*error)

    def _serve(self) -> None:
        torch.set_num_threads(self.cores)
        with torch.inference_mode():
            while calls := self.calls.get():
                try:
                    second, after = calls
                    result = second()
                    after()
                    self.results.put((result, None))
                except BaseException as error:          # raised in `__call__`
                    self.results.put((None, error))

    def __call__(self, first: Callable, second: Callable, after: Callable[[], None] = nothing) -> tuple[Any, Any]:
        """See `Pair.__call__`."""
        self.calls.put((second, after))
        try:
            result = first()
            after()
        finally:
            other, error = self.results.get()
        if error is not None:
            raise error
        return result, other


class Streams(Pair):
    """Calls two functions on two streams, which meet before and after."""

    def __init__(self, device: torch.device):
        super().__init__()
        self.side = torch.cuda.Stream(device)

    def __call__(self, first: Callable, second: Callable, after: Callable[[], None] = nothing) -> tuple[Any, Any]:
        """See `Pair.__call__`; `after` is called on both streams."""
        main = torch.cuda.current_stream()
        self.side.wait_stream(main)
        with torch.cuda.stream(self.side):
            other = second()
            after()
        result = first()
        after()
        main.wait_stream(self.side)
        return result, other
