"""Environments made to check one thing each, solved in seconds; importing this registers them."""

from __future__ import annotations

import os
import signal
import time

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from utils.seeding import stream_seed


class Match(gym.Env):
    """The best action is `gain` times the (random) observation plus `shift`; ten steps to an episode."""

    observation_space, action_space = Box(-1, 1, (1,), np.float32), Box(-1, 1, (1,), np.float32)

    def __init__(self, gain: float = 0.8, shift: float = 0.0, length: int = 10):
        self.gain, self.shift, self.length = gain, shift, length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.obs = 0, self._draw()
        return self.obs, {}

    def step(self, action):
        reward = -float(np.abs(action - (self.gain * self.obs + self.shift))[0])
        self.t, self.obs = self.t + 1, self._draw()
        return self.obs, reward, self.t >= self.length, False, {}

    def _draw(self):
        return self.np_random.uniform(-1, 1, 1).astype(np.float32)


class Forgetful(Match):
    """Draws from a generator that ignores the seed."""

    def _draw(self):
        return np.random.default_rng().uniform(-1, 1, 1).astype(np.float32)


class Clock(gym.Env):
    """Observes the time; pays t at step t; terminates after `length` steps."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,), np.float32), Box(-2, 2, (1,), np.float32)

    def __init__(self, length: int = 10):
        self.length, self.episode = length, -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return np.float32([self.episode, 0]), {}

    def step(self, action):
        self.t += 1
        return np.float32([self.episode, self.t]), float(self.t), self.t >= self.length, False, {}


class InPlace(Clock):
    """A clock that writes the time into the one array that it always returns."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = np.zeros(1, np.float32)
        return self.state, {}

    def step(self, action):
        _, reward, terminated, truncated, info = super().step(action)
        self.state += 1
        return self.state, reward, terminated, truncated, info


class Film(Clock):
    """Shows its last three frames; each is filled with a number of its own."""

    observation_space, action_space = Box(0, 255, (6, 5, 3), np.uint8), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.start = self.np_random.integers(200)
        return self._show(), {}

    def step(self, action):
        _, *rest = super().step(action)
        return self._show(), *rest

    def _show(self):
        numbers = self.start + np.maximum(self.t + np.arange(-2, 1), 0)
        return np.broadcast_to(np.uint8(numbers), self.observation_space.shape).copy()


class Dawdles(Match):
    """Takes a random time for each step; writes a file when it is closed."""

    def step(self, action):
        time.sleep(os.urandom(1)[0] / 256 * 0.003)
        return super().step(action)

    def close(self):
        with open("closed", "a") as file:
            file.write(".")


class Fails(Clock):
    """In a run of seed 0 with several environments, the second fails: at its third step, or its first or second reset.

    Its replacement has another seed, and does not fail.
    """

    def __init__(self, how: str, when: str = "step"):
        super().__init__()
        self.how, self.when, self.weak = how, when, False

    def reset(self, *, seed=None, options=None):
        self.weak |= seed == stream_seed(0, "env 1")
        if self.weak and self.when == f"reset{self.episode + 2}":
            self._fail()
        return super().reset(seed=seed)

    def step(self, action):
        if self.weak and self.when == "step" and self.t == 2:
            self._fail()
        return super().step(action)

    def _fail(self):
        class Private(Exception):
            """One that no other process could unpickle."""
        if self.how == "raise":
            raise Private("the arm\nfell off")
        if self.how == "exit":
            os._exit(3)
        if self.how == "hang":
            time.sleep(1e6)
        os.kill(os.getpid(), signal.SIGKILL)


class Dies(Clock):
    """Never comes to its third step."""

    def step(self, action):
        if self.t == 2:
            os._exit(3)
        return super().step(action)


class Stays(Clock):
    """Never closes."""

    def close(self):
        time.sleep(1e6)


class Naps(Clock):
    """Takes as many tenths of a second to a step as its seed says."""

    def reset(self, *, seed=None, options=None):
        self.seed = seed
        return super().reset(seed=seed)

    def step(self, action):
        time.sleep(self.seed / 10)
        return super().step(action)


gym.register("Forgetful-v0", Forgetful)
gym.register("Match-v0", Match)
gym.register("Naps-v0", Naps)
gym.register("Dawdles-v0", Dawdles)
gym.register("Film-v0", Film)
gym.register("Dies-v0", Dies)
gym.register("Stays-v0", Stays)
for how in ("raise", "exit", "kill", "hang"):
    gym.register(f"Fails-{how}-v0", Fails, kwargs={"how": how})
for when in ("reset1", "reset2"):
    gym.register(f"Fails-kill-{when}-v0", Fails, kwargs={"how": "kill", "when": when})
gym.register("MatchConstant-v0", Match, kwargs={"gain": 0.0, "shift": 0.6, "length": 2})
gym.register("Clock10-v0", Clock)
gym.register("InPlace-v0", InPlace)
gym.register("Clock7-v0", Clock, kwargs={"length": 7})
