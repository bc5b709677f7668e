"""The other processes of a run: they take part in updates, and keep no record but their own state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from learner.learner import Learner
from learner.parts import Parts
from record.store import Generation, Snapshot, Store
from torchrl_gpu.processes import Processes
from utils.stop import Stop


class Silent:
    """A logger, an evaluator and a view that do nothing: every method is one that takes anything."""

    def state(self) -> dict[str, Any]:
        """Return no state."""
        return {}

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *given, **named: None


class Follower:
    """The run of such a process, in place of `record.run.Run`: it saves what it is resumed from."""

    def __init__(self, directory: Path, processes: Processes, stop: Stop):
        """directory: of the run."""
        self.stop, self.processes, self.logger = stop, processes, Silent()
        self.store = Store(directory / "checkpoints" / f"resume-{processes.rank}")

    def progress(self, steps: int) -> None:
        """Raise Stopped if the run was asked to stop."""
        self.stop.check()

    def record(self, cycle: int, steps: int, episodes: int, save_model: Any) -> dict[str, float | None]:
        """Write nothing."""
        return {}

    def chart(self, *given: Any) -> None:
        """Write nothing."""

    def save(self, snapshot: Snapshot) -> None:
        """Write the state of this process, for which the first one waits before it writes its own."""
        self.store.save(snapshot)
        self.processes.all(True)


def follow(parts: Parts, opened: Callable[..., Any], directory: Path, steps: int, processes: Processes, stop: Stop,
           ) -> Any:
    """Take part in a run; return the agent.

    Args:
        directory: of the run, which the first process has made.
        steps: after which the first process was saved; 0: it begins.
        stop: see `Run`.
    Raises:
        CheckpointError: the saved state is damaged, or missing.
    """
    run = Follower(directory, processes, stop)
    try:
        run.store.open()
        with opened(parts.config, parts.env, parts.engine.actor) as collector:
            learner = Learner(parts.config, collector, parts.engine, Silent(), run)
            saved = run.store.load(fits=lambda one: steps_of(one) == steps) if steps else None
            if saved is not None:
                learner.restore(saved)
            learner.learn()
    finally:
        run.store.close()
        parts.close()
    return parts.engine.agent


def steps_of(saved: Generation | None) -> int:
    """Return the steps after which a state was saved; 0 if there is none."""
    return 0 if saved is None else saved.values["learner"]["steps"]
