"""Several environments stepped at once, each in a worker process of its own.

Workers import what environments need and no PyTorch: four of them start in a second and a half, and take 40 MB each.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import clear_mpi_env_vars

from envs.origin import State
from envs.workers.process import LONGEST, SPAWN, Worker, _signals_held
from envs.workers.worker import GRACE, observations
from utils.errors import ConfigError
from utils.seeding import stream_seed
from utils.settings.fields import Config


class Workers:
    """`config.num_envs` environments of `make_env`, each in a process of its own, stepped at once.

    `reset` and `step` are those of Gymnasium's vector environments without autoreset: an environment whose episode is
    over waits to be reset, `reset(options={"reset_mask": over})`.

    A process that died, or from which nothing is heard for `config.worker_timeout` seconds, is killed and replaced by a
    new one, whose environment is reset with a seed of its own; `config.worker_restarts` times, all processes together.

    Raises (in the constructor, `reset` and `step`):
        ChildProcessError: an environment raised an error, or a process is lost that may not be replaced; one line that
            names it.
        ConfigError: an environment found a setting wrong, or the system starts no more processes.
    """

    def __init__(self, config: Config, env: gym.Env, on_restart: Callable[[str], None] = lambda line: None):
        """Start the processes; their environments are built when they are first reset.

        Args:
            env: one more of them, for its space of observations; it is neither stepped nor sent.
            on_restart: called with a line for people for each process that is replaced.
        """
        self.config, self.on_restart, self.num_envs = config, on_restart, config.num_envs
        self.restarts, self.closed, self.lock = 0, False, threading.Lock()
        self.workers: dict[int, Worker] = {}
        self.origins: dict[int, tuple[int, State | None]] = {}         # what each one's episode began with
        space = env.observation_space
        memory = SPAWN.RawArray("b", self.num_envs * int(np.prod(space.shape)) * space.dtype.itemsize)
        self.layout = (memory, space.dtype, (self.num_envs, *space.shape))
        self.obs = observations(*self.layout)           # (N, O): every worker writes its row
        atexit.register(self.close)         # a thread may be cut off by the end of the program
        try:
            for i in range(self.num_envs):
                self._start(i)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and error.errno:      # open files, processes, memory: there is a limit
                raise ConfigError(f"num_envs: got {config.num_envs}, but the system refuses so many processes: "
                                  f"{error.strerror}") from None
            raise

    def reset(self, *, seed: list[int] | None = None, options: dict[str, np.ndarray] | None = None):
        """Reset all, or those of `options["reset_mask"]`, (N,) bool.

        Args:
            seed: one for each environment; None: each goes on drawing from its generator.
        Returns:
            (N, O) observations, of those that were not reset their last ones; and an empty `info`.
        """
        mask = np.ones(self.num_envs, bool) if options is None else options["reset_mask"]
        seeds = seed or [None] * self.num_envs
        self._ask({int(i): ("reset", seeds[i]) for i in np.flatnonzero(mask)})
        return self.obs.copy(), {}

    def step(self, actions: np.ndarray):
        """Step all.

        Args:
            actions: (N, A), or (N,) indices.
        Returns:
            Observations (N, O), rewards, terminated, truncated, and `info` with `restarted`, each (N,). Where
            `restarted` is true a process was replaced: the episode that it played is lost, the step belongs to none,
            and the observation is a new episode's first one.
        """
        answers = self._ask({i: ("step", action) for i, action in enumerate(actions)})
        rewards = np.zeros(self.num_envs)
        terminated, truncated, restarted = np.zeros((3, self.num_envs), bool)
        for i in range(self.num_envs):
            if i in answers:
                rewards[i], terminated[i], truncated[i] = answers[i]
            else:
                restarted[i] = True
        return self.obs.copy(), rewards, terminated, truncated, {"restarted": restarted}

    def play(self, episodes: list[tuple[int, State | None, np.ndarray]]):
        """Bring each environment into the middle of an episode, which began with (seed, state before) and went on with
        these actions.

        Returns:
            Observations (N, O), and for each environment what `envs.origin.replay_actions` gives; None of one that was
            lost.
        """
        answers = self._ask({i: ("play", episode) for i, episode in enumerate(episodes)})
        self.origins |= {i: episodes[i][:2] for i in answers}
        return self.obs.copy(), [answers.get(i) for i in range(self.num_envs)]

    def close(self) -> None:
        """End the workers, whatever they are doing; those that cannot close their environment in time are killed."""
        with self.lock:                                 # no other thread starts one from here on
            self.closed = True
        atexit.unregister(self.close)
        for worker in self.workers.values():
            worker.pipe.close()                         # which a worker understands
        end = time.monotonic() + GRACE
        try:
            for worker in self.workers.values():
                worker.process.join(max(end - time.monotonic(), 0))
        finally:                                        # Ctrl-C, too
            for worker in self.workers.values():
                worker.kill()

    def _ask(self, requests: dict[int, tuple]) -> dict[int, Any]:
        """What the workers answer to these calls of `WorkerEnv`; not among it are those that had to be replaced."""
        answers, lost = self._exchange(requests)
        while lost:
            for i, end in lost.items():
                self._replace(i, end)
            seeds = {i: stream_seed(self.config.seed, f"env {i} restart {self.workers[i].restart}") for i in lost}
            _, lost = self._exchange({i: ("reset", seed) for i, seed in seeds.items()})
        return answers

    def _exchange(self, requests: dict[int, tuple]) -> tuple[dict[int, Any], dict[int, str]]:
        """(What those answered that did, what became of the others)."""
        answers, lost = {}, {}
        for i, request in requests.items():
            self.workers[i].send(request)
        patience = self._patience(requests) * max(1, *(len(argument[2]) for method, argument in requests.values()
                                                       if method == "play"), 1)
        end = time.monotonic() + patience
        for i in requests:
            try:
                answers[i] = self.workers[i].receive(max(end - time.monotonic(), 0))
                end = time.monotonic() + patience       # many on few cores take turns: one that answers speaks for all
            except TimeoutError:
                lost[i] = self.workers[i].fate() or f"has not answered for {patience:g} s"
            except (EOFError, OSError):
                lost[i] = self.workers[i].fate(GRACE) or "has closed its pipe"
        self._check_errors(answers)
        found = {i: answer for i, (answer, _) in answers.items()}
        self.origins |= {i: answer for i, answer in found.items() if requests[i][0] == "reset"}
        return found, lost

    def _patience(self, asked) -> float:
        """Seconds; processes that all start at once need as much longer as there are more of them than cores."""
        starting = sum(not self.workers[i].heard for i in asked)
        share = max(1.0, starting / (os.cpu_count() or 1))
        return min(self.config.worker_timeout * share, LONGEST)

    def _replace(self, i: int, end: str) -> None:
        self.workers[i].kill()
        most = self.config.worker_restarts
        complaint = f"{self._which(i)}: its process {end}"
        if self.restarts >= most:
            raise ChildProcessError(f"{complaint}; restarts before that: {self.restarts} (--worker_restarts={most})")
        self.restarts += 1
        self.on_restart(f"note: {complaint}; it is started anew, without its unfinished episode (restart "
                        f"{self.restarts} of at most {most})")
        try:
            self._start(i)
        except OSError as error:
            raise ChildProcessError(f"{complaint}, and no new one can be started: {error.strerror or error}") from None

    def _start(self, i: int) -> None:
        # An interrupt waits until the process is in the list of those that `close` ends.
        with self.lock, _signals_held(), clear_mpi_env_vars():
            if self.closed:
                raise ChildProcessError("the environments are closed")
            self.workers[i] = Worker(self.config, self.layout, i, self.restarts)

    def _check_errors(self, answers: dict[int, tuple]) -> None:
        for i, (_, error) in answers.items():
            if error is not None:
                line, is_setting = error
                raise ConfigError(line) if is_setting else ChildProcessError(
                    f"{self._which(i)}: {line}; --num_envs=1 would show the whole traceback")

    def _which(self, i: int) -> str:
        return f"env: {self.config.env!r}, environment {i + 1} of {self.num_envs}"


# In the worker's process ------------------------------------------------------------------------------------------
