"""Agents that gather experience in threads of their own, and meet for one stacked update."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from algorithm.engine.eager import Engine, Sums
from algorithm.engine.manual import ManualEngine
from algorithm.engine.stacked import StackedEngine


class Meeting:
    """Where all agents of a stack say how many updates they want; the last to come computes them for all.

    They are updated together where all want as many and have had as many. Where they differ (one has gathered `warmup`
    steps an iteration before another), and once one has left for good, each is updated alone, in the same memory.
    """

    def __init__(self, stack: StackedEngine):
        self.stack = stack
        self.wanted = [0] * len(stack.agents)
        self.sums: Sums | None = None
        self.barrier = threading.Barrier(len(stack.agents), action=self._update)

    def members(self, actors: Sequence[Any]) -> list[Member]:
        """An engine for each agent, for its own thread."""
        return [Member(self, i, actor) for i, actor in enumerate(actors)]

    def _update(self) -> None:
        agree = len({*zip(self.wanted, (agent.updates for agent in self.stack.agents), strict=True)}) == 1
        together = self.wanted[0] > 0 and agree
        self.sums = self.stack.run(self.wanted[0]) if together else None

    def wait(self, i: int, updates: int) -> Sums | None:
        """The metrics of agent i if all were updated together, else None."""
        self.wanted[i] = updates
        try:
            self.barrier.wait()
        except threading.BrokenBarrierError:            # one has left
            return None
        return self.sums.of(i) if self.sums else None   # the next meeting, which writes it, waits for this thread


class Member(Engine):
    """One agent's part in a meeting. `leave` is for whoever ends early: the others go on without."""

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
        self.meeting.barrier.abort()
