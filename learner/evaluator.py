"""Greedy episodes after each cycle of training, in an environment of their own."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import gymnasium as gym
import numpy as np

from envs.origin import OwnDraws, State, random_state, set_random_state
from learner.episodes import Player
from learner.staging import EVALUATED, evaluated_columns
from record.logger import Logger
from utils.errors import EpisodeNotFiniteError
from utils.seeding import stream_seed
from utils.settings.fields import Config


class Evaluator(Player):
    """Play `test_rollouts` greedy episodes; the state of agent and training environment stays untouched."""

    def __init__(self, config: Config, env: gym.Env | None, actor: Any):
        """env: used for evaluation only; None if `test_rollouts` is 0 and there is none."""
        super().__init__(env, actor, config.test_eps or 0.0)
        self.rollouts, self.drops = config.test_rollouts, config.on_nan == "drop"
        self.metrics = [name.removeprefix(EVALUATED) for name in evaluated_columns(env)]
        self.random = np.random.default_rng(stream_seed(config.seed, "test actions"))
        self.draws = None
        if env is not None:
            seed = stream_seed(config.seed, "test env")
            self.draws = OwnDraws(env, seed)
            with self.draws.active():
                env.reset(seed=seed)

    def state(self) -> State:
        """Return the state of all generators that the next episodes depend on."""
        return {"env": self._env_state(), "actions": self.random.bit_generator.state}

    def _env_state(self) -> State:
        if self.draws is None:
            return {}
        with self.draws.active():
            return random_state(self.env)

    def restore(self, state: State) -> None:
        """Restore what `state` returned."""
        if self.draws is not None:
            with self.draws.active():
                set_random_state(self.env, state["env"])
        self.random.bit_generator.state = state["actions"]

    def evaluate(self, logger: Logger, steps: int = 0) -> None:
        """Play the episodes with `_evaluate`, on random numbers that training does not share."""
        if self.draws is not None:
            with self.draws.active():
                self._evaluate(logger)

    def _evaluate(self, logger: Logger) -> None:
        """Log the length (`Steps`), true return (`Rewards`) and metrics of each episode, and `step_info` of each step.

        Raises:
            NotFiniteError: an observation or a true reward is not finite, and `on_nan` is not "drop".
        """
        def act(obs: np.ndarray) -> Any:
            action, info = self.actor.step(obs, test_info=True)
            logger.add(info)
            return action
        dropped = 0
        for _ in range(self.rollouts):
            try:
                logger.add(self._episode(act))
            except EpisodeNotFiniteError:
                dropped += 1
                if not self.drops:
                    raise
        if self.drops:
            logger.add({"test/dropped": dropped})

    def _episode(self, act: Callable[[np.ndarray], Any]) -> dict[str, float]:
        """Play an episode; return its length, its true return, and its metrics as its last step tells them."""
        length, total = 0, 0.0
        for step in self.steps(self.reset(), act, self.random):
            length, total = length + 1, total + step.true_reward
        told = {EVALUATED + name: step.metrics[name] for name in self.metrics}
        return {"Steps": length, "Rewards": total, **{name: value for name, value in told.items() if isfinite(value)}}
