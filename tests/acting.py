"""Agents and episodes for the tests of several environments."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

import train
from algorithm.replay_buffer.episode import OpenEpisode
from envs import make_env


def refusal(argv: list[str], capfd, code: int = 2) -> str:
    """The one line that train.py and its workers write to standard error, without the program's name."""
    assert train.main(argv) == code
    err = capfd.readouterr().err
    assert err.startswith("train.py: ")
    assert len(err.splitlines()) == 1
    return err.removeprefix("train.py: ").strip()


class Actor:
    """Acts at random, and records observations and actions."""

    def __init__(self, space: gym.Space):
        self.space, self.seen, self.acts = space, [], []
        space.seed(0)

    def step(self, obs, explore):
        assert explore
        self.seen.append(obs.copy())
        self.acts.append(np.stack([self.space.sample() for _ in obs]))
        return self.acts[-1]


def play_alone(config, seed: int, acts) -> tuple[list[np.ndarray], list[tuple[int, dict]]]:
    """One environment by itself: the observation before each step, and (last step, episode) of each that ended."""
    env, seen, episodes = make_env(config), [], []
    obs, _ = env.reset(seed=seed)
    episode = OpenEpisode(obs)
    for t, action in enumerate(acts):
        seen.append(obs.copy())
        obs, reward, terminated, truncated, _ = env.step(action)
        episode.add(action, reward, terminated, obs)
        if terminated or truncated:
            episodes.append((t, episode.columns()))
            obs, _ = env.reset()
            episode = OpenEpisode(obs)
    return seen, episodes
