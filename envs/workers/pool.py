"""Several environments stepped at once, each in a worker process of its own.

Workers import what environments need, and no PyTorch: four of them start in 1.5 seconds and take 40 MB each.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import clear_mpi_env_vars

from envs.origin import State
from envs.workers.process import LONGEST, SPAWN, Worker, signals_held
from envs.workers.worker import GRACE, shared_rows
from utils.errors import ConfigError
from utils.seeding import stream_seed
from utils.settings.fields import Config


class Workers:
    """`config.num_envs` environments of `make_env`, each in a process of its own, stepped at once.

    `reset` and `step` are those of Gymnasium's vector environments without autoreset: an environment whose episode is
    over waits for `reset(options={"reset_mask": over})`.

    A process that dies, or does not answer for `config.worker_timeout` seconds, is killed and replaced. The new
    environment is reset with a seed of its own. All processes together are replaced at most `config.worker_restarts`
    times.

    Raises (in the constructor, `reset` and `step`):
        ChildProcessError: an environment raised an error, or a lost process may not be replaced; one line that names
            the environment.
        ConfigError: an environment found a setting invalid, or the system refuses to start a process.
    """

    def __init__(self, config: Config, env: gym.Env, on_restart: Callable[[str], None] = lambda line: None):
        """Start the processes; each builds its environment at the first reset.

        Args:
            env: another instance of the environment, for its observation space; it is neither stepped nor sent.
            on_restart: called with a line to print for each process that is replaced.
        """
        self.config, self.on_restart, self.num_envs = config, on_restart, config.num_envs
        self.restarts, self.closed, self.lock = 0, False, threading.Lock()
        self.workers: dict[int, Worker] = {}
        self.origins: dict[int, tuple[int, State | None]] = {}         # (seed, state before the reset) of each episode
        space = env.observation_space
        memory = SPAWN.RawArray("b", self.num_envs * int(np.prod(space.shape)) * space.dtype.itemsize)
        self.layout = (memory, space.dtype, (self.num_envs, *space.shape))
        self.obs = shared_rows(*self.layout)            # (N, O): each worker writes its row
        atexit.register(self.close)                     # the program may end while a thread uses the workers
        self._start_all()

    def _start_all(self) -> None:
        try:
            for i in range(self.num_envs):
                self._start(i)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and error.errno:      # a limit on open files, processes or memory
                raise ConfigError(f"num_envs: got {self.num_envs}, but the system refuses so many processes: "
                                  f"{error.strerror}") from None
            raise

    def reset(self, *, seed: list[int] | None = None, options: dict[str, np.ndarray] | None = None):
        """Reset all environments, or those of `options["reset_mask"]`, (N,) bool.

        Args:
            seed: one for each environment; None: each continues to draw from its generator.
        Returns:
            Observations (N, O), the last ones of environments that were not reset; and an empty `info`.
        """
        mask = np.ones(self.num_envs, bool) if options is None else options["reset_mask"]
        seeds = seed or [None] * self.num_envs
        self._ask({int(i): ("reset", seeds[i]) for i in np.flatnonzero(mask)})
        return self.obs.copy(), {}

    def step(self, actions: np.ndarray):
        """Step all environments.

        Args:
            actions: (N, A), or (N,) indices.
        Returns:
            Observations (N, O), rewards, terminated, truncated, and `info` with `true_reward`, `true_return` (of the
            episodes so far) and `restarted`, each (N,). Where `restarted` is true, a process was replaced: its episode
            is lost, the step belongs to no episode, and the observation is the first one of a new episode.
        """
        answers = self._ask({i: ("step", action) for i, action in enumerate(actions)})
        rewards, true_rewards, true_returns = np.zeros((3, self.num_envs))
        terminated, truncated, restarted = np.zeros((3, self.num_envs), bool)
        for i in range(self.num_envs):
            if i in answers:
                rewards[i], terminated[i], truncated[i], true_rewards[i], true_returns[i] = answers[i]
            else:
                restarted[i] = True
        told = {"restarted": restarted, "true_reward": true_rewards, "true_return": true_returns}
        return self.obs.copy(), rewards, terminated, truncated, told

    def play(self, episodes: list[tuple[int, State | None, np.ndarray]]):
        """Bring each environment into the middle of an episode.

        Args:
            episodes: (seed, state before the reset, actions so far) of each.
        Returns:
            Observations (N, O), and for each environment the result of `envs.origin.replay_actions`; None if its
            process was replaced.
        """
        answers = self._ask({i: ("play", episode) for i, episode in enumerate(episodes)})
        self.origins |= {i: episodes[i][:2] for i in answers}
        return self.obs.copy(), [answers.get(i) for i in range(self.num_envs)]

    def close(self) -> None:
        """End the workers, whatever they do; kill those that do not close their environment in time."""
        with self.lock:                                 # from here on no other thread starts a worker
            self.closed = True
        atexit.unregister(self.close)
        for worker in self.workers.values():
            worker.pipe.close()                         # the signal to end
        end = time.monotonic() + GRACE
        try:
            for worker in self.workers.values():
                worker.process.join(max(end - time.monotonic(), 0))
        finally:                                        # also after Ctrl-C
            for worker in self.workers.values():
                worker.kill()

    # Requests -------------------------------------------------------------------------------------------------------

    def _ask(self, requests: dict[int, tuple]) -> dict[int, Any]:
        """The answers to calls of `WorkerEnv`'s methods, without those of workers that had to be replaced."""
        answers, lost = self._exchange(requests)
        while lost:
            for i, end in lost.items():
                self._replace(i, end)
            seeds = {i: stream_seed(self.config.seed, f"env {i} restart {self.workers[i].restart}") for i in lost}
            _, lost = self._exchange({i: ("reset", seed) for i, seed in seeds.items()})
        return answers

    def _exchange(self, requests: dict[int, tuple]) -> tuple[dict[int, Any], dict[int, str]]:
        """Send requests; returns the answers, and how the workers that did not answer ended."""
        for i, request in requests.items():
            self.workers[i].send(request)
        steps = max(1, *(len(argument[2]) for method, argument in requests.values() if method == "play"), 1)
        answers, lost = self._receive(requests, self._patience(requests) * steps)
        for i, (_, error) in answers.items():
            if error is not None:
                self._refuse(i, *error)
        found = {i: answer for i, (answer, _) in answers.items()}
        self.origins |= {i: answer for i, answer in found.items() if requests[i][0] == "reset"}
        return found, lost

    def _receive(self, asked, patience: float) -> tuple[dict[int, tuple], dict[int, str]]:
        answers, lost = {}, {}
        end = time.monotonic() + patience
        for i in asked:
            worker = self.workers[i]
            try:
                answers[i] = worker.receive(max(end - time.monotonic(), 0))
                end = time.monotonic() + patience       # many workers on few cores take turns: one answer renews all
            except TimeoutError:
                lost[i] = worker.fate() or f"has not answered for {patience:g} s"
            except (EOFError, OSError):
                lost[i] = worker.fate(GRACE) or "has closed its pipe"
        return answers, lost

    def _patience(self, asked) -> float:
        """Seconds to wait for an answer to a step or reset; longer while more processes start than there are cores."""
        starting = sum(not self.workers[i].heard for i in asked)
        share = max(1.0, starting / (os.cpu_count() or 1))
        return min(self.config.worker_timeout * share, LONGEST)

    def _refuse(self, i: int, line: str, is_setting: bool) -> NoReturn:
        if is_setting:
            raise ConfigError(line)
        raise ChildProcessError(f"{self._name(i)}: {line}; run with --num_envs=1 to see the whole traceback")

    # Processes ------------------------------------------------------------------------------------------------------

    def _start(self, i: int) -> None:
        # A signal waits until the process is in the list of those that `close` ends.
        with self.lock, signals_held(), clear_mpi_env_vars():
            if self.closed:
                raise ChildProcessError("the environments are closed")
            self.workers[i] = Worker(self.config, self.layout, i, self.restarts)

    def _replace(self, i: int, end: str) -> None:
        self.workers[i].kill()
        most = self.config.worker_restarts
        complaint = f"{self._name(i)}: its process {end}"
        if self.restarts >= most:
            raise ChildProcessError(f"{complaint}; restarts before that: {self.restarts} (--worker_restarts={most})")
        self.restarts += 1
        self.on_restart(f"note: {complaint}; it is replaced, and its unfinished episode is dropped (restart "
                        f"{self.restarts} of at most {most})")
        try:
            self._start(i)
        except OSError as error:
            raise ChildProcessError(f"{complaint}, and no new one can be started: {error.strerror or error}") from None

    def _name(self, i: int) -> str:
        return f"env: {self.config.env!r}, environment {i + 1} of {self.num_envs}"
