"""Flat observations; actions in [-1, 1]; the true reward kept in `info`; rewards clipped, or paid at the end."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from utils.config import ConfigError
from utils.finite import is_finite


class FlatObservation(gym.ObservationWrapper):
    """Observations of any shape and number type as float32 vectors."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        low, high = (np.asarray(bound, np.float32).reshape(-1)
                     for bound in (env.observation_space.low, env.observation_space.high))
        self.observation_space = Box(low, high, dtype=np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):                    # it is infinite, then, and told of as that
            return np.array(observation, np.float32).reshape(-1)    # a copy: some environments write into theirs


class CheckFrames(gym.Wrapper):
    """Pictures (H, W, C) must be the last C frames, the newest last: replay keeps each frame once.

    Raises:
        ConfigError: they are not; their channels may be colours.
    """

    def __init__(self, env: gym.Env, name: str):
        super().__init__(env)
        self.name = name

    def reset(self, **kwargs):
        self.last, info = self.env.reset(**kwargs)
        self.last = self.last.copy()
        return self.last, info

    def step(self, action):
        obs, *rest = self.env.step(action)
        if not np.array_equal(obs[..., :-1], self.last[..., 1:]):
            raise ConfigError(f"env: {self.name!r} shows pictures {obs.shape} whose channels are not its last frames, "
                              "wants grey frames stacked along the last axis, the newest last")
        self.last = obs.copy()                              # some environments draw into theirs
        return self.last, *rest


class ScaleAction(gym.ActionWrapper):
    """Actions in [-1, 1]; the environment gets action * action_space.high."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.high = env.action_space.high
        self.action_space = Box(-1.0, 1.0, env.action_space.shape, np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        return np.asarray(action, self.high.dtype) * self.high


class TrueReward(gym.Wrapper):
    """`info["true_reward"]` is the step's own reward, whatever the agent is told."""

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, float(reward), terminated, truncated, {**info, "true_reward": float(reward)}


class ClipReward(gym.RewardWrapper):
    """Rewards in [-scale, scale]; the true one stays in `info`. One that is not finite is passed on, to be told of."""

    def __init__(self, env: gym.Env, scale: float):
        super().__init__(env)
        self.scale = scale

    def reward(self, reward: float) -> float:
        return max(-self.scale, min(self.scale, reward)) if is_finite(reward) else reward


class EpisodicReward(gym.Wrapper):
    """The reward is 0 until the episode ends, then the sum of the episode's rewards.

    A sum that is not finite any more is paid at once, so that the step that has made it so can be told of.
    """

    def reset(self, **kwargs):
        self.episode_return = 0.0
        return self.env.reset(**kwargs)

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.episode_return += reward
        due = terminated or truncated or not is_finite(self.episode_return)
        paid = self.episode_return if due else 0.0
        return obs, paid, terminated, truncated, info
