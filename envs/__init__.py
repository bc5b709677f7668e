"""Environments of Gymnasium and Atari: actions in [-1, 1] or indices, rewards per episode or per step."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.spaces import Discrete

from envs.atari import game_kwargs, make_atari
from envs.given import PREFIX, is_instance, open_given
from envs.names import EnvName, check_registered, resolve_env, unknown_env, with_version
from envs.registration import as_settings, is_one_row, is_tensor_env, register_env
from envs.spaces import ScaleAction, check_spaces, is_image, parts_of
from envs.wrappers import (
    CheckedLimit,
    CheckFrames,
    ClipReward,
    FlatObservation,
    LateReward,
    TrueReward,
)
from utils.errors import ConfigError
from utils.settings.fields import Config
from utils.settings.games import is_atari
from utils.settings.imports import check_first
from utils.settings.sizes import expected_discrete, of_spaces
from utils.text import one_line

LATER = {"build_env": "envs.published"}         # it needs PyTorch: name -> module

__all__ = ["EnvName", "build_env", "check_registered", "close_env", "env_kwargs", "is_image", "make_env",
           "register_env", "resolve_env", "sizes", "with_version"]


def __getattr__(name: str) -> Any:
    """Import a name of `LATER` when it is first used."""
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(LATER[name]), name)


def env_kwargs(config: Config) -> dict:
    """The arguments that the environment is made with, those of `--env_kwargs` last; for a game also frame skip,
    stickiness and limit.
    """
    own = game_kwargs(config) if is_atari(config.env) else {}
    return own | resolve_env(config.env, config.env_kwargs).kwargs


def make_env(config: Config, render_mode: str | None = None) -> gym.Env:
    """The environment of a run.

    Observations are flat float32 vectors, or images as uint8 (H, W, C); actions are in [-1, 1], or indices. The time
    limit is `test_timesteps` instead of Gymnasium's: at it, `truncated` is True and `terminated` is not. With `ep_rews`
    the reward is 0 until the episode ends, then the sum of the episode's rewards; with `reward_every` sums are paid
    more often. `info["true_reward"]` holds the step's own reward, for evaluation only.
    `render_mode` is Gymnasium's: with "rgb_array", `render()` gives a picture.

    Raises:
        ConfigError: there is no such environment, it cannot be made here, or its spaces do not fit the algorithm.
    """
    _quiet_mujoco()
    if is_atari(config.env) and not (config.discrete or config.on_policy):
        raise ConfigError(f"env: {config.env!r} is a game with discrete actions, {expected_discrete()}")
    env = _open(config, {} if render_mode is None else {"render_mode": render_mode})
    try:
        _begin_last_stage(config, env)
        config = _with_actions(config, env)
        check_spaces(config, env)
        return _wrapped(config, env)
    except BaseException:
        if not is_instance(config.env_given):
            env.close()
        raise


def _open(config: Config, shown: dict) -> gym.Env:
    if config.env.startswith(PREFIX):
        return CheckedLimit(open_given(config), config.test_timesteps, config.env)
    try:
        kwargs = env_kwargs(config) | shown
        return make_atari(config, kwargs) if is_atari(config.env) else _build(config, kwargs)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error) or not config.env_kwargs:
            raise
        raise ConfigError(f"env_kwargs: got {json.dumps(config.env_kwargs)}, but {config.env!r} does not take all of "
                          f"it: {one_line(error)[:200]}") from None


def _wrapped(config: Config, env: gym.Env) -> gym.Env:
    if not is_image(env.observation_space):
        env = FlatObservation(env)
    elif not is_atari(config.env):
        env = CheckFrames(env, config.env)
    if not config.discrete:
        env = ScaleAction(env)
    env = TrueReward(env)
    if config.reward_every:
        return LateReward(env, config.reward_every)
    if config.env_type == "ep_rews":
        return LateReward(env)
    return ClipReward(env, config.rews_scale) if config.rews_scale else env


def close_env(env: gym.Env, complain: Callable[[str], Any]) -> None:
    """Close an environment; an error in its `close` is passed on as a line, because its results are kept."""
    try:
        env.close()
    except Exception as error:                          # its code may raise anything
        complain(f"note: closing the environment failed: {type(error).__name__}: {one_line(error)}")


def sizes(config: Config, env: gym.Env) -> Config:
    """The Config with the sizes of the environment that `make_env` made for it; on policy, with the parts of a dict."""
    config = of_spaces(config, env.observation_space, env.action_space)
    if is_one_row(env):
        config = dataclasses.replace(config, rows=env.unwrapped.task.rows_per_group)
    return dataclasses.replace(config, obs_parts=parts_of(_observed(env))) if config.on_policy else config


def _observed(env: gym.Env) -> gym.Space:
    """The space of observations before `FlatObservation` made vectors of them."""
    layer = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, FlatObservation):
            return layer.space
        layer = layer.env
    return env.observation_space


def _quiet_mujoco() -> None:
    """Send MuJoCo's warnings to the log "envs.mujoco"; by default it writes MUJOCO_LOG.TXT in the current directory."""
    try:
        import mujoco
    except Exception as error:                          # loading the OpenGL of MUJOCO_GL may raise anything
        given = os.environ.get("MUJOCO_GL")
        if isinstance(error, ModuleNotFoundError) or (isinstance(error, ImportError) and not given):
            return                                      # reported when a task needs it
        raise ConfigError(f"env: MuJoCo cannot be imported{f' with MUJOCO_GL={given}' if given else ''}: "
                          f"{type(error).__name__}: {one_line(error)}"
                          f"{'; `unset MUJOCO_GL`: training renders nothing' if given else ''}") from None
    mujoco.set_mju_user_warning(_log_mujoco)


