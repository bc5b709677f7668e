"""The engine that compiles losses and gradients by torch.compile."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from algorithm.engine.eager import Engine


class CompiledEngine(Engine):
    """Compiles `Agent.losses`, of fixed shapes; checks, noise and optimisers stay as they are.

    Where compiling fails (without a C++ compiler, for example) it warns once, and computes as the eager engine does.
    """

    name = "compile"

    def __init__(self, agent: Any, buffer: Any):
        super().__init__(agent, buffer)
        self.plain = type(agent).losses.__get__(agent)
        with quiet():
            compiled = torch.compile(self.plain, dynamic=False)
        agent.losses = self._compiled(compiled)

    def _compiled(self, losses: Callable) -> Callable:
        """Compiled losses that are replaced by the plain ones if their first call fails."""
        def first_time(batch, policy):
            try:
                with quiet():
                    result = losses(batch, policy)
                self.agent.losses = losses
            except Exception as error:                  # whatever a compiler's toolchain may raise
                result = self.plain(batch, policy)      # an error of the losses themselves is raised here
                self._warn(error)
                self.agent.losses, self.name = self.plain, Engine.name
            return result
        return first_time

    @staticmethod
    def _warn(error: Exception) -> None:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        warnings.warn(f"engine: torch.compile does not work here, continuing without it: {reason}", stacklevel=3)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Ignore that torch.compile's own modules use `torch.jit`, which is deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        yield
