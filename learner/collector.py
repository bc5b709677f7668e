"""Where experience comes from: one environment in this process, or several in processes of their own.

A collector has `num_envs`, and `step()`, one step of each of its environments, which gives the episodes that ended
with it, whole. That is all that the learner knows of environments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import gymnasium as gym
import numpy as np

from algorithm.replay_buffer.episode import OpenEpisode
from utils.config import Config
from utils.seeding import stream_seed

if TYPE_CHECKING:
    from envs.vector import Workers

Episode = dict[str, np.ndarray]         # what `store_episode` takes


@contextlib.contextmanager
def open_collector(config: Config, env: gym.Env, agent, say: Callable[[str], None] = lambda line: None,
                   ) -> Iterator[Collector | VectorCollector]:
    """The collector for `config.num_envs`; its processes end with the block, however that ends.

    Args:
        env: the environment itself if it is one, else an example of the many.
        say: is told, in a line, of each process that is started anew.
    Raises:
        ChildProcessError, ConfigError: an environment or its process failed, see `envs.vector.Workers`.
    """
    seeds = env_seeds(config)
    if len(seeds) == 1:
        yield Collector(env, agent, seeds[0])
        return
    from envs.vector import Workers
    with contextlib.closing(Workers(config, env, say)) as envs:
        yield VectorCollector(envs, agent, seeds)


def env_seeds(config: Config) -> list[int]:
    """A seed for each environment; the first's is the same however many there are."""
    return [stream_seed(config.seed, f"env {i}" if i else "env") for i in range(config.num_envs)]


class Collector:
    """One environment and its open episode."""

    num_envs = 1

    def __init__(self, env: gym.Env, agent, seed: int):
        self.env, self.agent = env, agent
        self._reset(seed)

    def step(self) -> list[Episode]:
        action = self.agent.step(self.obs, explore=True)
        obs_next, reward, terminated, truncated, _ = self.env.step(action)
        self.open_episode.add(action, reward, terminated, obs_next)
        self.obs = obs_next
        if not (terminated or truncated):
            return []
        episode = self.open_episode.columns()
        self._reset()
        return [episode]

    def _reset(self, seed: int | None = None) -> None:
        self.obs, _ = self.env.reset(seed=seed)
        self.open_episode = OpenEpisode(self.obs)


class VectorCollector:
    """N environments, an open episode each; the agent acts once for all of them."""

    def __init__(self, envs: Workers, agent, seeds: list[int]):
        self.envs, self.agent, self.num_envs = envs, agent, envs.num_envs
        self.obs, _ = envs.reset(seed=seeds)                                            # (N, O)
        self.open_episodes = [OpenEpisode(obs) for obs in self.obs]

    def step(self) -> list[Episode]:
        """The episodes that ended, by the environments' order."""
        actions = self.agent.step(self.obs, explore=True)                               # (N, A), or (N,) indices
        self.obs, rewards, terminated, truncated, info = self.envs.step(actions)
        for episode, *step in zip(self.open_episodes, actions, rewards, terminated, self.obs, strict=True):
            episode.add(*step)
        for i in np.flatnonzero(info["restarted"]):                     # what was played there will never be whole
            self.open_episodes[i] = OpenEpisode(self.obs[i])
        return self._close_episodes(terminated | truncated)

    def _close_episodes(self, over: np.ndarray) -> list[Episode]:
        """over: (N,), whose episode has ended; those environments start anew."""
        if not over.any():
            return []
        ended = np.flatnonzero(over)
        episodes = [self.open_episodes[i].columns() for i in ended]
        self.obs, _ = self.envs.reset(options={"reset_mask": over})
        for i in ended:
            self.open_episodes[i] = OpenEpisode(self.obs[i])
        return episodes
