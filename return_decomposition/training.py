"""`train`: train an agent from Python, with every setting by name."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, overload

import gymnasium as gym

from envs.given import name_of
from learner.learner import Callback
from learner.seeds import release
from learner.training import TrainedRun, train_runs
from utils.errors import ConfigError
from utils.settings.cli import combine
from utils.settings.fields import FIELDS, Config
from utils.stop import Stop, Stopped
from utils.text import did_you_mean, shown

Env = str | gym.Env | Callable[[], gym.Env]
KEYWORDS = ("eval_env", "callback", "resume")           # beside the settings


@overload
def train(env: Env | None = None, *, eval_env: Env | None = None, callback: Callback | None = None,
          resume: str | os.PathLike[str] | None = None, seeds: None = None, **settings: Any) -> TrainedRun: ...


@overload
def train(env: Env | None = None, *, eval_env: Env | None = None, callback: None = None,
          resume: None = None, seeds: Sequence[int] | str, **settings: Any) -> list[TrainedRun]: ...


def train(env=None, *, eval_env=None, callback=None, resume=None, seeds=None, **settings):
    """Train an agent, and keep the record of the run in a directory under `outputs`.

    It displays the same progress as `train.py`, and may be called again, in a thread, or in a notebook. With
    `num_envs > 1`, guard the call in a script by `if __name__ == "__main__":`, because worker processes import it.

    Args:
        env: a Gymnasium id, an environment, or a function that makes one. An environment is used for training alone;
            evaluation is then off without `eval_env`. `num_envs > 1` needs an id, or a function of a module.
        eval_env: the same, for evaluation and diagnoses; by default made as `env` is.
        callback: called after each cycle with its row of the record, {metric: number}, without the metrics that have no
            value. The run stops, and saves its state, when it returns False.
        resume: the directory of an earlier run to resume; `settings` then holds changes alone. Give `env` again if it
            was an object.
        seeds: several seeds instead of `seed`, such as (0, 1, 2) or "0-4": a list of runs is returned.
        settings: every setting of `python train.py --help`, by name, such as `alg="rrd"`.
    Returns:
        The run, with `directory`, `agent` and `metrics` (one dict for each cycle).
    Raises:
        ConfigError: a setting is unknown, with the nearest name, or wrong.
        CheckpointError: the state of the run to be resumed is damaged, or in use.
        NotFiniteError, OSError: the run failed.
        SeedsError: one or more of several seeds failed.
        KeyboardInterrupt: after Ctrl-C; the run has saved its state. Other signals that stop it (SIGTERM, SIGUSR1,
            SIGHUP) have their usual effect after the state is saved.
    """
    config = _config(env, eval_env, resume, settings | {"seeds": seeds})
    release()                                           # the memory of an earlier run
    with Stop() as stop:
        try:
            runs = train_runs(config, stop, callback)
            return runs if config.seeds else runs[0]
        except Stopped:
            pass
    return stop.pass_on()


def _config(env: Env | None, eval_env: Env | None, resume: str | os.PathLike[str] | None,
            settings: dict[str, Any]) -> Config:
    """Return the settings of a run, with its environments.

    Raises:
        ConfigError: a setting is unknown or wrong.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    for name in given:
        _check_keyword(name)
    if env is not None:
        given["env"] = name_of(env)
    if eval_env is not None:
        name_of(eval_env, "eval_env")                   # raises unless it is an environment
    config = combine(given, directory=None if resume is None else os.fspath(resume))
    return dataclasses.replace(config, env_given=None if isinstance(env, str) else env, eval_given=eval_env)


def _check_keyword(name: str) -> None:
    """Raise a ConfigError for a misspelt keyword that is no setting; `combine` checks the settings."""
    hint = did_you_mean(name, [*FIELDS, *KEYWORDS])
    if name not in FIELDS and hint.endswith(tuple(f" {keyword}?" for keyword in KEYWORDS)):
        raise ConfigError(f"{shown(name)}: unknown keyword{hint}")
