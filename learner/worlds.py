"""Worlds of several robots, played to their end with an agent: every robot is a row, and all worlds are one batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.tensor import TensorEnv
from envs.training_env import TrainingEnv
from learner.episodes import PlayedEpisode
from utils.finite import check_observation, check_reward
from utils.settings.fields import Config
from utils.stop import Stop

NAMES = ("rewards", "successes", "times", "energies", "lengths")
# The columns of a record, and the means that they hold; time and energy are those of successful worlds alone.
COLUMNS = {"eval/success": "successes", "eval/reward": "rewards", "eval/time": "times", "eval/energy": "energies"}
OF_SUCCESSES = ("eval/time", "eval/energy")


@dataclass
class PlayedWorlds:
    """W worlds of up to R robots, played for up to T steps. What a robot did after its end is NaN or 0."""

    rewards: np.ndarray         # (W,) the discounted sum of a robot's rewards, the mean over its robots
    returns: np.ndarray         # (W,) likewise, not discounted
    successes: np.ndarray       # (W,) 1: each of its robots has reached its goal
    times: np.ndarray           # (W,) seconds until a robot's end, the mean over its robots
    energies: np.ndarray        # (W,) N s, likewise
    lengths: np.ndarray         # (W,) joint steps
    metrics: dict[str, np.ndarray]      # (W,) each: what the environment told of each robot at the end, the mean
    steps: np.ndarray           # (W, R) of each robot; -1: there is none
    acts: np.ndarray            # (T, W, R, A), or indices (T, W, R)
    true: np.ndarray            # (T, W, R) rewards
    paths: np.ndarray           # (T + 1, W, R, 13), as the environment's `path` says

    def summaries(self) -> dict[str, np.ndarray]:
        """Return `NAMES`, (W,) each."""
        return {name: getattr(self, name) for name in NAMES}


class WorldPlayer:
    """Plays a batch of worlds; a world ends when one of its robots collides, or when none takes part any more."""

    def __init__(self, env: TrainingEnv, actor: Any, gamma: float, stop: Stop | None = None):
        """
        Args:
            env: a reset of all rows begins the worlds; its task has `path`.
            gamma: the discount of `PlayedWorlds.rewards`.
            stop: once it is set, `play` raises Stopped.
        """
        self.env, self.actor, self.gamma, self.stop = env, actor, gamma, stop

    def play(self, seed: int, explore: bool = False) -> PlayedWorlds:
        """Play all worlds once.

        Args:
            seed: of the environment's draws, such as noise of what is seen.
        Raises:
            NotFiniteError: an observation or a reward is not finite.
            Stopped: see the constructor.
        """
        begin(self.env, seed)
        exists = self._by_world(self.env.active)
        paths, steps = [self._path()], list(self._steps(explore))
        acts, rewards, took_part, metrics = (list(one) for one in zip(*steps, strict=True))
        paths += [path for *_, path in metrics]
        acted = torch.stack(took_part)                                                      # (T, W, R)
        true = torch.stack(rewards) * acted
        last = acted.any(2).sum(0) - 1                                                      # (W,)
        at_end = {name: torch.stack([one[0][name] for one in metrics])[last, torch.arange(len(last))]
                  for name in metrics[0][0]}                                                # (W, R) each
        discounts = self.gamma ** torch.arange(len(true), dtype=torch.float64)[:, None, None]

        def mean(values: Tensor) -> np.ndarray:
            return ((values * exists).sum(1) / exists.sum(1)).numpy()
        counts = torch.where(exists, acted.sum(0), -1)
        told = {name: mean(values) for name, values in at_end.items()}
        return PlayedWorlds(mean((true * discounts).sum(0)), mean(true.sum(0)), at_end["all_succeeded"][:, 0].numpy(),
                            told["time"], told["energy"], (last + 1).numpy(), told, counts.numpy(), np.stack(acts),
                            true.numpy(), torch.stack(paths).numpy())

    def _steps(self, explore: bool) -> Iterator[tuple[np.ndarray, Tensor, Tensor, tuple[dict[str, Tensor], Tensor]]]:
        """Yield actions, rewards, which robots took part, metrics and places of each joint step, all by world."""
        env, obs = self.env, self.env.obs
        going = self._by_world(env.active).any(1)                                           # (W,)
        while going.any():
            if self.stop is not None:
                self.stop.check()
            took_part = self._by_world(env.active) & going[:, None]
            acts = self.actor.step(obs.cpu().numpy(), explore=explore)
            obs, rews, _, _, info = env.step(torch.as_tensor(acts, device=env.device))
            self._check(obs, rews, took_part.flatten())
            metrics = {name: self._by_world(values).double() for name, values in info["metrics"].items()}
            yield (acts.reshape(env.num_groups, -1, *acts.shape[1:]), self._by_world(rews).double(), took_part,
                   (metrics, self._path()))
            going = going & ~metrics["collision"].bool().any(1) & self._by_world(env.active).any(1)

    def _check(self, obs: Tensor, rews: Tensor, rows: Tensor) -> None:
        for row in (~(obs.isfinite().all(1) & rews.isfinite()).cpu() & rows).nonzero()[:, 0].tolist():
            check_observation(obs[row].cpu().numpy(), "in evaluation")
            check_reward(float(rews[row]), "in evaluation")

    def _path(self) -> Tensor:
        return self._by_world(self.env.task.path())

    def _by_world(self, values: Tensor) -> Tensor:
        return values.detach().cpu().view(self.env.num_groups, -1, *values.shape[1:]).clone()


class Film:
    """The first of some worlds, played again with all of them, as an environment for `results.video.record`."""

    def __init__(self, env: TrainingEnv, played: PlayedWorlds):
        """env: that of the player."""
        self.env, self.played, self.metadata, self.t = env, played, env.task.metadata, 0

    def reset(self, *, seed: int) -> None:
        """Begin; seed: that of `WorldPlayer.play`."""
        begin(self.env, seed)
        self.t = 0

    def step(self, action: Any) -> tuple[None, float, bool, bool, dict[str, float]]:
        """Step all worlds by the actions that they were played with; `action` is that of the first one."""
        acts, robots = self.played.acts[self.t], self.played.steps[0] >= 0
        self.env.step(torch.as_tensor(acts.reshape(-1, *acts.shape[2:]), device=self.env.device))
        reward = float(self.played.true[self.t, 0, robots].mean())
        self.t += 1
        return None, reward, False, False, {"true_reward": reward}

    def render(self) -> np.ndarray:
        """Draw the first world."""
        return self.env.render(0)

    def close(self) -> None:
        """Do nothing: the worlds belong to the player."""


def begin(env: TrainingEnv, seed: int) -> None:
    """Begin all worlds, in their order; seed: of the environment's draws."""
    env.generator.manual_seed(seed)
    env.task.next_world.zero_()
    env.reset()


