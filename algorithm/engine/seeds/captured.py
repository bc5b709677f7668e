"""Several seeds in one captured update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from algorithm.basis_alg.base_torch import Agent
from algorithm.engine.captured import CapturedEngine, _ByHand, check_device
from algorithm.engine.eager import Engine, Sums
from algorithm.engine.guard import Recorder
from algorithm.engine.pairs import Streams
from algorithm.engine.seeds.stacked import StackedEngine


class CapturedStack(CapturedEngine):
    """Captures the update of several agents that differ in their seeds, see `StackedEngine`. Metrics are (S,)."""

    name = "stacked cudagraph"

    def __init__(self, agents: Sequence[Agent], buffers: Sequence[Any]):
        Engine.__init__(self, agents[0], buffers[0])
        for agent, buffer in zip(agents, buffers, strict=True):
            check_device(agent, buffer)
        self._open(list(agents), list(buffers), _Stacked(agents, buffers), Recorder(len(agents)))

    def _finish(self, sums: Sums) -> Sums:
        sums.failed = self.guard.found()
        return sums


class _Stacked(_ByHand, StackedEngine):
    def __init__(self, agents: Sequence[Agent], buffers: Sequence[Any]):
        super().__init__(agents, buffers)
        self.pair = Streams(self.agent.device)
