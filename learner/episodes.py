"""Whole episodes played by an agent, and the rewards that a decomposition pays for their steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from algorithm.decomposition import diagnosis
from algorithm.decomposition.judge import Judge, check_predicted
from algorithm.replay_buffer.episode import OpenEpisode
from envs.origin import OwnDraws
from utils.finite import check_observation, check_reward
from utils.seeding import stream_seed
from utils.stop import Stop


class Step(NamedTuple):
    """One step of an episode."""

    action: np.ndarray | int            # (A,), or an index
    reward: float                       # what the agent is paid
    terminated: bool
    obs_next: np.ndarray                # (O,), or a stack of frames (H, W, C)
    true_reward: float                  # the environment's own reward
    over: bool                          # terminated or truncated
    metrics: dict[str, float]           # of the episode so far, as the environment tells them in info["metrics"]


@dataclass
class PlayedEpisode:
    """A finished episode of T steps."""

    seed: int                           # of the reset of its environment
    explored: bool                      # whether the actions were drawn as in training; greedy otherwise
    acts: np.ndarray                    # (T, A), or indices (T,)
    true: np.ndarray                    # (T,), float64: the environment's own rewards
    predicted: np.ndarray | None        # (T,), float64; None without a judge
    metrics: dict[str, float] = field(default_factory=dict)         # of the whole episode, as its last step told them

    @property
    def true_return(self) -> float:
        """The sum of the true rewards."""
        return float(self.true.sum())


class Player:
    """Play whole episodes with an agent, in an environment that is used for nothing else."""

    def __init__(self, env: gym.Env, actor: Any, random_share: float = 0.0):
        """random_share: the share of greedy actions that are replaced by random ones, as is usual on Atari."""
        self.env, self.actor, self.random_share = env, actor, random_share
        self.judge: Judge | None = None                                     # predicts the rewards of the steps

    def play(self, seed: int, explore: bool) -> PlayedEpisode:
        """Play the episode of this seed. It depends on the agent's weights and the seed alone.

        Raises:
            NotFiniteError: an observation, a true or a predicted reward is not finite.
            Stopped: the environment is `Stoppable`, and the run was asked to stop.
        """
        with own_draws(self.actor, stream_seed(seed, "actions")), OwnDraws(self.env, seed).active():
            episode, true, metrics = self._collect(seed, explore)
        columns = episode.columns()
        predicted = self.judge.redistribute(columns) if self.judge else None
        if predicted is not None:
            check_predicted(predicted, "in evaluation, at step {} of an episode")
        return PlayedEpisode(seed, explore, columns["acts"], np.array(true), predicted, metrics)

    def _collect(self, seed: int, explore: bool) -> tuple[OpenEpisode, list[float], dict[str, float]]:
        """Return the episode, its true rewards, and its metrics."""
        draws = None if explore else np.random.default_rng(stream_seed(seed, "random share"))
        obs = self.reset(seed)
        episode, true, metrics = OpenEpisode(obs), [], {}
        for step in self.steps(obs, lambda obs: self.actor.step(obs, explore=explore), draws):
            episode.add(step.action, step.reward, step.terminated, step.obs_next)
            true.append(step.true_reward)
            metrics = step.metrics
        return episode, true, metrics

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Begin an episode; return its first observation, (O,) or (H, W, C).

        Raises:
            NotFiniteError: the observation is not finite.
        """
        begin = getattr(self.actor, "begin_episode", None)
        if begin is not None:                           # a recurrent policy forgets the last episode
            begin()
        obs, _ = self.env.reset(seed=seed)
        check_observation(obs, "in evaluation, at the start of an episode")
        return obs

    def steps(self, obs: np.ndarray, act: Callable[[np.ndarray], Any],
              draws: np.random.Generator | None = None) -> Iterator[Step]:
        """Play the episode that began with `obs`, and yield its steps.

        Args:
            act: the policy, observation -> action.
            draws: the generator of random actions (see `random_share`); None: take none.
        Raises:
            NotFiniteError: an observation or a true reward is not finite.
        """
        number, over = 0, False
        while not over:
            step, number = self._step(self._action(act(obs), draws)), number + 1
            where = f"in evaluation, at step {number} of an episode"
            check_observation(step.obs_next, where)
            check_reward(step.true_reward, where, "true reward")
            yield step
            obs, over = step.obs_next, step.over

    def _action(self, action: Any, draws: np.random.Generator | None) -> Any:
        """Return the action, or a random one in its place."""
        if draws is not None and self.random_share and draws.random() <= self.random_share:
            return int(draws.integers(self.env.action_space.n))
        return action

    def _step(self, action: Any) -> Step:
        obs, reward, terminated, truncated, info = self.env.step(action)
        metrics = info.get("metrics")
        return Step(action, reward, terminated, obs, info["true_reward"], terminated or truncated,
                    metrics if isinstance(metrics, dict) else {})


class Stoppable(gym.Wrapper):
    """An environment for evaluation, which may take minutes: `step` raises Stopped once `stop` is set."""

    def __init__(self, env: gym.Env, stop: Stop):
        super().__init__(env)
        self.stop = stop

    def step(self, action: Any) -> tuple:
        """Step the environment, unless the run must stop."""
        self.stop.check()
        return self.env.step(action)


@contextlib.contextmanager
def own_draws(actor: Any, seed: int) -> Iterator[None]:
    """Let the agent explore by this seed inside the block, and restore its generator and counters afterwards."""
    before, counters = actor.generator.get_state(), dict(actor.counters)
    actor.generator.manual_seed(seed)
    try:
        yield
    finally:
        actor.generator.set_state(before)
        actor.counters.update(counters)                 # DQN counts its exploring steps


def numbers_of(episodes: list[PlayedEpisode], unit: str) -> diagnosis.Numbers:
    """Apply `algorithm.decomposition.diagnosis.diagnose` to episodes with predictions, which are in `unit`."""
    return diagnosis.diagnose([one.predicted for one in episodes], [one.true for one in episodes], unit)
