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
from utils.settings.fields import Config
from utils.settings.imports import import_modules
from utils.stop import SIGNALS

GRACE = 5.0         # seconds that workers have to close their environments


class WorkerEnv:
    """An environment inside a worker, built when it is first reset, which writes what it shows into its row."""

    def __init__(self, config: Config, row: np.ndarray):
        """row: (O,), in the memory that is shared with the main process."""
        self.config, self.row, self.env = config, row, None

    def reset(self, seed: int | None) -> tuple[int, State | None]:
        """What the episode begins with. The first time with a seed, and then without."""
        if seed is not None:
            self._build(seed)
        obs, _ = self.origin.reset()
        self._show(obs)
        return self.origin.seed, self.origin.before

    def play(self, episode: tuple[int, State | None, np.ndarray]) -> tuple[np.ndarray, list[tuple]]:
        """What `envs.origin.replay_actions` gives."""
        seed, before, acts = episode
        self._build(seed)
        first, steps = replay_actions(self.origin, before, acts)
        self._show(steps[-1][-1] if steps else first)
        return first, steps

    def _build(self, seed: int) -> None:
        if self.env is None:
            self.env = _make(self.config)
        self.origin = Origin(self.env, seed)

    def step(self, action: np.ndarray | int) -> tuple[float, bool, bool]:
        """Reward, terminated, truncated."""
        obs, reward, terminated, truncated, _ = self.env.step(action)       # nothing in `info` is worth its way
        self._show(obs)
        return float(reward), bool(terminated), bool(truncated)

    def close(self) -> None:
        if self.env is not None:
            self.env.close()

    def _show(self, obs: np.ndarray) -> None:
        if obs.shape != self.row.shape:
            raise ValueError(f"observation: got shape {obs.shape}, expected {self.row.shape}")
        self.row[...] = obs


def observations(memory, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The shared memory as an array of this shape, (N, O)."""
    return np.frombuffer(memory, dtype).reshape(shape)


def _work(pipe, config: Config, layout: tuple, i: int) -> None:
    """Answer calls of `WorkerEnv`'s methods until the pipe breaks: the main process wants no more, or is gone."""
    # A terminal, or a scheduler, sends these to the whole group of processes, but what they mean is the main process's
    # business: it may want to save, with its environments alive.
    for one in SIGNALS:
        signal.signal(one, _ignore)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)     # see `_signals_held`
    threading.Thread(target=_end_with_the_main_process, daemon=True).start()
    env = WorkerEnv(config, observations(*layout)[i])
    try:
        while True:
            method, argument = pipe.recv()
            pipe.send(_call(getattr(env, method), argument))
    except (EOFError, ConnectionError):
        pass
    finally:
        env.close()


def _call(method: Callable, argument: Any) -> tuple[Any, tuple[str, bool] | None]:
    """(What it returns, None), or (None, its error): in words, for an error may be one that cannot be sent."""
    try:
        return method(argument), None
    except ConfigError as error:
        return None, (str(error), True)
    except Exception as error:
        return None, (" ".join(f"{type(error).__name__}: {error}".split()), False)


def _make(config: Config) -> gym.Env:
    try:
        if config.env_given is None and ":" not in config.env and resolve_env(config.env).id not in gym.registry:
            import_modules(config.imports)                      # one of them registers it; else they are not needed
        return make_env(config)
    except ConfigError as error:                                # the main process could build it
        raise ConfigError(f"{error} (in a worker process, which finds environments by --env=module:id, or in a module "
                          "of --import)") from None


def _ignore(*_) -> None:
    """Rather than SIG_IGN, which the programs that an environment starts would inherit."""


def _end_with_the_main_process() -> None:
    """A worker that hangs does not see that its pipe is broken, and once the main process is gone, nobody kills it."""
    multiprocessing.parent_process().join()
    time.sleep(GRACE)
    os._exit(1)
