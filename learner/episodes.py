"""Whole episodes, each by a seed of its own, and what a decomposition pays for their steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from algorithm.decomposition import diagnosis
from algorithm.decomposition.judge import Judge, check_predicted
from algorithm.replay_buffer.episode import OpenEpisode
from utils.finite import check_observation, check_reward
from utils.seeding import stream_seed


@dataclass
class Episode:
    """One episode of T steps."""

    seed: int                           # what its environment was reset with
    explored: bool                      # whether its actions were drawn as in training; greedy otherwise
    acts: np.ndarray                    # (T, A), or indices (T,)
    true: np.ndarray                    # (T,), float64: the environment's own rewards
    predicted: np.ndarray | None        # (T,), float64; None without a judge

    @property
    def true_return(self) -> float:
        return float(self.true.sum())


class Player:
    """Plays episodes; each is determined by the agent's weights and by `seed`, whatever was played before it."""

    def __init__(self, env: gym.Env, actor: Any, random_share: float = 0.0):
        """random_share: of the greedy actions, how many are random instead (the custom on Atari)."""
        self.env, self.actor, self.random_share = env, actor, random_share
        self.judge: Judge | None = None                                     # predicts the rewards of the steps

    def play(self, seed: int, explore: bool) -> Episode:
        """The episode of this seed.

        Raises:
            NotFiniteError: an observation, a true or a predicted reward is not finite.
            Stopped: the environment is `learner.evaluator.Stoppable` and was told to.
        """
        with own_draws(self.actor, stream_seed(seed, "actions")):
            episode, true = self._play(seed, explore)
        columns = episode.columns()
        predicted = self.judge.redistribute(columns) if self.judge else None
        if predicted is not None:
            check_predicted(predicted, "in evaluation, at step {} of an episode")
        return Episode(seed, explore, columns["acts"], np.array(true), predicted)

    def _play(self, seed: int, explore: bool) -> tuple[OpenEpisode, list[float]]:
        draws = np.random.default_rng(stream_seed(seed, "random share"))
        obs, _ = self.env.reset(seed=seed)
        check_observation(obs, "in evaluation, at the start of an episode")
        episode, true, over = OpenEpisode(obs), [], False
        while not over:
            action = self.actor.step(obs, explore=explore)
            if not explore and self.random_share and draws.random() <= self.random_share:
                action = int(draws.integers(self.env.action_space.n))
            obs, reward, terminated, truncated, info = self.env.step(action)
            true.append(info["true_reward"])
            where = f"in evaluation, at step {len(true)} of an episode"
            check_observation(obs, where)
            check_reward(true[-1], where, "true reward")
            episode.add(action, reward, terminated, obs)
            over = terminated or truncated
        return episode, true


@contextlib.contextmanager
def own_draws(actor: Any, seed: int) -> Iterator[None]:
    """Meanwhile the agent explores by this seed; afterwards it goes on as if it had not acted at all."""
    before, counters = actor.generator.get_state(), dict(actor.counters)
    actor.generator.manual_seed(seed)
    try:
        yield
    finally:
        actor.generator.set_state(before)
        actor.counters.update(counters)                 # DQN counts its exploring steps


def numbers_of(episodes: list[Episode], unit: str) -> diagnosis.Numbers:
    """Return `algorithm.decomposition.diagnosis.diagnose` of episodes with predictions, which are in `unit`."""
    return diagnosis.diagnose([one.predicted for one in episodes], [one.true for one in episodes], unit)
