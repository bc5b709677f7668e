"""Gather experience from one environment in this process, from several in processes of their own, or from tensors.

A collector has `num_envs`, and `gather()`, which takes steps, and stores the episodes that ended with them. The learner
knows nothing else of environments. An observation or reward that is not finite enters no episode: its episode is
dropped, or the constructor and `gather` raise `NotFiniteError`; see `learner.drops`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from algorithm.replay_buffer.episode import OpenEpisode
from envs.build import build_env, env_seeds, task_of
from envs.curriculum_forms import open_curriculum
from envs.origin import Origin, replay_actions
from learner.drops import Drops
from learner.rollouts import Rollouts
from learner.stepwise import Columns, Stepwise
from learner.tensor_collector import TensorCollector
from utils.finite import all_finite, is_finite, place
from utils.settings.fields import Config

if TYPE_CHECKING:
    from envs.tensor import TensorEnv
    from envs.workers.pool import Workers


@contextlib.contextmanager
def open_collector(config: Config, env: gym.Env, agent: Any, say: Callable[[str], None] = lambda line: None,
                   ) -> Iterator[Collector | VectorCollector | TensorCollector | Rollouts]:
    """Open the collector for `config.num_envs`; its processes end with the block.

    Args:
        env: the environment itself if `num_envs` is 1, else an example of them.
        agent: chooses the actions.
        say: called with a line for each process that is restarted, and for the first episode that is dropped.
    Raises:
        ChildProcessError, ConfigError: an environment or its process failed, see `envs.workers.pool.Workers`.
    """
    drops = Drops(config.on_nan == "drop", say)
    if config.on_policy or task_of(config):
        with _open_rows(config, env, say, drops) as rows:
            kind = Rollouts if config.on_policy else TensorCollector
            yield kind(rows, agent, open_curriculum(config.curriculum, rows if task_of(config) else None), drops)
        return
    seeds = env_seeds(config)
    if len(seeds) == 1:
        yield Collector(env, agent, seeds[0], drops)
        return
    from envs.workers.pool import Workers
    sent = dataclasses.replace(config, eval_given=None)             # workers need no environment of evaluation
    with contextlib.closing(Workers(sent, env, say)) as envs:
        yield VectorCollector(envs, agent, seeds, drops)


@contextlib.contextmanager
def _open_rows(config: Config, env: gym.Env, say: Callable[[str], None], drops: Drops) -> Iterator[TensorEnv]:
    """Open the environments as tensors; those in processes of their own end with the block."""
    rows = build_env(config, env, say, drops.finite if drops.allowed else None)
    try:
        yield rows
    finally:
        if config.num_envs > 1 or task_of(config):      # else it is `env` itself, which belongs to the caller
            rows.close()


class Collector(Stepwise):
    """One environment and its open episode."""

    num_envs = 1

    def __init__(self, env: gym.Env, agent: Any, seed: int, drops: Drops | None = None):
        """drops: decides on observations and rewards that are not finite; None: they raise."""
        self.env, self.agent, self.steps, self.drops = env, agent, 0, drops or Drops()
        self.returns: list[tuple[float, int]] = []      # true return and length of the episodes that `step` returned
        self.origin = Origin(env, seed)
        self._reset()

    def step(self) -> list[Columns]:
        """Step the environment; return its episode if it ended, or nothing.

        Raises:
            NotFiniteError: an observation or a reward is not finite.
        """
        self.returns = []
        action = self.agent.step(self.obs, explore=True)
        obs_next, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        if not (all_finite(obs_next) and is_finite(reward)) and not self._finite(obs_next, reward):     # rare
            self._reset()
            return []
        self.open_episode.add(action, reward, terminated, obs_next)
        self.obs = obs_next
        if not (terminated or truncated):
            return []
        self.returns = [(info["true_return"], len(self.open_episode))]
        episode = self.open_episode.columns()
        self._reset()
        return [episode]

    def _finite(self, obs: np.ndarray, reward: float) -> bool:
        return self.drops.finite(obs, reward, place(self.steps, len(self.open_episode) + 1))

    def _reset(self) -> None:
        starts, where = 0, place(self.steps, 0)
        self.obs, _ = self.origin.reset()
        while not self.drops.finite(self.obs, 0.0, where):
            self.drops.check_starts(starts := starts + 1, where)
            self.obs, _ = self.origin.reset()
        self.open_episode = OpenEpisode(self.obs)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what the open episode is restored from: (values, tensors)."""
        episode = {"before": self.origin.before, "digest": self.open_episode.digest()}
        values = {"steps": self.steps, "dropped": self.drops.count, "episodes": [episode]}
        return values, acts_of([self.open_episode])

    def restore(self, values: dict[str, Any], tensors: Mapping[str, Tensor]) -> int:
        """Restore the open episode; return 1 if it could not be restored and is dropped, else 0."""
        self.steps, (value,) = values["steps"], values["episodes"]
        self.drops.count = values.get("dropped", 0)     # states of earlier versions do not say it
        self.open_episode, self.obs = reopened(replay_actions(self.origin, value["before"], tensors["acts.0"].numpy()))
        if self.open_episode.digest() == value["digest"]:
            return 0
        self._reset()
        return 1


