"""Gather experience from one environment in this process, from several in processes of their own, or from tensors.

A collector has `num_envs`, and `step()`, which steps each environment once and returns the episodes that ended with it.
The learner knows nothing else of environments. An observation or reward that is not finite enters no episode: the
constructor and `step` raise `NotFiniteError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from algorithm.replay_buffer.episode import OpenEpisode
from envs.build import build_env, env_seeds, task_of
from envs.curriculum_forms import open_curriculum
from envs.origin import Origin, replay_actions
from learner.tensor_collector import Columns, TensorCollector
from utils.finite import all_finite, check_observation, check_reward, is_finite, place
from utils.settings.fields import Config

if TYPE_CHECKING:
    from envs.workers.pool import Workers

@contextlib.contextmanager
def open_collector(config: Config, env: gym.Env, agent: Any, say: Callable[[str], None] = lambda line: None,
                   ) -> Iterator[Collector | VectorCollector | TensorCollector]:
    """Open the collector for `config.num_envs`; its processes end with the block.

    Args:
        env: the environment itself if `num_envs` is 1, else an example of them.
        agent: chooses the actions.
        say: called with a line for each process that is restarted.
    Raises:
        ChildProcessError, ConfigError: an environment or its process failed, see `envs.workers.pool.Workers`.
    """
    if task_of(config):
        with contextlib.closing(build_env(config, env)) as rows:
            yield TensorCollector(rows, agent, open_curriculum(config.curriculum, rows))
        return
    seeds = env_seeds(config)
    if len(seeds) == 1:
        yield Collector(env, agent, seeds[0])
        return
    from envs.workers.pool import Workers
    sent = dataclasses.replace(config, eval_given=None)             # workers need no environment of evaluation
    with contextlib.closing(Workers(sent, env, say)) as envs:
        yield VectorCollector(envs, agent, seeds)


class Collector:
    """One environment and its open episode."""

    num_envs = 1

    def __init__(self, env: gym.Env, agent: Any, seed: int):
        self.env, self.agent, self.steps = env, agent, 0
        self.origin = Origin(env, seed)
        self._reset()

    def step(self) -> list[Columns]:
        """Step the environment; return its episode if it ended, or nothing.

        Raises:
            NotFiniteError: an observation or a reward is not finite.
        """
        action = self.agent.step(self.obs, explore=True)
        obs_next, reward, terminated, truncated, _ = self.env.step(action)
        self.steps += 1
        if not (all_finite(obs_next) and is_finite(reward)):            # rare: the message is built only then
            where = place(self.steps, len(self.open_episode) + 1)
            check_observation(obs_next, where)
            check_reward(reward, where)
        self.open_episode.add(action, reward, terminated, obs_next)
        self.obs = obs_next
        if not (terminated or truncated):
            return []
        episode = self.open_episode.columns()
        self._reset()
        return [episode]

    def _reset(self) -> None:
        self.obs, _ = self.origin.reset()
        check_observation(self.obs, place(self.steps, 0))
        self.open_episode = OpenEpisode(self.obs)

    def numbers(self) -> dict[str, float]:
        """Return what the record shows of the environment: nothing."""
        return {}

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what the open episode is restored from: (values, tensors)."""
        episode = {"before": self.origin.before, "digest": self.open_episode.digest()}
        return {"steps": self.steps, "episodes": [episode]}, acts_of([self.open_episode])

    def restore(self, values: dict[str, Any], tensors: Mapping[str, Tensor]) -> int:
        """Restore the open episode; return 1 if it could not be restored and is dropped, else 0."""
        self.steps, (value,) = values["steps"], values["episodes"]
        self.open_episode, self.obs = reopened(replay_actions(self.origin, value["before"], tensors["acts.0"].numpy()))
        if self.open_episode.digest() == value["digest"]:
            return 0
        self._reset()
        return 1


