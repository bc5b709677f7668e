"""The process of one environment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from envs import make_env
from envs.names import resolve_env
from envs.origin import Origin, State, replay_actions
from utils.errors import ConfigError
from utils.global_draws import seed_global
from utils.settings.fields import Config
from utils.settings.imports import import_modules
from utils.stop import SIGNALS, handle
from utils.text import one_line

GRACE = 5.0         # seconds that workers have to close their environments


class WorkerEnv:
    """An environment inside a worker, built at its first reset; it writes each observation into its shared row."""

    def __init__(self, config: Config, row: np.ndarray):
        """row: (O,), in memory that the main process shares."""
        self.config, self.row, self.env = config, row, None

    def reset(self, seed: int | None) -> tuple[int, State | None]:
        """Begin an episode, the first one with a seed; returns (seed, state before the reset)."""
        if seed is not None:
            self._build(seed)
        obs, _ = self.origin.reset()
        self._show(obs)
        return self.origin.seed, self.origin.before

    def play(self, episode: tuple[int, State | None, np.ndarray]) -> tuple[np.ndarray, list[tuple]]:
        """Play (seed, state before the reset, actions); returns the result of `envs.origin.replay_actions`."""
        seed, before, acts = episode
        self._build(seed)
        first, steps = replay_actions(self.origin, before, acts)
        self._show(steps[-1][-1] if steps else first)
        return first, steps

    def _build(self, seed: int) -> None:
        seed_global(seed)
        if self.env is None:
            self.env = _make(self.config)
            seed_global(seed)                           # its module may have imported PyTorch
        self.origin = Origin(self.env, seed)

    def step(self, action: np.ndarray | int) -> tuple[float, bool, bool, float, float]:
        """Step; returns reward, terminated, truncated and, of `info`, the true reward and the episode's true return."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._show(obs)
        return float(reward), bool(terminated), bool(truncated), info["true_reward"], info["true_return"]

    def close(self) -> None:
        """Close the environment, if it was built."""
        if self.env is not None:
            self.env.close()

    def _show(self, obs: np.ndarray) -> None:
        if obs.shape != self.row.shape:
            raise ValueError(f"observation: got shape {obs.shape}, expected {self.row.shape}")
        self.row[...] = obs


def shared_rows(memory, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The shared memory as an array of this shape, (N, O)."""
    return np.frombuffer(memory, dtype).reshape(shape)


def serve(pipe, config: Config, layout: tuple, i: int) -> None:
    """Answer calls of `WorkerEnv`'s methods until the main process closes the pipe or ends.

    A terminal or a scheduler sends signals to the whole group of processes. The worker ignores them: the main process
    decides when to end, and may first save while its environments are alive.
    """
    for one in SIGNALS:
        handle(one, _ignore)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)     # see `signals_held`
    threading.Thread(target=_end_with_the_main_process, daemon=True).start()
    env = WorkerEnv(config, shared_rows(*layout)[i])
    try:
        while True:
            method, argument = pipe.recv()
            pipe.send(_call(getattr(env, method), argument))
    except (EOFError, ConnectionError):
        pass
    finally:
        env.close()


def _call(method: Callable, argument: Any) -> tuple[Any, tuple[str, bool] | None]:
    """(result, None), or (None, (message of the error, whether a setting is invalid)).

    The error itself is not sent, because not every exception can be pickled.
    """
    try:
        return method(argument), None
    except ConfigError as error:
        return None, (str(error), True)
    except Exception as error:
        return None, (one_line(f"{type(error).__name__}: {error}"), False)


def _make(config: Config) -> gym.Env:
    try:
        if config.env_given is None and ":" not in config.env and resolve_env(config.env).id not in gym.registry:
            import_modules(config.imports)                      # one of them registers it; else they are not needed
        return make_env(config)
    except ConfigError as error:                                # the main process could build it
        raise ConfigError(f"{error} (in a worker process, which finds environments by --env=module:id, or in a module "
                          "of --import)") from None


def _ignore(*_) -> None:
    """Do nothing; unlike SIG_IGN, programs that an environment starts do not inherit it."""


def _end_with_the_main_process() -> None:
    """End a worker that hangs, and so does not see that its pipe is closed, after the main process has ended."""
    multiprocessing.parent_process().join()
    time.sleep(GRACE)
    os._exit(1)
