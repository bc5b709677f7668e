"""Several environments stepped at once, each in a worker process of its own.

Workers import what environments need and no PyTorch: four of them start in a second and a half, and take 40 MB each.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing.connection
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import _async_worker

from envs import make_env
from utils.config import Config, ConfigError

GRACE = 5.0         # seconds that workers have to close their environments


class Workers(AsyncVectorEnv):
    """Gymnasium's vector environment over `config.num_envs` environments of `make_env`, each in a process of its own.

    An environment whose episode is over waits to be reset: `reset(options={"reset_mask": over})`. Processes are
    spawned rather than forked, for PyTorch's threads and CUDA do not survive a fork.

    Raises (in the constructor, `reset` and `step`):
        ChildProcessError: an environment failed or its process died; one line that names it.
        ConfigError: an environment found a setting wrong.
    """

    def __init__(self, config: Config, env: gym.Env):
        """env: one more of them, for its spaces; it is neither stepped nor sent."""
        self.env_name = config.env
        build = functools.partial(WorkerEnv, config, env.observation_space, env.action_space)
        try:
            with self._deaths_told(), _interrupts_held():
                super().__init__([build] * config.num_envs, context="spawn", worker=_work,
                                 autoreset_mode=AutoresetMode.DISABLED)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and error.errno:      # open files, processes, memory: there is a limit
                raise ConfigError(f"num_envs: got {config.num_envs}, but the system refuses so many processes: "
                                  f"{error.strerror}") from None
            raise

    def reset(self, **kwargs):
        with self._deaths_told():
            told = super().reset(**kwargs)
        self._check_errors(told[-1])
        return told

    def step(self, actions):
        with self._deaths_told():
            told = super().step(actions)
        self._check_errors(told[-1])
        return told

    def close_extras(self, **_) -> None:
        """End the workers, whatever they are doing; those that cannot close their environment in time are killed."""
        started = self._started()
        for process in started:
            process.terminate()
        end = time.monotonic() + GRACE
        for process in started:
            process.join(max(end - time.monotonic(), 0))
            if process.exitcode is None:
                process.kill()
                process.join()
        for pipe in filter(None, getattr(self, "parent_pipes", ())):
            pipe.close()

    def _started(self) -> list:
        """The processes, fewer if starting them failed half-way."""
        return [process for process in getattr(self, "processes", ()) if process.pid is not None]

    @contextlib.contextmanager
    def _deaths_told(self) -> Iterator[None]:
        """A pipe that broke becomes a line about the process at its other end."""
        try:
            yield
        except (EOFError, ConnectionError):
            sentinels = {process.sentinel: i for i, process in enumerate(self._started())}
            ended = sorted(sentinels[one] for one in multiprocessing.connection.wait(sentinels, GRACE))
            i = ended[0] if ended else None
            raise ChildProcessError(f"{self._which(i)}: its process {self._end_of(i)}") from None

    def _end_of(self, i: int | None) -> str:
        if i is None:
            return "does not answer"
        self.processes[i].join(GRACE)
        code = self.processes[i].exitcode
        if code is None or code >= 0:
            return f"ended with exit code {code}"
        return f"was ended by signal {-code} ({signal.strsignal(-code)})" + "; out of memory?" * (code == -9)

    def _check_errors(self, info: dict) -> None:
        if "error" not in info:
            return
        i = int(np.flatnonzero(info["_error"])[0])
        if info["is_setting"][i]:
            raise ConfigError(info["error"][i])
        raise ChildProcessError(f"{self._which(i)}: {info['error'][i]}; --num_envs=1 would show the whole traceback")

    def _which(self, i: int | None) -> str:
        return f"env: {self.env_name!r}, environment {'?' if i is None else i + 1} of {self.num_envs}"


class WorkerEnv(gym.Env):
    """An environment inside a worker: built when it is first reset, and its errors are told as `info`.

    Gymnasium's own way prints the traceback on the terminal, and waits for ever for an error that cannot be pickled.
    """

    def __init__(self, config: Config, observation_space: gym.Space, action_space: gym.Space):
        self.config, self.observation_space, self.action_space = config, observation_space, action_space
        self.metadata = dict(self.metadata)                     # Gymnasium writes into it
        self.blank = np.zeros(observation_space.shape, observation_space.dtype)
        self.env = None

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        try:
            if self.env is None:
                self.env = _make(self.config)
            obs, _ = self.env.reset(seed=seed)
            return self._checked(obs), {}
        except Exception as error:
            return self.blank, _report(error)

    def step(self, action):
        try:
            obs, reward, terminated, truncated, _ = self.env.step(action)
            return self._checked(obs), reward, terminated, truncated, {}        # nothing in `info` is worth its way
        except Exception as error:
            return self.blank, 0.0, False, False, _report(error)

    def close(self) -> None:
        if self.env is not None:
            self.env.close()

    def _checked(self, obs: np.ndarray) -> np.ndarray:
        if obs.shape != self.blank.shape:
            raise ValueError(f"observation: got shape {obs.shape}, wants {self.blank.shape}")
        return obs


def _make(config: Config) -> gym.Env:
    try:
        return make_env(config)
    except ConfigError as error:                                # the main process could build it
        raise ConfigError(f"{error} (in a worker process, which finds environments by --env=module:id)") from None


def _report(error: Exception) -> dict:
    if isinstance(error, ConfigError):
        return {"error": str(error), "is_setting": True}
    return {"error": " ".join(f"{type(error).__name__}: {error}".split()), "is_setting": False}


def _work(*args) -> None:
    """Gymnasium's worker; Ctrl-C is the main process's business, and if that is gone, so is the worker, silently."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    with contextlib.suppress(EOFError, ConnectionError):
        _async_worker(*args)


def _leave(*_) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit                                            # which closes the environment on its way


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the end of the block, and never reaches a process that is started in it.

    Else a process, interrupted before it can say that it does not mind, would print a traceback; and so would one whose
    main process was interrupted half-way through telling it what to do.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield                                   # Windows; or a thread in which Ctrl-C raises nothing
        return
    resource_tracker.ensure_running()           # a process of Python's own, whose start would lift the mask
    held, handler = [], signal.getsignal(signal.SIGINT)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})        # processes inherit it
    signal.signal(signal.SIGINT, lambda *args: held.append(args))           # but another thread may take the signal
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if held and callable(handler):
            handler(*held[0])