class VectorCollector:
    """N environments with an open episode each; the agent chooses all N actions at once."""

    def __init__(self, envs: Workers, agent: Any, seeds: list[int]):
        self.envs, self.agent, self.num_envs = envs, agent, envs.num_envs
        self.steps = 0                                                                  # of each environment
        self.obs, _ = envs.reset(seed=seeds)                                            # (N, O)
        self._check_start(range(self.num_envs))
        self.open_episodes = [OpenEpisode(obs) for obs in self.obs]

    def step(self) -> list[Columns]:
        """Step all environments; return the episodes that ended, in the order of the environments.

        Raises:
            NotFiniteError: an observation or a reward is not finite.
        """
        actions = self.agent.step(self.obs, explore=True)                               # (N, A), or (N,) indices
        self.obs, rewards, terminated, truncated, info = self.envs.step(actions)
        self.steps += 1
        self._check_step(rewards)
        for episode, *step in zip(self.open_episodes, actions, rewards, terminated, self.obs, strict=True):
            episode.add(*step)
        for i in np.flatnonzero(info["restarted"]):                     # the steps before the restart are lost
            self.open_episodes[i] = OpenEpisode(self.obs[i])
        return self._close_episodes(terminated | truncated)

    def _close_episodes(self, over: np.ndarray) -> list[Columns]:
        """Reset the environments whose episode is over, (N,); return those episodes."""
        ended = np.flatnonzero(over)
        episodes = [self.open_episodes[i].columns() for i in ended]
        self._begin(ended)
        return episodes

    def numbers(self) -> dict[str, float]:
        """Return what the record shows of the environment: nothing."""
        return {}

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what the open episodes are restored from: (values, tensors)."""
        origins = [self.envs.origins[i] for i in range(self.num_envs)]
        episodes = [{"seed": seed, "before": before, "digest": episode.digest()}
                    for (seed, before), episode in zip(origins, self.open_episodes, strict=True)]
        return {"steps": self.steps, "restarts": self.envs.restarts, "episodes": episodes}, acts_of(self.open_episodes)

    def restore(self, values: dict[str, Any], tensors: Mapping[str, Tensor]) -> int:
        """Restore the open episodes; return how many could not be restored and are dropped."""
        self.steps, self.envs.restarts, values = (values[name] for name in ("steps", "restarts", "episodes"))
        self.obs, played = self.envs.play([(value["seed"], value["before"], tensors[f"acts.{i}"].numpy())
                                           for i, value in enumerate(values)])
        self.open_episodes = [reopened(one)[0] if one else OpenEpisode(obs)
                              for one, obs in zip(played, self.obs, strict=True)]
        lost = np.array([one is None or episode.digest() != value["digest"]
                         for one, episode, value in zip(played, self.open_episodes, values, strict=True)])
        self._begin(np.flatnonzero(lost & [one is not None for one in played]))
        return int(lost.sum())

    def _begin(self, numbers: np.ndarray) -> None:
        """Begin new episodes in these environments."""
        if len(numbers):
            mask = np.isin(np.arange(self.num_envs), numbers)
            self.obs, _ = self.envs.reset(options={"reset_mask": mask})
            self._check_start(numbers)
        for i in numbers:
            self.open_episodes[i] = OpenEpisode(self.obs[i])

    def _check_step(self, rewards: np.ndarray) -> None:
        """rewards: (N,), of this step."""
        if all_finite(self.obs) and all_finite(rewards):
            return
        for i, (obs, reward, episode) in enumerate(zip(self.obs, rewards, self.open_episodes, strict=True)):
            where = self._place(i, len(episode) + 1)
            check_observation(obs, where)
            check_reward(reward, where)

    def _check_start(self, numbers: Iterable[int]) -> None:
        """Check the first observations of the episodes in these environments."""
        for i in numbers:
            check_observation(self.obs[i], self._place(i, 0))

    def _place(self, i: int, step: int) -> str:
        return f"in environment {i + 1} of {self.num_envs} {place(self.steps * self.num_envs, step)}"


def acts_of(episodes: list[OpenEpisode]) -> dict[str, Tensor]:
    """Return the actions of open episodes: `acts.0` (T, A) or (T,), ..."""
    return {f"acts.{i}": torch.as_tensor(episode.acts()) for i, episode in enumerate(episodes)}


def reopened(played: tuple[np.ndarray, list[tuple]]) -> tuple[OpenEpisode, np.ndarray]:
    """Return the open episode that `envs.origin.replay_actions` has played, and its last observation."""
    obs, steps = played
    episode = OpenEpisode(obs)
    for *step, obs in steps:
        episode.add(*step, obs)
    return episode, obs
