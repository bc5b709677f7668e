"""The loop of the original: some environment steps, then as many updates; a cycle of those, then an evaluation."""

from __future__ import annotations

import math
import time
from typing import Any

from torch import Tensor

from algorithm.engine import Engine
from learner.collector import Collector, VectorCollector
from learner.evaluator import Evaluator
from record.store import Generation, fitting
from utils.settings.fields import Config
from utils.stop import Stopped


class Learner:
    """Gathers whole episodes into replay and trains the agent from it.

    The schedule counts the steps of all environments together: `train_batches` updates are due every `timesteps` of
    them, as with one environment. N environments step at once, so `steps` runs ahead of what is `due` by up to N - 1,
    never more: the next iteration gathers fewer, and over the run updates per step are the algorithm's. The run ends
    at its length or, where N does not divide that, at the first multiple of N beyond it.
    """

    def __init__(self, config: Config, collector: Collector | VectorCollector, engine: Engine, evaluator: Evaluator,
                 run):
        """`engine` trains its agent from its replay; `run` is the record of the run (`record.run.Run`)."""
        self.config, self.collector, self.engine = config, collector, engine
        self.agent, self.actor, self.buffer = engine.agent, engine.actor, engine.buffer
        self.evaluator, self.run = evaluator, run
        self.due = self.steps = self.episodes = 0       # environment steps scheduled and taken; episodes stored
        self.recorded = 0                               # how much was due at the last record
        self.trained = 0.0                              # seconds since then

    def learn(self) -> None:
        """Train for the run's length in environment steps, with an evaluation and a record after each cycle.

        Raises:
            Stopped: the run was asked to stop, and what it is resumed from is saved.
        """
        cycles, length = 0, self.config.iterations * self.config.timesteps
        try:
            while self.recorded < self.config.run_length:
                self._train_until(min(self.config.run_length, self.recorded + length))
                whole = self.due == self.recorded + length
                if not whole and self.due % self.config.timesteps == 0:
                    self._save()                        # a longer run comes by here as well, but has no record yet
                self._record(self.recorded // length)
                cycles += 1
                due = self.config.checkpoint_every and cycles % self.config.checkpoint_every == 0
                if whole and (due or self.recorded == self.config.run_length):
                    self._save()
        except Stopped:
            if self.due % self.config.timesteps == 0:   # else it is saved from before the iteration that was cut short
                self._save()
            raise

    def _train_until(self, due: int) -> None:
        while self.due < due:
            start = time.perf_counter()
            count = min(self.config.timesteps, due - self.due)
            if count < self.config.timesteps:
                self._save()                            # a longer run does not cut this iteration short
            self._gather(count)
            self.run.logger.add(self.actor.explore_metrics())
            if self.buffer.steps_stored >= max(self.config.warmup, 1):
                # The last iteration may be cut short by total_timesteps, and its updates with it.
                self._train(math.ceil(self.config.train_batches * count / self.config.timesteps))
            else:
                self.engine.skip()
            self.trained += time.perf_counter() - start
            self.run.progress(self.steps)

    def _record(self, cycle: int) -> None:
        """Evaluate, and write the cycle down."""
        self.engine.check_state()                       # or it would be saved
        before, sums = self.evaluator.state(), self.run.logger.sums()
        start = time.perf_counter()
        try:
            self.evaluator.evaluate(self.run.logger)
        except Stopped:                                 # it begins anew when the run is resumed
            self.evaluator.restore(before)
            self.run.logger.set_sums(sums)
            raise
        self.run.logger.add({"TimeCost(sec)/train": self.trained, "TimeCost(sec)/test": time.perf_counter() - start})
        self.run.record(self.agent, cycle, self.steps, self.episodes)
        self.recorded, self.trained = self.due, 0.0

    def _gather(self, count: int) -> None:
        """`count` more environment steps, less those that the last call took ahead."""
        self.due += count
        while self.steps < self.due:
            episodes = self.collector.step()
            self.steps += self.collector.num_envs
            for episode in episodes:
                self.buffer.store_episode(episode)
            self.episodes += len(episodes)

    def _train(self, updates: int) -> None:
        batch = self.buffer.sample()
        self.engine.check_batch(batch)
        self.agent.normalizer_update(batch)
        self.run.logger.add_sums(self.engine.run(updates).items())

    def _save(self) -> None:
        self.engine.check_state()
        self.run.save(self)

    # What a run is resumed from -------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """All that goes on changing but the replay's episodes and the record: (values, tensors)."""
        episodes, acts = self.collector.state()
        counts = {name: getattr(self, name) for name in COUNTS}
        values = {"learner": counts, "open": episodes, "evaluator": self.evaluator.state(),
                  "replay": self.buffer.numbers()}
        parts = {"agent": self.agent.state_dict(), "generators": self.engine.random_states(),
                 "replay": self.buffer.tensors(), "open": acts}
        return values, {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def restore(self, saved: Generation) -> int:
        """Go on from there; returns how many open episodes could not be brought back and begin anew.

        Raises:
            CheckpointError: it does not fit this run.
        """
        with fitting(saved):
            values, parts = saved.values, _by_part(saved.tensors)
            self.agent.load_state_dict(parts["agent"])
            self.engine.set_random_states(parts["generators"])
            self.buffer.restore(values["replay"], parts["replay"], saved.log())
            self.evaluator.restore(values["evaluator"])
            for name in COUNTS:
                setattr(self, name, values["learner"][name] + 0)            # a number
            lost = self.collector.restore(values["open"], parts["open"])
        self.engine.refresh()
        return lost


COUNTS = ("due", "steps", "episodes", "recorded", "trained")


def _by_part(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in ("agent", "generators", "replay", "open")}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    return parts
