"""The parts that a run is built of: environments, agent, replay, engine."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym

from algorithm import create_agent
from algorithm.engine import Engine, create_engine
from algorithm.replay_buffer import create_buffer
from envs import close_env, make_env, sizes, with_version
from envs.build import in_this_process, task_of
from envs.given import eval_config, is_instance
from envs.training_env import TrainingEnv
from envs.wrappers import CheckedLimit
from learner.diagnoser import diagnosis_env
from learner.loading import load_weights
from learner.worlds import has_worlds, open_worlds
from record.directories import recorded
from utils.errors import ConfigError
from utils.memory import check_workers
from utils.precision import possible
from utils.settings.fields import Config
from utils.settings.kernels import AUTO

Make = Callable[[Config], Any]
ROOT = Path("outputs")


@dataclass(eq=False)
class Parts:
    """The parts that a run is built of."""

    config: Config                              # with the sizes of observations and actions
    env: gym.Env
    test_env: gym.Env | None = None             # None: evaluation is off
    engine: Engine | None = None
    why: str = ""                               # the reason for this engine
    diagnosis_env: gym.Env | None = None        # with `diagnose_every`
    worlds: TrainingEnv | None = None           # frozen ones, which evaluation plays instead of `test_env`

    closed: set[int] = field(default_factory=set)           # ids of the environments that are closed

    @property
    def own_actions(self) -> gym.Space:
        """The environment's own space of actions, to which those of the agent are rescaled."""
        layer = self.env
        while not isinstance(layer, CheckedLimit) and isinstance(layer, gym.Wrapper):
            layer = layer.env
        return layer.action_space

    def close(self) -> None:
        """Close the environments, each once; instances that the caller gave stay open."""
        for env in (self.env, self.test_env, self.diagnosis_env):
            self.close_env(env)

    def close_env(self, env: gym.Env | None) -> None:
        """Close one of the environments, unless it is closed or an instance that the caller gave."""
        given = [one.unwrapped for one in (self.config.env_given, self.config.eval_given) if is_instance(one)]
        if env is None or id(env) in self.closed or any(env.unwrapped is one for one in given):
            return
        self.closed.add(id(env))
        close_env(env, report_error)


def report_error(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)


def build(config: Config, make_agent: Make = create_agent, make_buffer: Make = create_buffer) -> Parts:
    """Build the parts of a run.

    Args:
        make_agent, make_buffer: called with the settings, complete with sizes.
    Raises:
        ConfigError: a setting is wrong, or not possible on this machine.
    """
    parts = Parts(config, make_env(config))
    try:
        return _complete(parts, make_agent, make_buffer)
    except BaseException:
        parts.close()
        raise


def _complete(parts: Parts, make_agent: Make, make_buffer: Make) -> Parts:
    """Build what belongs to the environment that trains."""
    own = eval_config(parts.config)
    if own is None:
        parts.config = dataclasses.replace(parts.config, test_rollouts=0)
    elif parts.config.test_rollouts:
        parts.test_env = make_env(own)
        _check_spaces(parts.env, parts.test_env)
    named = dataclasses.replace(parts.config, env=with_version(parts.config.env))      # its module is imported now
    repeats = bool(named.resume) or recorded(named, "precision", ROOT) == "bf16"
    parts.config = config = sizes(possible(named, repeats), parts.env)
    check_drops(config)
    check_rows(config)
    if parts.test_env and has_worlds(config):
        parts.worlds = open_worlds(config, parts.test_env.unwrapped.task, config.test_rollouts)
    agent, buffer = make_agent(config), make_buffer(config)
    if config.load_model and not config.resume:         # a resumed run has weights of its own
        load_weights(agent, config.load_model)
    check_workers(processes(config, parts.env), buffer.bytes_needed if buffer.device.type == "cpu" else 0)
    if config.kernels == AUTO:
        config = dataclasses.replace(config, kernels=recorded(config, "kernels", ROOT) or AUTO)
    parts.engine, parts.why = create_engine(config, agent, buffer)
    parts.config = dataclasses.replace(config, kernels=str(parts.engine.kernels))
    parts.diagnosis_env = diagnosis_env(own or config)
    if config.num_envs > 1:                             # the collector makes others
        parts.close_env(parts.env)
    return parts


def check_drops(config: Config) -> None:
    """Raise a ConfigError if episodes would have to be dropped where they cannot be."""
    if config.on_nan == "drop" and task_of(config) is not None:
        raise ConfigError("on_nan: got 'drop', not read by tensor environments, whose step can itself end an episode; "
                          "expected stop")


def check_rows(config: Config) -> None:
    """Raise a ConfigError if the rows of a world, or its frozen worlds, are not possible here."""
    task = task_of(config)
    name = getattr(task, "__name__", config.env)
    if config.eval_worlds is not None and not hasattr(task, "frozen"):
        raise ConfigError(f"eval_worlds: not read by {name}; expected --env=MarineNav-v0")
    if config.rows > 1 and config.on_policy:
        raise ConfigError(f"env: {name} has {config.rows} rows a group, expected one for "
                          f"{config.basis_alg or config.alg}, which learns from rollouts")
    if config.rows > 1 and config.test_rollouts and not hasattr(task, "frozen"):
        raise ConfigError(f"test_rollouts: got {config.test_rollouts}, but {name} has {config.rows} rows a group, "
                          "which are not played for evaluation; expected 0")
    if has_worlds(config) and config.diagnose_every:
        raise ConfigError(f"diagnose_every: got {config.diagnose_every}, but worlds of several rows are not diagnosed; "
                          "expected 0")


def processes(config: Config, env: gym.Env) -> int:
    """Return how many environments like `env` step at once in processes of their own; 1: all are in this one."""
    return 1 if task_of(config) is not None or in_this_process(config, env) else config.num_envs


def _check_spaces(env: gym.Env, test_env: gym.Env) -> None:
    for name in ("observation_space", "action_space"):
        ours, theirs = getattr(env, name), getattr(test_env, name)
        if ours.shape != theirs.shape or getattr(ours, "n", None) != getattr(theirs, "n", None):
            raise ConfigError(f"eval_env: got {name} {theirs}, expected that of env, {ours}")
