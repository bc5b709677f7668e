"""Greedy episodes after each cycle of training, in an environment of their own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from envs.origin import State, random_state, set_random_state
from learner.episodes import Player
from record.logger import Logger
from utils.seeding import stream_seed
from utils.settings.fields import Config


class Evaluator(Player):
    """Play `test_rollouts` greedy episodes; the state of agent and training environment stays untouched."""

    def __init__(self, config: Config, env: gym.Env | None, actor: Any):
        """env: used for evaluation only; None if `test_rollouts` is 0 and there is none."""
        super().__init__(env, actor, config.test_eps or 0.0)
        self.rollouts = config.test_rollouts
        self.random = np.random.default_rng(stream_seed(config.seed, "test actions"))
        if env is not None:
            env.reset(seed=stream_seed(config.seed, "test env"))

    def state(self) -> State:
        """Return the state of all generators that the next episodes depend on."""
        return {"env": {} if self.env is None else random_state(self.env), "actions": self.random.bit_generator.state}

    def restore(self, state: State) -> None:
        """Restore what `state` returned."""
        if self.env is not None:
            set_random_state(self.env, state["env"])
        self.random.bit_generator.state = state["actions"]

    def evaluate(self, logger: Logger) -> None:
        """Log the length (`Steps`) and true return (`Rewards`) of each episode, and `step_info` of each step.

        Raises:
            NotFiniteError: an observation or a true reward is not finite.
        """
        def act(obs: np.ndarray) -> Any:
            action, info = self.actor.step(obs, test_info=True)
            logger.add(info)
            return action
        for _ in range(self.rollouts):
            length, total = 0, 0.0
            for step in self.steps(self.reset(), act, self.random):
                length, total = length + 1, total + step.true_reward
            logger.add({"Steps": length, "Rewards": total})
