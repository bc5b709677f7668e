"""The environment of a run as a tensor environment, whatever it is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import gymnasium as gym
import torch

from envs import env_kwargs, make_env
from envs.batch import Finite, GymBatch, Here
from envs.names import resolve_env
from envs.origin import layers
from envs.registration import registered_settings, tensor_class
from envs.tensor import TensorEnv
from envs.training_env import TrainingEnv
from utils.seeding import stream_seed
from utils.settings.fields import Config

LARGEST = 20                        # degrees of freedom of a MuJoCo model that is stepped in this process with others


def build_env(config: Config, example: gym.Env | None = None, say: Callable[[str], None] = lambda line: None,
              finite: Finite | None = None) -> TensorEnv:
    """Return the environment that a run trains in, `config.num_envs` rows (or groups of rows) on `config.device`.

    Registered tensor environments are made as they are; others come from `envs.make_env`, one in this process, several
    each in its own or all in this one (see `in_this_process`). Either way actions are in [-1, 1] or indices,
    `config.test_timesteps` is the longest episode, and `config.env_type` says when rewards are paid.

    Args:
        example: the environment that `make_env` made for this config; by default another one is made.
        say: called with a line for each process that is restarted.
        finite: see `envs.batch.GymBatch`; tensor environments do not take it.
    Raises:
        ConfigError: there is no such environment, or a setting is invalid.
        ChildProcessError: a process failed.
    """
    example = make_env(config) if example is None else example      # imports the module of `module:id`
    device = "cpu" if config.device == "auto" else config.device
    if task := task_of(config):
        seed = stream_seed(config.seed, "env")
        settings = registered_settings(resolve_env(config.env).id) | env_kwargs(config)
        env = task(config.num_envs, device, seed, torch.float32, **settings)
        return TrainingEnv(env, config.test_timesteps, config.env_type == "ep_rews", config.reward_every)
    return GymBatch(_environments(config, example, say), example, env_seeds(config), device, finite)


def task_of(config: Config) -> type[TensorEnv] | None:
    """Return the tensor class of a run's environment; None if it is one of Gymnasium's."""
    return None if config.env_given is not None else tensor_class(resolve_env(config.env).id)


def env_seeds(config: Config) -> list[int]:
    """Return a seed for each environment; the first one does not depend on their number."""
    return [stream_seed(config.seed, f"env {i}" if i else "env") for i in range(config.num_envs)]


def in_this_process(config: Config, env: gym.Env) -> bool:
    """Return whether the environments of a run, `env` is one of them, step one after the other in this process.

    On policy Gymnasium's own do, unless the model is large: a message to another process takes longer than their step.
    They draw from no global generator, never hang, and need not be killed. Their numbers are the same either way.
    """
    if config.num_envs == 1:
        return True
    ours = all(type(layer).__module__.startswith((f"{__package__}.", "gymnasium.")) for layer in layers(env))
    size = getattr(getattr(env.unwrapped, "model", None), "nv", 0)
    return (config.on_policy and config.env_given is None and ours
            and type(env.unwrapped).__module__.startswith("gymnasium.envs.") and size <= LARGEST)


def _environments(config: Config, example: gym.Env, say: Callable[[str], None]):
    if config.num_envs == 1:
        return Here([example])
    config = dataclasses.replace(config, eval_given=None)           # they evaluate nothing
    if in_this_process(config, example):
        return Here([make_env(config) for _ in range(config.num_envs)])
    from envs.workers.pool import Workers
    return Workers(config, example, say)
