"""Wrappers: a checked API with a time limit, flat observations, actions in [-1, 1], the true reward in `info`, clipped
rewards, rewards that are paid at the end of an episode.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from numbers import Real
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict

from utils.errors import ConfigError
from utils.finite import is_finite
from utils.text import one_line


class CheckedLimit(gym.wrappers.TimeLimit):
    """Gymnasium's time limit, with checks that the environment follows Gymnasium's API.

    Rewards become floats; an array of one number is accepted.

    Raises:
        ConfigError: the environment does not follow the API; one line names it and what is expected.
    """

    def __init__(self, env: gym.Env, limit: int, name: str):
        super().__init__(env, limit)
        self.name = name
        for space in ("observation_space", "action_space"):
            if not isinstance(getattr(env, space, None), gym.Space):
                self._refuse(f"has no {space}, expected one of gymnasium.spaces")
        if not takes(env.unwrapped.reset, "seed", "options"):
            self._refuse("has a reset without `seed` or `options`, expected reset(self, *, seed=None, options=None)")
        space = env.observation_space
        self.shape = space.shape if isinstance(space, Box) else None    # other spaces are refused later

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        obs, info = self._parts("reset", super().reset(seed=seed, options=options), ("observation", "info"))
        return self._observation(obs), info

    def step(self, action):
        obs, reward, terminated, truncated, info = self._parts(
            "step", self.env.step(action), ("observation", "reward", "terminated", "truncated", "info"))
        self._elapsed_steps += 1
        if type(reward) is not float:
            reward = self._number(reward)
        over = self._elapsed_steps >= self._max_episode_steps
        return self._observation(obs), reward, terminated, truncated or over, info

    def _parts(self, method: str, result: Any, names: tuple[str, ...]) -> tuple:
        if not isinstance(result, (tuple, list)):
            self._refuse(f"gives a {type(result).__name__} from {method}, expected ({', '.join(names)})")
        if len(result) != len(names):
            self._refuse(f"gives {len(result)} values from {method}, expected {len(names)}: ({', '.join(names)})")
        if not isinstance(result[-1], Mapping):
            self._refuse(f"gives a {type(result[-1]).__name__} as info from {method}, expected a dict")
        return result

    def _observation(self, obs: Any) -> np.ndarray:
        if self.shape is None:
            return self._dict(obs)
        try:
            obs = np.asarray(obs)
        except (TypeError, ValueError, RuntimeError):   # rows of unequal length, tensors with gradients
            self._refuse(f"observes a {type(obs).__name__} that is no array, expected numbers of shape {self.shape}")
        if obs.shape != self.shape or obs.dtype.kind not in "fiub":
            self._refuse(f"observes {obs.dtype} of shape {obs.shape}, expected numbers of shape {self.shape}, as its "
                         "observation_space says")
        return obs

    def _dict(self, obs: Any) -> Any:
        space = self.env.observation_space
        if not isinstance(space, Dict):
            return obs                                      # refused later
        if not isinstance(obs, Mapping):
            self._refuse(f"observes a {type(obs).__name__}, expected a dict, as its observation_space says")
        shapes = {key: np.shape(value) for key, value in obs.items()}
        expected = {key: part.shape for key, part in space.spaces.items()}
        if shapes != expected:
            self._refuse(f"observes {shapes}, expected {expected}, as its observation_space says")
        return obs

    def _number(self, reward: Any) -> float:
        try:
            if isinstance(reward, Real):
                return float(reward)
            value = np.asarray(reward)
            if value.size == 1 and value.dtype.kind in "fiub":
                return float(value.item())
        except (TypeError, ValueError, RuntimeError, OverflowError):
            pass
        self._refuse(f"gives {short(reward)} as a reward, expected a number")

    def _refuse(self, what: str):
        raise ConfigError(f"env: {self.name!r} {what}")


def takes(method: Any, *names: str) -> bool:
    """Whether a method can be called with these keywords, as far as its signature says."""
    try:
        parameters = inspect.signature(method).parameters
    except (TypeError, ValueError):                     # a method in C has no signature
        return True
    return any(one.kind is one.VAR_KEYWORD for one in parameters.values()) or all(name in parameters for name in names)


def short(value: Any) -> str:
    """The beginning of a value's repr, in one line."""
    text = one_line(repr(value))
    return text if len(text) <= 60 else f"{text[:60]}..."


class FlatObservation(gym.ObservationWrapper):
    """Turns observations of any shape and number type into float32 vectors.

    The parts of a dict are concatenated in alphabetical order of their names.
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.parts = sorted(env.observation_space.spaces) if isinstance(env.observation_space, Dict) else None
        spaces = [env.observation_space] if self.parts is None else [env.observation_space[key] for key in self.parts]
        low, high = (np.concatenate([np.asarray(getattr(space, bound), np.float32).reshape(-1) for space in spaces])
                     for bound in ("low", "high"))
        self.observation_space = Box(low, high, dtype=np.float32)

    def observation(self, observation: Any) -> np.ndarray:
        with np.errstate(over="ignore"):                    # the value becomes infinite, which is reported
            if self.parts is None:
                return np.array(observation, np.float32).reshape(-1)    # a copy: some environments reuse their array
            return np.concatenate([np.asarray(observation[key], np.float32).reshape(-1) for key in self.parts])


class CheckFrames(gym.Wrapper):
    """Checks that images (H, W, C) are the last C frames, the newest last; replay stores each frame once.

    Raises:
        ConfigError: they are not; the channels may be colours.
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
            raise ConfigError(f"env: {self.name!r} observes images {obs.shape} whose channels are not its last frames, "
                              "expected grey frames stacked along the last axis, the newest last")
        self.last = obs.copy()                              # some environments reuse their array
        return self.last, *rest


class ScaleAction(gym.ActionWrapper):
    """Takes actions in [-1, 1] and passes action * action_space.high to the environment."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.high = env.action_space.high
        self.action_space = Box(-1.0, 1.0, env.action_space.shape, np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        return np.asarray(action, self.high.dtype) * self.high


class TrueReward(gym.Wrapper):
    """Puts the reward of the step into `info["true_reward"]`; outer wrappers may change the reward itself."""

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, float(reward), terminated, truncated, {**info, "true_reward": float(reward)}


class ClipReward(gym.RewardWrapper):
    """Clips rewards to [-scale, scale]. A reward that is not finite is passed on, so that it is reported."""

    def __init__(self, env: gym.Env, scale: float):
        super().__init__(env)
        self.scale = scale

    def reward(self, reward: float) -> float:
        return max(-self.scale, min(self.scale, reward)) if is_finite(reward) else reward


class EpisodicReward(gym.Wrapper):
    """Pays 0 until the episode ends, then the sum of the episode's rewards.

    A sum that is not finite is paid at once, so that the error names the step that caused it.
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
