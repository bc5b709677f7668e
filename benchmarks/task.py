"""The task of all contestants: its sizes, its spaces, and its environment."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np

OBS, ACTS, EPISODE = 27, 8, 1000
BATCH = 256
WIDTHS = {"sac": [256, 256], "td3": [256, 256], "ddpg": [400, 300]}     # ours, which the peers' networks get
ENV = "HalfCheetah-v4"          # of whole runs


class Spaces(gym.Env):
    """An environment of spaces only, for a model that only updates and acts."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (ACTS,), np.float32)


def make_bare(env: str, longest: int) -> gym.Env:
    """Make the environment without our wrappers, with episodes of at most `longest` steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return gym.make(env, max_episode_steps=longest)
