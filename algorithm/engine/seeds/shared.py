"""Agents that gather experience in one thread each, and share one stacked update."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from algorithm.engine.by_hand.engine import ManualEngine
from algorithm.engine.eager import Engine, Sums
from algorithm.engine.seeds.stacked import StackedEngine


def share(engines: Sequence[Any]) -> list[Member]:
    """Captured engines of agents that differ in their seeds -> engines that share one captured update."""
    from algorithm.engine.seeds.captured import CapturedStack
    stack = CapturedStack([engine.agent for engine in engines], [engine.buffer for engine in engines])
    return Meeting(stack).members(stack.actors)


class Meeting:
    """A barrier for the agents of a stack: the last one to arrive computes the updates of all.

    They are updated together if all ask for the same number of updates and have made the same number. If they differ
    (one has gathered `warmup` steps an iteration before another), and after one has left, each is updated alone, in the
    same memory.
    """

    def __init__(self, stack: StackedEngine):
        self.stack = stack
        self.wanted = [0] * len(stack.agents)
        self.sums: Sums | None = None
        self.changed = threading.Condition()
        self.arrived = self.held = 0                    # agents that wait for the next meeting; meetings so far
        self.broken = False                             # one has left

    def members(self, actors: Sequence[Any]) -> list[Member]:
        """An engine for each agent, for its own thread."""
        return [Member(self, i, actor) for i, actor in enumerate(actors)]

    def wait(self, i: int, updates: int) -> Sums | None:
        """Wait for the others; the metrics of agent i if all were updated together, else None."""
        with self.changed:
            if self.broken:
                return None
            self.wanted[i], number = updates, self.held
            self.arrived += 1
            if self.arrived == len(self.wanted):
                self._hold()
            self.changed.wait_for(lambda: self.held > number or self.broken)
            # The next meeting, which writes the sums anew, waits for this thread, too.
            return self.sums.of(i) if self.held > number and self.sums else None

    def _hold(self) -> None:
        self.sums = None
        agree = len({*zip(self.wanted, (agent.updates for agent in self.stack.agents), strict=True)}) == 1
        try:
            if agree and self.wanted[0] > 0:
                self.sums = self.stack.run(self.wanted[0])
        finally:
            self.arrived, self.held = 0, self.held + 1
            self.changed.notify_all()

    def leave(self) -> None:
        """End the meetings: an agent that waits, or arrives later, is updated alone."""
        with self.changed:
            self.broken = True
            self.changed.notify_all()


class Member(Engine):
    """The engine of one agent of a meeting; an agent that ends calls `leave`, so that the others do not wait."""

    name = "shared"

    def __init__(self, meeting: Meeting, i: int, actor: Any):
        super().__init__(meeting.stack.agents[i], meeting.stack.buffers[i])
        self.meeting, self.number, self.actor = meeting, i, actor
        self.alone = ManualEngine(self.agent, self.buffer)

    def run(self, updates: int) -> Sums:
        return self.meeting.wait(self.number, updates) or self._run_alone(updates)

    def skip(self) -> None:
        self.meeting.wait(self.number, 0)

    def _run_alone(self, updates: int) -> Sums:
        sums = self.alone.run(updates)
        self.meeting.stack.refresh()
        return sums

    def leave(self) -> None:
        self.meeting.leave()
