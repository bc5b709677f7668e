"""Greedy episodes in an environment of their own."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from envs.origin import State, random_state, set_random_state
from utils.finite import check_observation, check_reward
from utils.seeding import stream_seed
from utils.settings.fields import Config
from utils.stop import Stop


class Evaluator:
    """Runs `test_rollouts` greedy episodes; neither the agent's nor the training environment's state is touched."""

    def __init__(self, config: Config, env: gym.Env, agent):
        self.rollouts, self.env, self.agent = config.test_rollouts, env, agent
        self.env.reset(seed=stream_seed(config.seed, "test env"))
        self.random_share = config.test_eps or 0.0
        self.random = np.random.default_rng(stream_seed(config.seed, "test actions"))

    def state(self) -> State:
        """What its next episodes are drawn from."""
        return {"env": random_state(self.env), "actions": self.random.bit_generator.state}

    def restore(self, state: State) -> None:
        set_random_state(self.env, state["env"])
        self.random.bit_generator.state = state["actions"]

    def evaluate(self, logger) -> None:
        """Log each episode's length (`Steps`) and true return (`Rewards`), and the agent's `step_info` by step.

        Raises:
            NotFiniteError: an observation or a true reward is not finite.
        """
        for _ in range(self.rollouts):
            steps, rewards = self._episode(logger)
            logger.add({"Steps": steps, "Rewards": rewards})

    def _episode(self, logger) -> tuple[int, float]:
        obs, _ = self.env.reset()
        check_observation(obs, "in evaluation, at the start of an episode")
        steps, rewards, over = 0, 0.0, False
        while not over:
            action, info = self.agent.step(obs, test_info=True)
            logger.add(info)
            if self.random_share and self.random.random() <= self.random_share:     # the custom on Atari
                action = self.random.integers(self.env.action_space.n)
            obs, _, terminated, truncated, env_info = self.env.step(action)
            steps, rewards = steps + 1, rewards + env_info["true_reward"]
            where = f"in evaluation, at step {steps} of an episode"
            check_observation(obs, where)
            check_reward(env_info["true_reward"], where, "true reward")
            over = terminated or truncated
        return steps, rewards


class Stoppable(gym.Wrapper):
    """An environment for evaluation, which may take minutes: its `step` raises Stopped once `stop` is set."""

    def __init__(self, env: gym.Env, stop: Stop):
        super().__init__(env)
        self.stop = stop

    def step(self, action):
        self.stop.check()
        return self.env.step(action)
