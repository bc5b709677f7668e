"""The loop of the original: some environment steps, then as many updates; a cycle of those, then an evaluation."""

from __future__ import annotations

import math
import time

from algorithm.engine import Engine
from learner.collector import Collector, VectorCollector
from learner.evaluator import Evaluator
from utils.config import Config


class Learner:
    """Gathers whole episodes into replay and trains the agent from it.

    The schedule counts the steps of all environments together: `train_batches` updates are due every `timesteps` of
    them, as with one environment. N environments step at once, so `steps` runs ahead of what is `due` by up to N - 1,
    never more: the next iteration gathers fewer, and over the run updates per step are the algorithm's. The run ends
    at its length or, where N does not divide that, at the first multiple of N beyond it.
    """

    def __init__(self, config: Config, collector: Collector | VectorCollector, engine: Engine, evaluator: Evaluator,
                 run):
        """`engine` trains its agent from its replay; `run` is the record of the run (`utils.run.Run`)."""
        self.config, self.collector, self.engine = config, collector, engine
        self.agent, self.actor, self.buffer = engine.agent, engine.actor, engine.buffer
        self.evaluator, self.run = evaluator, run
        self.due = self.steps = self.episodes = 0       # environment steps scheduled and taken; episodes stored

    def learn(self) -> None:
        """Train for the run's length in environment steps, with an evaluation and a record after each cycle."""
        cycle_length = self.config.iterations * self.config.timesteps
        while self.due < self.config.run_length:
            cycle = self.due // cycle_length
            start = time.perf_counter()
            self._cycle(min(self.config.run_length, self.due + cycle_length))
            self.engine.check_state()                   # or it would be saved
            trained = time.perf_counter()
            self.evaluator.evaluate(self.run.logger)
            self.run.logger.add({"TimeCost(sec)/train": trained - start,
                                 "TimeCost(sec)/test": time.perf_counter() - trained})
            self.run.record(self.agent, cycle, self.steps, self.episodes)

    def _cycle(self, until: int) -> None:
        while self.due < until:
            count = min(self.config.timesteps, until - self.due)
            self._gather(count)
            self.run.logger.add(self.actor.explore_metrics())
            if self.buffer.steps_stored >= max(self.config.warmup, 1):
                # The last iteration may be cut short by total_timesteps, and its updates with it.
                self._train(math.ceil(self.config.train_batches * count / self.config.timesteps))
            else:
                self.engine.skip()
            self.run.progress(self.steps)

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
        self.agent.normalizer_update(self.buffer.sample())
        self.run.logger.add_sums(self.engine.run(updates).items())
