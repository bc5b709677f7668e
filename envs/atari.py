"""Atari games as DQN sees them (Mnih et al., 2015): grey 84 x 84 frames, four of them stacked.

As in the original, and unlike the Nature preprocessing: no maximum over two frames, no end of episode at the loss of a
life, no fire at the start; greyscale by OpenCV, then the area-weighted resize.
"""

from __future__ import annotations

import re
from collections import deque

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from utils.errors import ConfigError
from utils.installed import pip_install
from utils.settings.fields import Config
from utils.text import did_you_mean

SIDE = 84
FRAME_SKIP = 4
STICKY = 0.25           # the chance to repeat the last action instead, under --sticky
NOOP = 0
TRIES = 100             # to start an episode that outlives its no-ops


def game_id(name: str) -> str:
    """`Assault` -> `ALE/Assault-v5`; an id is itself."""
    return name if name.startswith("ALE/") else f"ALE/{name}-v5"


def game_kwargs(config: Config) -> dict[str, float]:
    """What a game is made with. No limits of its own: `test_timesteps` is the only one."""
    return {"frameskip": FRAME_SKIP, "repeat_action_probability": STICKY if config.sticky else 0.0,
            "max_num_frames_per_episode": 0}


def make_atari(config: Config, shown: dict[str, str] | None = None) -> gym.Env:
    """The game that `config.env` names; observations are uint8 (84, 84, frames). `shown` may hold a render mode.

    Raises:
        ConfigError: there is no such game, or ale-py or OpenCV is missing.
    """
    ale_py, _ = import_atari()
    name = game_id(config.env)
    gym.register_envs(ale_py)
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)         # it greets on standard error
    try:
        if not re.fullmatch(r"ALE/\w+-v\d+", name):
            raise gym.error.NameNotFound            # Gymnasium would import what stands before a colon
        game = gym.make(name, max_episode_steps=-1, disable_env_checker=True, **game_kwargs(config),
                        **(shown or {}))
    except gym.error.Error:
        expected = ", expected a game such as Assault or ALE/Assault-v5"
        games = [id for id, spec in gym.registry.items() if spec.namespace == "ALE" and spec.version == 5]
        raise ConfigError(f"env: got {config.env!r}{did_you_mean(config.env, games) or expected}") from None
    env = FrameStack(GreyFrame(game), config.frames, config.noop)
    return gym.wrappers.TimeLimit(env, config.test_timesteps)


def import_atari():
    """Return (ale_py, cv2); a ConfigError says how to install the one that is missing."""
    try:
        import ale_py
        import cv2
    except ImportError as error:
        hint = pip_install("" if error.name == "cv2" else "atari")
        raise ConfigError(f"env: the Atari games need {error.name or error}, which is not installed; {hint} installs "
                          "it") from None
    return ale_py, cv2


class GreyFrame(gym.ObservationWrapper):
    """An RGB screen as one grey frame, uint8 (84, 84)."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.observation_space = Box(0, 255, (SIDE, SIDE), np.uint8)
        _, self.cv2 = import_atari()
        self.cv2.setNumThreads(0)                       # so small a picture is not worth waking threads for

    def observation(self, screen: np.ndarray) -> np.ndarray:
        grey = self.cv2.cvtColor(screen, self.cv2.COLOR_RGB2GRAY)
        return self.cv2.resize(grey, (SIDE, SIDE), interpolation=self.cv2.INTER_AREA)


class FrameStack(gym.Wrapper):
    """The last frames as one observation (H, W, frames), the newest last; some no-ops at an episode's start."""

    def __init__(self, env: gym.Env, frames: int, noop: int):
        super().__init__(env)
        self.noop, self.stack = noop, deque(maxlen=frames)
        self.observation_space = Box(0, 255, (*env.observation_space.shape, frames), np.uint8)
        self.random = np.random.default_rng()

    def random_state(self) -> dict:
        return self.random.bit_generator.state

    def set_random_state(self, state: dict) -> None:
        self.random.bit_generator.state = state

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Start with a random number of no-ops, 1 to `noop`, again if the game ends meanwhile."""
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
        raise ConfigError(f"noop: got {self.noop}, but the game ends during so many, expected fewer")

    def _wait(self, steps: int, info: dict) -> tuple[dict, bool]:
        """Do nothing for so many steps; the last `info`, and whether the game is over."""
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
        """(H, W, frames), a view of (frames, H, W): quick to make, and what convolutions want."""
        height, width, frames = self.observation_space.shape
        return np.concatenate(self.stack).reshape(frames, height, width).transpose(1, 2, 0)
