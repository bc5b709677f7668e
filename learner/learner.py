"""The training loop of the original: environment steps, then as many updates; after a cycle of those, an evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from algorithm.engine import Engine
from algorithm.engine.iteration import iterate
from learner.collector import Collector, VectorCollector
from learner.evaluator import Evaluator
from learner.rollouts import Rollouts
from record.logger import as_row
from record.run import Metrics, Run
from record.store import Generation, Log, Snapshot, fitting
from utils.settings.fields import Config
from utils.stop import Stopped
from utils.threads import one_thread

Callback = Callable[[dict[str, float]], Any]            # the row of a cycle -> False to stop


class Learner:
    """Gather whole episodes into replay, and train the agent from it.

    The schedule counts the steps of all environments together: `train_batches` updates are due every `timesteps` steps,
    as with one environment. N environments step at once, so `steps` may exceed `due` by up to N - 1; the next iteration
    then gathers fewer. So the ratio of updates to steps is always the algorithm's. The run ends at its length or, where
    N does not divide it, at the first multiple of N beyond it.
    """

    def __init__(self, config: Config, collector: Collector | VectorCollector | Rollouts, engine: Engine,
                 evaluator: Evaluator, run: Run, callback: Callback | None = None):
        """
        Args:
            engine: trains its agent from its replay.
            run: the record of the run.
            callback: called after each cycle with its row, the metrics that have a value; the run stops, and saves its
                state, when it returns False.
        """
        self.config, self.collector, self.engine = config, collector, engine
        self.agent, self.actor, self.buffer = engine.agent, engine.actor, engine.buffer
        self.evaluator, self.run, self.callback = evaluator, run, callback
        self.due = self.steps = self.episodes = 0       # environment steps scheduled and taken; episodes stored
        self.recorded = 0                               # value of `due` at the last record
        self.trained = 0.0                              # seconds since then

    def learn(self) -> bool:
        """Train for the run's length in environment steps, with an evaluation and a record after each cycle.

        Returns: whether the run reached its length; False if the callback stopped it.
        Raises:
            Stopped: the run was asked to stop, and its state is saved.
        """
        going, cycles = True, 0
        self.started, self.first = time.perf_counter(), self.steps      # of this process
        try:
            while going and self.recorded < self.config.run_length:
                cycles += 1
                going = self._cycle(cycles)
        except Stopped:
            if self.due % self.config.timesteps == 0:   # else the state saved before the unfinished iteration counts
                self._save()
            raise
        return self.recorded >= self.config.run_length

    def _cycle(self, count: int) -> bool:
        """Train for one cycle, the `count`-th of this process; return False if the callback stops the run."""
        length, before = self.config.iterations * self.config.timesteps, self.recorded
        self._train_until(min(self.config.run_length, before + length))
        whole = self.due == before + length
        if not whole and self.due % self.config.timesteps == 0:
            self._save()                                # a longer run also reaches this state, but without a record
        row = self._record(before // length)
        every = self.config.checkpoint_every
        save = (every and count % every == 0) or self.recorded == self.config.run_length
        if whole and save:
            self._save()
        going = self.callback is None or _goes_on(self.callback(as_row(row)))
        if whole and not save and not going:
            self._save()
        return going

    def _train_until(self, due: int) -> None:
        """Run iterations until `due` environment steps are scheduled."""
        while self.due < due:
            start = time.perf_counter()
            self._iterate(min(self.config.timesteps, due - self.due))
            self.trained += time.perf_counter() - start
            self.run.progress(self.steps)

    def _iterate(self, count: int) -> None:
        """Gather `count` environment steps, then update."""
        if count < self.config.timesteps:
            self._save()                                # a longer run does not cut this iteration short
        self._gather(count)
        self.run.logger.add(self.actor.explore_metrics())
        if self._is_warm():
            # The last iteration may be cut short by total_timesteps, and its updates with it.
            self._train(math.ceil(self.config.train_batches * count / self.config.timesteps))
        else:
            self.engine.skip()

    def _is_warm(self) -> bool:
        """Whether updates begin: after `warmup` stored steps or, where an environment has several rows, joint ones."""
        warmup = max(self.config.warmup, 1)
        if self.config.rows == 1:
            return self.collector.agreed(self.buffer.steps_stored >= warmup)
        return self.collector.agreed(self.due >= warmup and self.buffer.steps_stored > self.config.batch_size)

    def _record(self, cycle: int) -> Metrics:
        """Evaluate, and write the cycle to the record; return its metrics."""
        self.engine.check_state()                       # before the model is saved
        before, sums = self.evaluator.state(), self.run.logger.sums()
        start = time.perf_counter()
        try:
            with one_thread():
                self.evaluator.evaluate(self.run.logger, self.steps)
        except Stopped:                                 # a resumed run repeats the whole evaluation
            self.evaluator.restore(before)
            self.run.logger.set_sums(sums)
            raise
        self.run.logger.add({"TimeCost(sec)/train": self.trained, "TimeCost(sec)/test": time.perf_counter() - start})
        if self.collector.drops.allowed:
            self.run.logger.add({"train/dropped": self.collector.drops.count})
        metrics = self.run.record(cycle, self.steps, self.episodes, self.agent.save_model)
        self.recorded, self.trained = self.due, 0.0
        return metrics

    def _gather(self, count: int) -> None:
        """Take `count` more environment steps, less those that the last call took ahead."""
        self.due += count
        with one_thread():
            taken, ended = self.collector.gather(self.due - self.steps, self.buffer)
        self.steps, self.episodes = self.steps + taken, self.episodes + ended
        self.collector.log(self.run.logger)

    def _train(self, updates: int) -> None:
        made = [one for sums in iterate(self.engine, updates) for one in sums.items()]
        self.run.logger.add_sums(made)
        if self.config.on_policy:
            seconds = time.perf_counter() - self.started
            more = {"charts/SPS": (self.steps - self.first) / seconds, **self.collector.charts(),
                    **self._learning_rate()}
            self.run.chart({name: float(total) / count for name, total, count in made if count}, more, self.steps)

    def _learning_rate(self) -> dict[str, float]:
        """Return the learning rate of the policy's last step; nothing for an agent without optimisers."""
        if not self.agent.opts:
            return {}
        group = self.agent.opts[0].param_groups[0]
        return {"train/learning_rate": float(self.agent.opts[0].rate(group, group["t"]))}

    def _save(self) -> None:
        self.engine.check_state()
        if self.agent.resumable:
            self.run.save(self.snapshot())

    # Saved state ----------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return the state that the run is resumed from, except for that of its record."""
        episodes, acts = self.collector.state()
        counts = {name: getattr(self, name) for name in COUNTS}
        values = {"learner": counts, "open": episodes, "evaluator": self.evaluator.state(),
                  "replay": self.buffer.numbers()}
        parts = {"agent": self.agent.state_dict(), "generators": self.engine.random_states(),
                 "replay": self.buffer.tensors(), "open": acts}
        tensors = {f"{part}/{name}": tensor for part, own in parts.items() for name, tensor in own.items()}
        replay = self.buffer
        return Snapshot(values, tensors, Log(replay.first_episode, replay.episodes_stored, replay.read_episodes,
                                             replay.episode_bytes))

    def restore(self, saved: Generation) -> int:
        """Restore a saved state; return how many open episodes could not be restored and restart.

        Raises:
            CheckpointError: the state is not one of this run.
        """
        with fitting(saved):
            values, parts = saved.values, _by_part(saved.tensors)
            self.agent.load_state_dict(parts["agent"])
            self.engine.set_random_states(parts["generators"])
            self.buffer.restore(values["replay"], parts["replay"], saved.log())
            self.evaluator.restore(values["evaluator"])
            for name in COUNTS:
                setattr(self, name, values["learner"][name] + 0)            # raises unless it is a number
            lost = self.collector.restore(values["open"], parts["open"])
        self.engine.refresh()
        return lost


COUNTS = ("due", "steps", "episodes", "recorded", "trained")


def _goes_on(answer: Any) -> bool:
    """Return whether a callback's answer lets the run continue: all but False do."""
    return not isinstance(answer, (bool, np.bool_)) or bool(answer)


def _by_part(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in ("agent", "generators", "replay", "open")}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    return parts