def _log_mujoco(message: str) -> None:
    about_model_file = "deprecated" in message          # Gymnasium's own XML; users cannot change it
    logging.getLogger("envs.mujoco").log(logging.DEBUG if about_model_file else logging.WARNING, message.strip())


def _build(config: Config, kwargs: dict) -> gym.Env:
    if config.env.count(":") > 1:
        raise ConfigError(f"env: got {config.env!r}, expected a Gymnasium id or module:id")
    check_first(config.env.rpartition(":")[0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)         # "v4 is out of date": the user chose it
            warnings.filterwarnings("ignore", ".*Using the latest versioned environment")       # recorded by its id
            name = resolve_env(config.env).id
            if is_tensor_env(name):
                kwargs = as_settings(name, kwargs)
            env = gym.make(name, max_episode_steps=-1, disable_env_checker=True, **kwargs)
    except gym.error.UnregisteredEnv:
        raise unknown_env(config.env) from None
    except (ImportError, gym.error.Error) as error:
        check_first(getattr(error, "name", None) or "")
        raise ConfigError(f"env: {config.env!r} cannot be made here: {one_line(error)}") from None
    try:
        return CheckedLimit(env, config.test_timesteps, config.env)
    except ConfigError:
        env.close()
        raise


def _begin_last_stage(config: Config, env: gym.Env) -> None:
    """Set a tensor environment to the last stage of its curriculum, which is what evaluation plays."""
    is_row = is_one_row(env)
    if not is_row and config.curriculum in ("default", "none"):
        return                                              # workers of such environments import no PyTorch
    from envs.curriculum_forms import open_curriculum
    task = env.unwrapped.task if is_row else None
    if curriculum := open_curriculum(config.curriculum, task):
        task.configure(**curriculum.last_settings())


def _with_actions(config: Config, env: gym.Env) -> Config:
    """Return the Config, which on policy now says whether actions are indices."""
    if not config.on_policy:
        return config
    return dataclasses.replace(config, acts_discrete=isinstance(env.action_space, Discrete))