def has_worlds(config: Config) -> bool:
    """Return whether evaluation plays frozen worlds rather than episodes of one row."""
    return config.rows > 1 or config.eval_worlds is not None


def open_worlds(config: Config, task: TensorEnv, count: int, seed: int | None = None) -> TrainingEnv:
    """Return the environment of the frozen worlds that evaluation plays.

    Args:
        task: with the settings of evaluation.
        count: the number of worlds, where `eval_worlds` does not say it.
        seed: of the worlds that are sampled without `eval_worlds`, by default that of all runs.
    """
    return TrainingEnv(task.frozen(count, config.eval_worlds, seed), config.test_timesteps, paid_at_end=False)


def episodes_of(played: PlayedWorlds, seed: int, explored: bool) -> list[PlayedEpisode]:
    """Return each world as an episode, whose rewards are means over its robots."""
    episodes = []
    for w, length in enumerate(played.lengths):
        robots = played.steps[w] >= 0
        true = played.true[:length, w, robots].mean(1)
        won = played.successes[w] > 0
        metrics = {"success": float(played.successes[w]), "robots_at_goal": float(played.metrics["success"][w]),
                   "reward": float(played.rewards[w]),
                   "time": float(played.times[w]) if won else math.nan,
                   "energy": float(played.energies[w]) if won else math.nan}
        episodes.append(PlayedEpisode(seed, explored, played.acts[:length, w], true, None, metrics))
    return episodes
