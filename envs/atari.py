"""Atari games as DQN observes them (Mnih et al., 2015): stacks of four grey frames of 84 x 84 pixels.

The preprocessing is that of the original program. Unlike the paper's, it takes no maximum over two frames, does not end
an episode when a life is lost and does not press fire at the start. OpenCV converts to grey, then resizes by area.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from utils.errors import ConfigError
from utils.installed import pip_install
from utils.settings.fields import Config
from utils.text import did_you_mean

SIDE = 84
FRAME_SKIP = 4
STICKY = 0.25           # probability of repeating the last action, with --sticky
NOOP = 0
TRIES = 100             # attempts to start an episode that does not end during its no-ops


def game_id(name: str) -> str:
    """The id of a game: `Assault` -> `ALE/Assault-v5`; an id is returned unchanged."""
    return name if name.startswith("ALE/") else f"ALE/{name}-v5"


def game_kwargs(config: Config) -> dict[str, float]:
    """The arguments of a game. Its own limit of frames is off: `test_timesteps` is the only limit."""
    return {"frameskip": FRAME_SKIP, "repeat_action_probability": STICKY if config.sticky else 0.0,
            "max_num_frames_per_episode": 0}


def make_atari(config: Config, kwargs: dict[str, Any]) -> gym.Env:
    """Make the game that `config.env` names; observations are uint8 (84, 84, frames).

    Args:
        kwargs: arguments of the game: those of `game_kwargs` and others.
    Raises:
        ConfigError: no such game exists, or ale-py or OpenCV is not installed.
    """
    ale_py, _ = import_atari()
    name = game_id(config.env)
    gym.register_envs(ale_py)
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)         # no greeting on standard error
    try:
        if not re.fullmatch(r"ALE/\w+-v\d+", name):
            raise gym.error.NameNotFound            # Gymnasium would import the module before a colon
        game = gym.make(name, max_episode_steps=-1, disable_env_checker=True, **kwargs)
    except gym.error.Error:
        expected = ", expected a game such as Assault or ALE/Assault-v5"
        games = [id for id, spec in gym.registry.items() if spec.namespace == "ALE" and spec.version == 5]
        raise ConfigError(f"env: got {config.env!r}{did_you_mean(config.env, games) or expected}") from None
    env = FrameStack(GreyFrame(game), config.frames, config.noop)
    return gym.wrappers.TimeLimit(env, config.test_timesteps)


def import_atari():
    """Import (ale_py, cv2).

    Raises:
        ConfigError: one is not installed; the message names the extra that installs it.
    """
    try:
        import ale_py
        import cv2
    except ImportError as error:
        hint = pip_install("" if error.name == "cv2" else "atari")
        raise ConfigError(f"env: the Atari games need {error.name or error}, which is not installed; {hint} installs "
                          "it") from None
    return ale_py, cv2


class GreyFrame(gym.ObservationWrapper):
    """Converts an RGB screen, uint8 (H, W, 3), into one grey frame, uint8 (84, 84)."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.observation_space = Box(0, 255, (SIDE, SIDE), np.uint8)
        _, self.cv2 = import_atari()
        self.cv2.setNumThreads(0)                       # for so small a frame, threads cost more than they save

    def observation(self, screen: np.ndarray) -> np.ndarray:
        grey = self.cv2.cvtColor(screen, self.cv2.COLOR_RGB2GRAY)
        return self.cv2.resize(grey, (SIDE, SIDE), interpolation=self.cv2.INTER_AREA)


class FrameStack(gym.Wrapper):
    """Stacks the last frames into one observation (H, W, frames), the newest last; begins episodes with no-ops."""

    def __init__(self, env: gym.Env, frames: int, noop: int):
        super().__init__(env)
        self.noop, self.stack = noop, deque(maxlen=frames)
        self.observation_space = Box(0, 255, (*env.observation_space.shape, frames), np.uint8)
        self.random = np.random.default_rng()

    def random_state(self) -> dict:
        """The state of the generator that draws the number of no-ops; see `envs.origin.random_state`."""
        return self.random.bit_generator.state

    def set_random_state(self, state: dict) -> None:
        """Restore what `random_state` returned."""
        self.random.bit_generator.state = state

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Reset, then do 1 to `noop` no-ops, as many as drawn; repeat if the game ends during them."""
        if seed is not None:
            self.random = np.random.default_rng(seed)
        frame, info = self.env.reset(seed=seed, options=options)
        for _ in range(TRIES):
            self.stack.extend([frame] * self.stack.maxlen)
            count = self.random.integers(1, self.noop + 1) if self.noop else 0
            info, over = self._wait(count, info)
            if not over:
                return self._observation(), info
            frame, info = self.env.reset(options=options)
        raise ConfigError(f"noop: got {self.noop}, expected fewer no-ops: the game ends during so many")

    def _wait(self, steps: int, info: dict) -> tuple[dict, bool]:
        """Do no-ops; returns the last `info`, and whether the game is over."""
        for _ in range(steps):
            frame, _, terminated, truncated, info = self.env.step(NOOP)
            self.stack.append(frame)
            if terminated or truncated:
                return info, True
        return info, False

    def step(self, action: int):
        frame, reward, terminated, truncated, info = self.env.step(action)
        self.stack.append(frame)
        return self._observation(), reward, terminated, truncated, info

    def _observation(self) -> np.ndarray:
        """(H, W, frames), as a view of (frames, H, W): quick to make, and the layout that convolutions read."""
        height, width, frames = self.observation_space.shape
        return np.concatenate(self.stack).reshape(frames, height, width).transpose(1, 2, 0)
