"""A learned reward by itself: as a function, and as the reward of a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, flatdim
from torch import Tensor

from envs.spaces import flat, is_flattenable, unscaled
from utils.errors import ConfigError


class Reward:
    """The reward that a decomposition has learned.

    Attributes:
        markov: whether one step determines its reward; else only whole episodes can be redistributed.
        unit: "reward" if it is in the unit of the environment's reward.
    """

    def __init__(self, agent: Any, run: str | Path = ""):
        """agent: of a decomposition, such as `create_agent` or `load` returns; `run` names it in messages.

        Raises:
            ConfigError: the agent's algorithm decomposes no returns.
        """
        if not hasattr(agent, "decomposition"):
            where = f"{str(run)!r}: " if run else ""
            raise ConfigError(f"{where}alg: got {agent.config.alg!r}, which learns no reward; expected a run of a "
                              "decomposition, such as rrd")
        self.agent, self.decomposition = agent, agent.decomposition
        self.markov, self.unit = self.decomposition.markov, self.decomposition.unit
        self.obs_dims, self.discrete = agent.config.obs_dims, agent.config.discrete
        self.act_dim = agent.config.acts_dims[0]
        self.of_replay: Mapping[str, Any] = {}          # what the rewards depend on besides the episode

    def __call__(self, obs: Any, acts: Any, obs_next: Any) -> Any:
        """Predict the reward of steps.

        Args:
            obs, obs_next: (..., O) raw observations, or pictures (..., H, W, C); any leading dimensions.
            acts: (..., A) in [-1, 1], or indices (...) of discrete actions.
        Returns:
            (..., 1): a tensor if `obs` is one, else a NumPy array; float32.
        Raises:
            ValueError: a shape or a number type is wrong.
            ConfigError: the reward of a step depends on its episode; use `redistribute`.
        """
        if not self.markov:
            raise ConfigError(f"{self.agent.config.alg}: the reward of a step depends on its whole episode; use "
                              "redistribute(episode)")
        rewards = self.agent.rewards(obs, acts, obs_next)
        return rewards if isinstance(obs, Tensor) else rewards.cpu().numpy()

    def redistribute(self, episode: Mapping[str, Any]) -> np.ndarray:
        """The rewards of the steps of one whole episode.

        Args:
            episode: what `store_episode` takes: `obs`, `obs_next` (T, O), `acts` (T, A) or (T,), `rews` and `done`
                (T, 1).
        Returns:
            (T,) float64.
        Raises:
            ValueError: a field is missing, or its shape or number type is wrong.
            ConfigError: the rewards depend on the replay of the run, and the run has saved none.
        """
        with torch.no_grad():
            return np.asarray(self.agent.redistribute({**episode, **self.of_replay}).cpu(), np.float64)


class LearnedReward(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Pay the learned reward of each step; `info["true_reward"]` is the environment's own.

    Any library then trains on the learned reward: Stable-Baselines3, CleanRL, TorchRL. Observations and actions are the
    environment's own; the wrapper flattens and scales them, as they were when the reward was trained.
    """

    def __init__(self, env: gym.Env, reward: Reward):
        """Wrap `env`.

        Raises:
            ConfigError: the reward is not Markov, or the environment's spaces are not those that it was trained on.
        """
        if not reward.markov:
            raise ConfigError(f"reward: {reward.agent.config.alg} is not Markov, so a step alone has no reward; "
                              "expected the reward of a Markov decomposition, such as rrd")
        check_observations(env.observation_space, reward)
        check_actions(env.action_space, reward)
        gym.utils.RecordConstructorArgs.__init__(self, reward=reward)
        gym.Wrapper.__init__(self, env)
        self.learned = reward

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.obs = self._prepare(obs)
        return obs, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment; the reward is the learned one, a float."""
        obs, true, terminated, truncated, info = self.env.step(action)
        before, self.obs = self.obs, self._prepare(obs)
        reward = self.learned(before[None], self._action(action)[None], self.obs[None])
        return obs, float(reward[0, 0]), terminated, truncated, {**info, "true_reward": float(true)}

    def _prepare(self, obs: Any) -> np.ndarray:
        """A copy, flat as in training: (O,) float32, or a picture (H, W, C)."""
        if len(self.learned.obs_dims) == 3:
            return np.array(obs)
        return flat(self.env.observation_space, obs)

    def _action(self, action: Any) -> np.ndarray:
        """The action as the reward was trained on it: (A,) in [-1, 1], or an index ()."""
        if self.learned.discrete:
            return np.asarray(int(action) - int(self.env.action_space.start))
        return unscaled(action, self.env.action_space)


def check_observations(space: gym.Space, reward: Reward) -> None:
    """Raise ConfigError unless the observations, flat, have the sizes that the reward was trained on."""
    expected = reward.obs_dims
    is_vector = len(expected) == 1
    size = (flatdim(space),) if is_vector and is_flattenable(space) else getattr(space, "shape", None)
    if size != expected or not (is_vector or isinstance(space, Box)):
        raise ConfigError(f"observation_space: got {space}, expected one of {'size' if is_vector else 'shape'} "
                          f"{expected[0] if is_vector else expected}, as the reward was trained on")


def check_actions(space: gym.Space, reward: Reward) -> None:
    """Raise ConfigError unless the actions are those that the reward was trained on."""
    if reward.discrete:
        if not isinstance(space, Discrete) or int(space.n) != reward.act_dim:
            raise ConfigError(f"action_space: got {space}, expected Discrete({reward.act_dim}), as the reward was "
                              "trained on")
        return
    if not isinstance(space, Box) or space.shape != (reward.act_dim,):
        raise ConfigError(f"action_space: got {space}, expected a Box of shape ({reward.act_dim},), as the reward was "
                          "trained on")
    if not (np.isfinite(space.high).all() and np.isfinite(space.low).all()):
        raise ConfigError(f"action_space: got {space}, expected finite bounds")
