"""Whole episodes by a seed of their own, and what an agent takes the reward of their steps to be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from algorithm.replay_buffer.episode import OpenEpisode
from learner import diagnosis
from utils.config import ConfigError
from utils.finite import all_finite, check_observation, check_reward, is_finite
from utils.seeding import stream_seed

CHUNK = 256             # steps that are predicted at once: stacks of frames are large


@dataclass
class Episode:
    """One episode of T steps."""

    seed: int                           # what its environment was reset with
    explored: bool                      # whether its actions were drawn as in training; greedy otherwise
    acts: np.ndarray                    # (T, A), or indices (T,)
    true: np.ndarray                    # (T,), float64: the environment's own rewards
    predicted: np.ndarray | None        # (T,), float64; None where the agent predicts none

    @property
    def true_return(self) -> float:
        return float(self.true.sum())


class Player:
    """Plays episodes; each is determined by the agent's weights and by `seed`, whatever was played before it."""

    def __init__(self, env: gym.Env, actor: Any, random_share: float = 0.0):
        """random_share: of the greedy actions, how many are random instead (the custom on Atari)."""
        self.env, self.actor, self.random_share = env, actor, random_share
        self.judge: LearnedReward | PaidReward | None = None                # predicts the rewards of the steps

    def play(self, seed: int, explore: bool) -> Episode:
        """The episode of this seed.

        Raises:
            NotFiniteError: an observation, a true or a predicted reward is not finite.
            Stopped: the environment is `learner.evaluator.Stoppable` and was told to.
        """
        with own_draws(self.actor, stream_seed(seed, "actions")):
            episode, true = self._play(seed, explore)
        columns = episode.columns()
        predicted = self.judge.rewards(columns) if self.judge else None
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


class LearnedReward:
    """What the agent predicts, as RRD does by its reward network."""

    same_unit = True                    # as the reward

    def __init__(self, agent: Any, replay: Any = None):
        """`replay` is None where there is none to be judged by."""
        self.agent, self.replay = agent, replay

    def rewards(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """The predicted reward of each step, (T,) float64, of what `OpenEpisode.columns` gives."""
        obs, obs_next = both_observations(columns)
        spans = [slice(start, start + CHUNK) for start in range(0, len(obs), CHUNK)]
        parts = [self.predict(obs[span], columns["acts"][span], obs_next[span]) for span in spans]
        return torch.cat(parts).cpu().numpy()

    def predict(self, obs: Any, acts: Any, obs_next: Any) -> Tensor:
        """(N, O), (N, A) or (N,), (N, O) -> (N,), float64."""
        return self.agent.predict_reward(obs, acts, obs_next)[:, 0].double()

    def replay_error(self) -> diagnosis.Numbers:
        """See `learner.diagnosis.replay_error`.

        Raises:
            NotFiniteError: a predicted reward is not finite.
        """
        return diagnosis.replay_error(self.replay.episodes, self._error) if self.replay else {}

    def _error(self, number: int) -> float:
        rows, told = self.replay.held_episode(number)
        parts = [self.replay.storage.read(some) for some in rows.split(CHUNK)]
        predicted = torch.cat([self.predict(*(part[name] for name in ("obs", "acts", "obs_next"))) for part in parts])
        check_predicted(predicted.cpu().numpy(), f"at step {{}} of episode {number + 1} of {self.replay.episodes} "
                                                 "in the replay")
        return abs(float(predicted.mean()) - told / len(rows))


class PaidReward:
    """What the replay would pay for the steps of an episode, as IRCR's does."""

    def __init__(self, replay: Any):
        """`replay` has `predict_rewards` and `same_unit`; see `algorithm.replay_buffer.ircr.IRCRReplay`."""
        self.replay, self.same_unit = replay, replay.same_unit

    def rewards(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """(T,) float64, of what `OpenEpisode.columns` gives.

        Raises:
            ConfigError: they are not as many as there are steps.
        """
        paid = np.asarray(self.replay.predict_rewards(columns), np.float64)
        if paid.shape != (len(columns["rews"]),):
            raise ConfigError(f"predict_rewards: of an episode of {len(columns['rews'])} steps "
                              f"{type(self.replay).__name__} gives shape {paid.shape}, wants one number for each step")
        return paid

    def replay_error(self) -> diagnosis.Numbers:
        """Nothing is learned of which there could be an error."""
        return {}


def create_judge(agent: Any, replay: Any = None) -> LearnedReward | PaidReward | None:
    """What predicts the rewards of this agent; None where nothing does, or only a replay that holds nothing yet."""
    if hasattr(agent, "predict_reward"):
        return LearnedReward(agent, replay)
    return PaidReward(replay) if hasattr(replay, "predict_rewards") and replay.episodes else None


def check_predicted(rewards: np.ndarray, where: str) -> None:
    """Raises NotFiniteError for the first of the predicted rewards (T,) that is not finite, as for a true one.

    Args:
        where: which step {} it is, as the message tells it.
    """
    if not all_finite(rewards):
        step = next(t for t, reward in enumerate(rewards) if not is_finite(reward))
        check_reward(rewards[step], where.format(step + 1), "predicted reward")


def both_observations(columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """`obs` and `obs_next`, (T, O); of frames (T + C, H, W) the stacks (T, H, W, C), views."""
    if "frames" not in columns:
        return columns["obs"], columns["obs_next"]
    frames = columns["frames"]
    stacks = np.lib.stride_tricks.sliding_window_view(frames, len(frames) - len(columns["rews"]), axis=0)
    return stacks[:-1], stacks[1:]


def numbers_of(episodes: list[Episode], same_unit: bool) -> diagnosis.Numbers:
    """`learner.diagnosis.diagnose` of episodes with predictions."""
    return diagnosis.diagnose([one.predicted for one in episodes], [one.true for one in episodes], same_unit)
