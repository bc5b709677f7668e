"""Environments of Gymnasium and Atari: actions in [-1, 1] or indices, rewards per episode or per step."""

from __future__ import annotations

import logging
import os
import warnings

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.atari import game_kwargs, make_atari
from envs.given import PREFIX, open_given
from envs.names import EnvName, check_registered, resolve_env, unknown_env, with_version
from envs.wrappers import (
    CheckedLimit,
    CheckFrames,
    ClipReward,
    EpisodicReward,
    FlatObservation,
    ScaleAction,
    TrueReward,
)
from utils.errors import ConfigError
from utils.settings.algorithms import any_of, bases
from utils.settings.fields import Config, is_atari
from utils.settings.sizes import expected_discrete, of_spaces
from utils.text import one_line

__all__ = ["EnvName", "check_registered", "env_kwargs", "is_image", "make_env", "resolve_env", "sizes",
           "with_version"]


def env_kwargs(config: Config) -> dict:
    """The arguments that the environment is made with; for a game also frame skip, stickiness and limit."""
    return game_kwargs(config) if is_atari(config.env) else resolve_env(config.env).kwargs


def make_env(config: Config, render_mode: str | None = None) -> gym.Env:
    """The environment of a run.

    Observations are flat float32 vectors, or images as uint8 (H, W, C). The time limit is `test_timesteps` instead of
    Gymnasium's: at it, `truncated` is True and `terminated` is not. With `ep_rews` the reward is 0 until the episode
    ends, then the sum of the episode's rewards. `info["true_reward"]` holds the step's own reward, for evaluation only.
    `render_mode` is Gymnasium's: with "rgb_array", `render()` gives a picture.

    Raises:
        ConfigError: there is no such environment, it cannot be made here, or its spaces do not fit the algorithm.
    """
    _quiet_mujoco()
    if is_atari(config.env) and not config.discrete:
        raise ConfigError(f"env: {config.env!r} is a game with discrete actions, {expected_discrete()}")
    shown = {} if render_mode is None else {"render_mode": render_mode}
    if config.env.startswith(PREFIX):
        env = CheckedLimit(open_given(config), config.test_timesteps, config.env)
    else:
        env = (make_atari(config, shown) if is_atari(config.env) else
               _build(resolve_env(config.env), config, shown))
    _check_spaces(config, env)
    if not is_image(env.observation_space):
        env = FlatObservation(env)
    elif not is_atari(config.env):
        env = CheckFrames(env, config.env)
    if not config.discrete:
        env = ScaleAction(env)
    env = TrueReward(env)
    if config.env_type == "ep_rews":
        return EpisodicReward(env)
    return ClipReward(env, config.rews_scale) if config.rews_scale else env


def sizes(config: Config, env: gym.Env) -> Config:
    """The Config with the sizes of the environment that `make_env` made for it."""
    return of_spaces(config, env.observation_space, env.action_space)


def is_image(space: gym.Space) -> bool:
    """Whether observations are pictures, uint8 (H, W, C)."""
    return isinstance(space, Box) and len(space.shape) == 3 and space.dtype == np.uint8


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


def _build(name: EnvName, config: Config, shown: dict) -> gym.Env:
    if config.env.count(":") > 1:
        raise ConfigError(f"env: got {config.env!r}, expected a Gymnasium id or module:id")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)         # "v4 is out of date": the user chose it
            warnings.filterwarnings("ignore", ".*Using the latest versioned environment")       # recorded by its id
            env = gym.make(name.id, max_episode_steps=-1, disable_env_checker=True, **name.kwargs, **shown)
        return CheckedLimit(env, config.test_timesteps, config.env)
    except gym.error.UnregisteredEnv:
        raise unknown_env(config.env) from None
    except (ImportError, gym.error.Error) as error:
        raise ConfigError(f"env: {config.env!r} cannot be made here: {one_line(error)}") from None


def _check_spaces(config: Config, env: gym.Env) -> None:
    name, observations, actions = config.env, env.observation_space, env.action_space
    if not isinstance(observations, Box) or observations.dtype.kind not in "fiu":
        raise ConfigError(f"env: {name!r} observes {observations}, expected a Box of numbers")
    if isinstance(actions, Discrete) and not config.discrete:
        raise ConfigError(f"env: {name!r} acts in {actions}, {expected_discrete()}")
    if config.discrete and not (isinstance(actions, Discrete) and actions.start == 0):
        raise ConfigError(f"env: {name!r} acts in {actions}, expected Discrete actions, from 0, for "
                          f"{any_of(bases(discrete=True))}")
    if config.discrete:
        return
    if is_image(observations):
        raise ConfigError(f"env: {name!r} observes pictures, {observations.shape}, expected discrete actions and "
                          f"{any_of(bases(discrete=True))} for them")
    if not isinstance(actions, Box) or len(actions.shape) != 1 or actions.dtype.kind != "f":
        raise ConfigError(f"env: {name!r} acts in {actions}, expected a Box of floats with one dimension")
    if not np.isfinite(actions.high).all() or not np.allclose(actions.low, -actions.high):
        raise ConfigError(f"env: {name!r} acts in {actions}, expected finite bounds that are symmetric about 0")
