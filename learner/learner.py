"""The loop of the original: some environment steps, then as many updates; a cycle of those, then an evaluation."""

from __future__ import annotations

import math
import time

import gymnasium as gym

from algorithm.engine import Engine
from algorithm.replay_buffer.episode import OpenEpisode
from learner.evaluator import Evaluator
from utils.config import Config
from utils.seeding import stream_seed


class Learner:
    """Gathers whole episodes into replay and trains the agent from it."""

    def __init__(self, config: Config, env: gym.Env, engine: Engine, evaluator: Evaluator, run):
        """`engine` trains its agent from its replay; `run` is the record of the run (`utils.run.Run`)."""
        self.config, self.env, self.engine = config, env, engine
        self.agent, self.actor, self.buffer = engine.agent, engine.actor, engine.buffer
        self.evaluator, self.run = evaluator, run
        self.steps = self.episodes = 0
        self._reset(seed=stream_seed(config.seed, "env"))

    def learn(self) -> None:
        """Train for the run's length in environment steps, with an evaluation and a record after each cycle."""
        cycle_length = self.config.iterations * self.config.timesteps
        while self.steps < self.config.run_length:
            cycle = self.steps // cycle_length
            start = time.perf_counter()
            self._cycle(min(self.config.run_length, self.steps + cycle_length))
            trained = time.perf_counter()
            self.evaluator.evaluate(self.run.logger)
            self.run.logger.add({"TimeCost(sec)/train": trained - start,
                                 "TimeCost(sec)/test": time.perf_counter() - trained})
            self.run.record(self.agent, cycle, self.steps, self.episodes)

    def _cycle(self, until: int) -> None:
        while self.steps < until:
            count = min(self.config.timesteps, until - self.steps)
            for _ in range(count):
                self._step()
            self.run.logger.add(self.actor.explore_metrics())
            if self.buffer.steps_stored >= max(self.config.warmup, 1):
                # The last iteration may be cut short by total_timesteps, and its updates with it.
                self._train(math.ceil(self.config.train_batches * count / self.config.timesteps))
            self.run.progress(self.steps)

    def _step(self) -> None:
        action = self.actor.step(self.obs, explore=True)
        obs_next, reward, terminated, truncated, _ = self.env.step(action)
        self.open_episode.add(action, reward, terminated, obs_next)
        self.steps += 1
        self.obs = obs_next
        if terminated or truncated:
            self._close_episode()

    def _close_episode(self) -> None:
        self.buffer.store_episode(self.open_episode.columns())
        self.episodes += 1
        self._reset()

    def _reset(self, seed: int | None = None) -> None:
        self.obs, _ = self.env.reset(seed=seed)
        self.open_episode = OpenEpisode(self.obs)

    def _train(self, updates: int) -> None:
        self.agent.normalizer_update(self.buffer.sample())
        self.run.logger.add_sums(self.engine.run(updates).items())
