"""Wrappers: a checked API with a time limit, flat observations, the true reward in `info`, clipped rewards, and rewards
that are paid late.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from envs.spaces import as_array, fits, flat, flat_space
from utils.errors import ConfigError
from utils.finite import is_finite
from utils.text import one_line


class CheckedLimit(gym.wrappers.TimeLimit):
    """Gymnasium's time limit, with checks that the environment follows Gymnasium's API.

    Rewards become floats, `terminated` and `truncated` become bools; an array of one number is accepted.

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
        self.shape = space.shape if isinstance(space, Box) else None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        obs, info = self._parts("reset", super().reset(seed=seed, options=options), ("observation", "info"))
        return self._observation(obs), info

    def step(self, action):
        obs, reward, terminated, truncated, info = self._parts(
            "step", self.env.step(action), ("observation", "reward", "terminated", "truncated", "info"))
        self._elapsed_steps += 1
        if type(reward) is not float:
            reward = self._number(reward)
        if type(terminated) is not bool or type(truncated) is not bool:
            terminated, truncated = self._flag(terminated, "terminated"), self._flag(truncated, "truncated")
        over = self._elapsed_steps >= self._max_episode_steps
        return self._observation(obs), reward, terminated, truncated or over, info

    def _parts(self, method: str, result: Any, names: tuple[str, ...]) -> tuple:
        if not isinstance(result, (tuple, list)):
            self._refuse(f"gives a {type(result).__name__} from {method}, expected ({', '.join(names)})")
        if len(result) != len(names):
            self._refuse(f"gives {len(result)} values from {method}, expected {len(names)}: ({', '.join(names)})")
        if type(result[-1]) is not dict and not isinstance(result[-1], Mapping):
            self._refuse(f"gives a {type(result[-1]).__name__} as info from {method}, expected a dict")
        return result

    def _observation(self, obs: Any) -> Any:
        if self.shape is None:
            if not fits(self.observation_space, obs):
                self._refuse(f"observes {short(obs)}, expected what its observation_space says, "
                             f"{short(self.observation_space)}")
            return obs
        array = as_array(obs)
        if array is None:
            self._refuse(f"observes a {type(obs).__name__} that is no array, expected numbers of shape {self.shape}")
        if array.shape != self.shape or array.dtype.kind not in "fiub":
            self._refuse(f"observes {array.dtype} of shape {array.shape}, expected numbers of shape {self.shape}, as "
                         "its observation_space says")
        return array

    def _number(self, reward: Any) -> float:
        number = one_number(reward)
        if number is None:
            self._refuse(f"gives {short(reward)} as a reward, expected a number")
        return number

    def _flag(self, value: Any, name: str) -> bool:
        """True for any number but 0, as `if value:` takes it: some environments give a count."""
        number = one_number(value)
        if number is None or math.isnan(number):
            self._refuse(f"gives {short(value)} as {name}, expected True or False")
        return number != 0

    def _refuse(self, what: str):
        raise ConfigError(f"env: {self.name!r} {what}")


def one_number(value: Any) -> float | None:
    """A number, or an array or tensor of one, as a float; None if it is something else."""
    try:
        if isinstance(value, Real):
            return float(value)
        array = np.asarray(value)
        return float(array.item()) if array.size == 1 and array.dtype.kind in "fiub" else None
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


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
    """Turns observations of any form into float32 vectors, see `envs.spaces.flat`."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.space = env.observation_space
        self.observation_space = flat_space(self.space)

    def observation(self, observation: Any) -> np.ndarray:
        with np.errstate(over="ignore"):                    # the value becomes infinite, which is reported
            return flat(self.space, observation)


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
                              "expected grey frames stacked along the last axis, the newest last: "
                              "gymnasium.wrappers.GrayscaleObservation, FrameStackObservation and, for the axes, "
                              "TransformObservation")
        self.last = obs.copy()                              # some environments reuse their array
        return self.last, *rest


class TrueReward(gym.Wrapper):
    """Puts the reward of the step, and the episode's sum so far, into `info["true_reward"]` and `info["true_return"]`.

    Outer wrappers may change the reward itself.
    """

    def reset(self, **kwargs):
        self.true_return = 0.0
        return self.env.reset(**kwargs)

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.true_return += (reward := float(reward))
        return obs, reward, terminated, truncated, {**info, "true_reward": reward, "true_return": self.true_return}


class ClipReward(gym.RewardWrapper):
    """Clips rewards to [-scale, scale]. A reward that is not finite is passed on, so that it is reported."""

    def __init__(self, env: gym.Env, scale: float):
        super().__init__(env)
        self.scale = scale

    def reward(self, reward: float) -> float:
        return max(-self.scale, min(self.scale, reward)) if is_finite(reward) else reward


class LateReward(gym.Wrapper):
    """Pays 0, and at every so many steps and when the episode ends the sum of the rewards since it last paid.

    A sum that is not finite is paid at once, so that the error names the step that caused it.
    """

    def __init__(self, env: gym.Env, every: int | None = None):
        """every: steps between payments; None: the whole return is paid when the episode ends."""
        super().__init__(env)
        self.every = every

    def reset(self, **kwargs):
        self.owed, self.steps = 0.0, 0
        return self.env.reset(**kwargs)

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.owed, self.steps = self.owed + reward, self.steps + 1
        due = terminated or truncated or not is_finite(self.owed)
        if not due and (self.every is None or self.steps % self.every):
            return obs, 0.0, terminated, truncated, info
        paid, self.owed = self.owed, 0.0
        return obs, paid, terminated, truncated, info
