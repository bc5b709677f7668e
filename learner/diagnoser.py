"""The learned reward, looked at while it is learned."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from algorithm.decomposition.diagnosis import COLUMNS, PREFIX
from algorithm.decomposition.judge import create_judge, predicts
from algorithm.engine import Engine
from envs import make_env
from envs.origin import State
from learner.episodes import Player, numbers_of
from learner.evaluator import Evaluator
from utils.errors import ConfigError
from utils.seeding import stream_seed
from utils.settings.fields import Config

EPISODES = 5            # greedy ones, and as many exploring ones


class Diagnoser:
    """An evaluator that also diagnoses the learned reward, after every `diagnose_every`-th evaluation.

    Each diagnosis plays its episodes in an environment of its own, by seeds that follow from its number: all that it
    goes on from is how many evaluations there were, and neither training nor evaluation sees a difference.
    """

    def __init__(self, config: Config, evaluator: Evaluator, env: gym.Env, engine: Engine):
        self.evaluator, self.seed, self.every = evaluator, config.seed, config.diagnose_every
        self.engine, self.evaluations = engine, 0
        self.player = Player(env, engine.actor, config.test_eps or 0.0)

    def state(self) -> State:
        """What its next episodes are drawn from."""
        return {"evaluator": self.evaluator.state(), "evaluations": self.evaluations}

    def restore(self, state: State) -> None:
        self.evaluator.restore(state["evaluator"])
        self.evaluations = state["evaluations"] + 0                         # a number

    def evaluate(self, logger) -> None:
        """As `Evaluator.evaluate`; where it is time, the columns `Reward/...` that are defined are logged as well.

        Raises:
            NotFiniteError: an observation, a true or a predicted reward is not finite.
        """
        self.evaluator.evaluate(logger)
        self.evaluations += 1
        if self.evaluations % self.every == 0:
            logger.add({PREFIX + name: value for name, value in self.diagnose().items() if value is not None})

    def diagnose(self) -> dict[str, Any]:
        """The numbers of greedy and exploring episodes together, and those of the replay."""
        judge = self.player.judge = create_judge(self.engine.agent, self.engine.buffer)
        if judge is None:                                                   # the replay is to tell, and is empty
            return {}
        episodes = [self.player.play(stream_seed(self.seed, f"diagnosis {self.evaluations} {number}"), explore)
                    for number in range(EPISODES) for explore in (False, True)]
        return numbers_of(episodes, judge.same_unit) | judge.replay_error()


def diagnosis_env(config: Config, agent: Any, replay: Any) -> gym.Env | None:
    """The environment of the diagnoses, of a run that has them.

    Raises:
        ConfigError: neither agent nor replay predicts a reward.
    """
    if not config.diagnose_every:
        return None
    if not (predicts(agent) or hasattr(replay, "predict_rewards")):
        raise ConfigError(f"diagnose_every: got {config.diagnose_every}, but neither {type(agent).__name__} has "
                          f"predict_reward or predict_rewards nor {type(replay).__name__} predict_rewards; expected 0, "
                          "or one of them")
    return make_env(config)


def columns(config: Config) -> tuple[str, ...]:
    """What the record of a run has besides, if it is diagnosed."""
    return COLUMNS if config.diagnose_every else ()
