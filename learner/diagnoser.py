"""Diagnose the learned reward while it is learned."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from algorithm.decomposition.diagnosis import COLUMNS, PREFIX
from algorithm.decomposition.judge import create_judge, predicts
from algorithm.engine import Engine
from envs import make_env
from envs.given import eval_config
from envs.origin import State
from learner.episodes import Player, numbers_of
from learner.evaluator import Evaluator
from record.logger import Logger
from utils.errors import ConfigError
from utils.seeding import stream_seed
from utils.settings.fields import Config

EPISODES = 5            # greedy ones, and as many exploring ones, in each diagnosis


class Diagnoser:
    """An evaluator that also diagnoses the learned reward, after every `diagnose_every`-th evaluation.

    Each diagnosis plays its episodes in an environment of its own, with seeds that depend on its number. So its only
    state is the number of evaluations, and it changes neither training nor evaluation.
    """

    def __init__(self, config: Config, evaluator: Evaluator, env: gym.Env, engine: Engine):
        self.evaluator, self.seed, self.every = evaluator, config.seed, config.diagnose_every
        self.engine, self.evaluations = engine, 0
        self.player = Player(env, engine.actor, config.test_eps or 0.0)

    def state(self) -> State:
        """Return the state that the next episodes depend on."""
        return {"evaluator": self.evaluator.state(), "evaluations": self.evaluations}

    def restore(self, state: State) -> None:
        """Restore what `state` returned."""
        self.evaluator.restore(state["evaluator"])
        self.evaluations = state["evaluations"] + 0                         # raises unless it is a number

    def evaluate(self, logger: Logger) -> None:
        """Evaluate; log the columns `Reward/...` that are defined as well if a diagnosis is due.

        Raises:
            NotFiniteError: an observation, a true or a predicted reward is not finite.
        """
        self.evaluator.evaluate(logger)
        self.evaluations += 1
        if self.evaluations % self.every == 0:
            logger.add({PREFIX + name: value for name, value in self.diagnose().items() if value is not None})

    def diagnose(self) -> dict[str, Any]:
        """Return the numbers of greedy and exploring episodes together, and those of the replay."""
        judge = self.player.judge = create_judge(self.engine.agent, self.engine.buffer)
        if judge is None:                                                   # only the replay predicts, and it is empty
            return {}
        episodes = [self.player.play(stream_seed(self.seed, f"diagnosis {self.evaluations} {number}"), explore)
                    for number in range(EPISODES) for explore in (False, True)]
        return numbers_of(episodes, judge.same_unit) | judge.replay_error()


def diagnosis_env(config: Config, agent: Any, replay: Any) -> gym.Env | None:
    """Make the environment of the diagnoses; None for a run without them.

    Raises:
        ConfigError: neither agent nor replay predicts a reward.
    """
    if not config.diagnose_every:
        return None
    if not (predicts(agent) or hasattr(replay, "predict_rewards")):
        raise ConfigError(f"diagnose_every: got {config.diagnose_every}, but neither {type(agent).__name__} has "
                          f"predict_reward or predict_rewards nor {type(replay).__name__} predict_rewards; expected 0, "
                          "or one of them")
    return make_env(eval_config(config))


def diagnosis_columns(config: Config) -> tuple[str, ...]:
    """Return the metrics that diagnoses add to the record of a run."""
    return COLUMNS if config.diagnose_every else ()