class VectorCollector(Stepwise):
    """N environments with an open episode each; the agent chooses all N actions at once."""

    def __init__(self, envs: Workers, agent: Any, seeds: list[int], drops: Drops | None = None):
        """drops: decides on observations and rewards that are not finite; None: they raise."""
        self.envs, self.agent, self.num_envs, self.drops = envs, agent, envs.num_envs, drops or Drops()
        self.returns: list[tuple[float, int]] = []      # true return and length of the episodes that `step` returned
        self.steps = 0                                                                  # of each environment
        self.obs, _ = envs.reset(seed=seeds)                                            # (N, O)
        self._check_starts(np.arange(self.num_envs))
        self.open_episodes = [OpenEpisode(obs) for obs in self.obs]

    def step(self) -> list[Columns]:
        """Step all environments; return the episodes that ended, in the order of the environments.

        Raises:
            NotFiniteError: an observation or a reward is not finite.
        """
        actions = self.agent.step(self.obs, explore=True)                               # (N, A), or (N,) indices
        self.obs, rewards, terminated, truncated, info = self.envs.step(actions)
        self.steps += 1
        dropped = self._dropped(rewards)
        for episode, *step in zip(self.open_episodes, actions, rewards, terminated, self.obs, strict=True):
            episode.add(*step)
        for i in np.flatnonzero(info["restarted"]):                     # the steps before the restart are lost
            self.open_episodes[i] = OpenEpisode(self.obs[i])
        ended = np.flatnonzero((terminated | truncated) & ~dropped)
        episodes = [self.open_episodes[i].columns() for i in ended]
        self.returns = [(float(info["true_return"][i]), len(self.open_episodes[i])) for i in ended]
        self._begin(np.flatnonzero(terminated | truncated | dropped))
        return episodes

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what the open episodes are restored from: (values, tensors)."""
        origins = [self.envs.origins[i] for i in range(self.num_envs)]
        episodes = [{"seed": seed, "before": before, "digest": episode.digest()}
                    for (seed, before), episode in zip(origins, self.open_episodes, strict=True)]
        values = {"steps": self.steps, "restarts": self.envs.restarts, "dropped": self.drops.count,
                  "episodes": episodes}
        return values, acts_of(self.open_episodes)

    def restore(self, values: dict[str, Any], tensors: Mapping[str, Tensor]) -> int:
        """Restore the open episodes; return how many could not be restored and are dropped."""
        self.drops.count = values.get("dropped", 0)     # states of earlier versions do not say it
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
            self._reset(numbers)
            self._check_starts(numbers)
        for i in numbers:
            self.open_episodes[i] = OpenEpisode(self.obs[i])

    def _reset(self, numbers: np.ndarray) -> None:
        self.obs, _ = self.envs.reset(options={"reset_mask": np.isin(np.arange(self.num_envs), numbers)})

    def _dropped(self, rewards: np.ndarray) -> np.ndarray:
        """Whether the step of each environment is not finite, (N,); rewards: (N,), of this step."""
        if all_finite(self.obs) and all_finite(rewards):
            return np.zeros(self.num_envs, bool)
        places = [self._place(i, len(episode) + 1) for i, episode in enumerate(self.open_episodes)]
        return np.array([not self.drops.finite(*step) for step in zip(self.obs, rewards, places, strict=True)])

    def _check_starts(self, numbers: np.ndarray) -> None:
        """Check the first observations of the episodes in these environments; reset those again that may be dropped."""
        starts = 0
        while numbers := [i for i in numbers if not self.drops.finite(self.obs[i], 0.0, self._place(i, 0))]:
            self.drops.check_starts(starts := starts + 1, self._place(numbers[0], 0))
            self._reset(np.array(numbers))

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
