"""Diagnoses of the learned reward during training."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from algorithm.decomposition.diagnosis import COLUMNS, PREFIX
from algorithm.decomposition.judge import create_judge
from algorithm.engine import Engine
from envs import make_env
from envs.origin import State
from learner.episodes import PlayedEpisode, Player, numbers_of
from learner.evaluator import Evaluator
from utils.errors import EpisodeNotFiniteError
from utils.seeding import stream_seed
from utils.settings.fields import Config

EPISODES = 5            # greedy ones, and as many exploring ones


class Diagnoser:
    """An evaluator that also diagnoses the learned reward, after every `diagnose_every`-th evaluation.

    Each diagnosis plays its episodes in an environment of its own, by seeds that follow from its number. So the number
    of evaluations is its whole state, and training and evaluation are the same with and without it.
    """

    def __init__(self, config: Config, evaluator: Evaluator, env: gym.Env, engine: Engine):
        """`env` is the environment of the diagnoses alone."""
        self.evaluator, self.seed, self.every = evaluator, config.seed, config.diagnose_every
        self.engine, self.evaluations = engine, 0
        self.player = Player(env, engine.actor, config.test_eps or 0.0)

    def state(self) -> State:
        """Return what the next episodes follow from."""
        return {"evaluator": self.evaluator.state(), "evaluations": self.evaluations}

    def restore(self, state: State) -> None:
        """Take over what `state` returned."""
        self.evaluator.restore(state["evaluator"])
        self.evaluations = state["evaluations"] + 0                         # a TypeError unless it is a number

    def evaluate(self, logger, steps: int = 0) -> None:
        """Evaluate, and log the columns `Reward/...` that are defined if a diagnosis is due.

        Raises:
            NotFiniteError: an observation, a true or a predicted reward is not finite.
        """
        self.evaluator.evaluate(logger, steps)
        self.evaluations += 1
        if self.evaluations % self.every == 0:
            logger.add({PREFIX + name: value for name, value in self.diagnose().items() if value is not None})

    def diagnose(self) -> dict[str, Any]:
        """Return the numbers of greedy and exploring episodes together, and those of the replay."""
        judge = self.player.judge = create_judge(self.engine.agent, self.engine.buffer)
        if judge is None:                                                   # its payments depend on an empty replay
            return {}
        played = [self._play(number, explore) for number in range(EPISODES) for explore in (False, True)]
        episodes = [one for one in played if one is not None]
        return (numbers_of(episodes, judge.unit) if episodes else {}) | judge.replay_error()

    def _play(self, number: int, explore: bool) -> PlayedEpisode | None:
        """Play an episode; None if it is dropped."""
        try:
            return self.player.play(stream_seed(self.seed, f"diagnosis {self.evaluations} {number}"), explore)
        except EpisodeNotFiniteError:
            if not self.evaluator.drops:
                raise
            return None


def diagnosis_env(config: Config) -> gym.Env | None:
    """Return the environment of the diagnoses; None if the run has none."""
    return make_env(config) if config.diagnose_every else None


def columns(config: Config) -> tuple[str, ...]:
    """Return the columns that a diagnosed run's record has beside the others."""
    return COLUMNS if config.diagnose_every else ()
