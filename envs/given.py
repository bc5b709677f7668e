"""Environments that are given as Python objects: an instance of `gymnasium.Env`, or a function that makes one.

`Config.env_given` and `Config.eval_given` hold them. Such an environment has a name with the prefix `object=`, which is
no Gymnasium id: so no program can mistake it for a registered environment.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import gymnasium as gym

from envs.names import without_module
from utils.errors import ConfigError
from utils.settings.fields import Config
from utils.text import one_line

PREFIX = "object="


def name_of(env: Any, field: str = "env") -> str:
    """Return the name of an environment: an id as it is, of an object `object=NAME`.

    Args:
        env: an id, a gymnasium.Env, or a function that makes one, which is called once.
        field: `env` or `eval_env`, for the message.
    Raises:
        ConfigError: it is something else.
    """
    if isinstance(env, str):
        return env
    if isinstance(env, gym.Env):
        return _object_name(env)
    if not callable(env):
        raise ConfigError(f"{field}: got {type(env).__name__}, expected an id, a gymnasium.Env, or a function that "
                          "makes one")
    made = call(env, field)
    try:
        return _object_name(made)
    finally:
        made.close()


def call(make: Callable[[], Any], field: str = "env") -> gym.Env:
    """Return what `make()` returns.

    Raises:
        ConfigError: it is no gymnasium.Env.
    """
    env = make()
    if not isinstance(env, gym.Env):
        raise ConfigError(f"{field}: its function returned {type(env).__name__}, expected a gymnasium.Env")
    return env


def open_given(config: Config) -> gym.Env:
    """Return the instance in `config.env_given`, or a new environment made by the function there.

    Raises:
        ConfigError: it is not there: the run of a resumed record, or of a config.json, was given it as an object.
    """
    if config.env_given is None:
        raise _missing(config)
    return config.env_given if is_instance(config.env_given) else call(config.env_given)


def is_instance(env: Any) -> bool:
    """Return whether this is one environment, instead of an id or a function, which stand for any number."""
    return isinstance(env, gym.Env)


def eval_config(config: Config) -> Config | None:
    """Return the settings to make evaluation environments with; None if the only environment is an instance."""
    if config.eval_given is None:
        return None if is_instance(config.env_given) else _for_evaluation(config, config.env_kwargs)
    name = name_of(config.eval_given, "eval_env")
    given = None if isinstance(config.eval_given, str) else config.eval_given
    same = given is None and without_module(name) == without_module(config.env)
    own = dataclasses.replace(config, env=name, env_given=given, eval_given=None)
    return _for_evaluation(own, config.env_kwargs if same else None)


def _for_evaluation(config: Config, default: dict | None) -> Config:
    kwargs = default if config.eval_env_kwargs is None else config.eval_env_kwargs
    return dataclasses.replace(config, env_kwargs=kwargs or None, eval_env_kwargs=None)


def check_given(config: Config) -> None:
    """Check that the environments given can be used as often as the settings need them.

    Raises:
        ConfigError: an instance would be used twice, or a function cannot be sent to the worker processes.
    """
    env, eval_env = config.env_given, config.eval_given
    for name, kwargs, one in (("env_kwargs", config.env_kwargs, env), ("eval_env_kwargs", config.eval_env_kwargs,
                                                                       env if eval_env is None else eval_env)):
        if kwargs and one is not None and not isinstance(one, str):
            raise ConfigError(f"{name}: got {kwargs} with an environment that is given as an object, which has its "
                              "arguments; expected an id, or a function that passes them")
    if is_instance(env) and is_instance(eval_env) and env.unwrapped is eval_env.unwrapped:
        raise ConfigError("eval_env: got the environment that trains, expected another one")
    if is_instance(env) and config.num_envs > 1:
        raise ConfigError(f"env: got an instance with num_envs={config.num_envs}, expected an id or a function that "
                          "makes one")
    if config.num_envs > 1 and env is not None:
        _check_picklable(env)
    if config.seeds and (is_instance(env) or is_instance(eval_env)):
        raise ConfigError(f"{'env' if is_instance(env) else 'eval_env'}: got an instance with several seeds, expected "
                          "an id or a function that makes one")
    if config.diagnose_every and is_instance(env if eval_env is None else eval_env):
        raise ConfigError(f"diagnose_every: got {config.diagnose_every}, but diagnoses need an environment of their "
                          "own; expected an id or a function as eval_env, or 0")


def _check_picklable(make: Any) -> None:
    """Worker processes are spawned, and import the function by its name."""
    expected = "expected a function of a module, which worker processes can import, or num_envs=1"
    try:
        ForkingPickler.dumps(make)
    except Exception as error:                          # of many kinds
        raise ConfigError(f"env: its function cannot be pickled for num_envs > 1: {one_line(error)}; {expected}"
                          ) from None
    main = sys.modules["__main__"]
    if getattr(make, "__module__", None) == "__main__" and not hasattr(main, "__file__"):
        raise ConfigError(f"env: its function was typed into a notebook or a shell; {expected}")


def _object_name(env: gym.Env) -> str:
    spec = env.unwrapped.spec
    return PREFIX + (spec.id if spec else type(env.unwrapped).__name__)


def _missing(config: Config) -> ConfigError:
    if config.resume:
        return ConfigError(f"resume: the environment of {config.resume!r} was given as a Python object, expected it "
                           f"again: train(env=..., resume={config.resume!r}) of return_decomposition")
    return ConfigError(f"env: {config.env!r} was given as a Python object, which no name can make again; expected a "
                       "registered Gymnasium id")
