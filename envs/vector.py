"""Several environments stepped at once, each in a worker process of its own.

Workers import what environments need and no PyTorch: four of them start in a second and a half, and take 40 MB each.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import clear_mpi_env_vars

from envs import make_env, resolve_env
from envs.origin import Origin, State, play
from utils.config import Config, ConfigError
from utils.imports import import_modules
from utils.seeding import stream_seed
from utils.stop import SIGNALS

GRACE = 5.0         # seconds that workers have to close their environments
LONGEST = 1e6       # seconds that one may wait for a pipe; the system counts milliseconds in 32 bits
SPAWN = multiprocessing.get_context("spawn")        # not forked: PyTorch's threads and CUDA do not survive that


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
            Observations (N, O), and for each environment what `envs.origin.play` gives; None of one that was lost.
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


class Worker:
    """A worker as the main process sees it: the process, and a pipe to it."""

    def __init__(self, config: Config, layout: tuple, i: int, restart: int):
        """Start the process.

        Args:
            layout: what `observations` makes an array of; the worker writes row `i`.
            restart: which restart of the run this is, from 1; 0 for the first processes.
        """
        self.restart, self.heard = restart, False
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_work, args=(theirs, config, layout, i), daemon=True)
        with theirs:                                    # else the pipe would not break with the worker
            self.process.start()

    def send(self, request: tuple) -> None:
        with contextlib.suppress(OSError):              # it is dead, which `receive` tells
            self.pipe.send(request)

    def receive(self, timeout: float) -> Any:
        """Raises TimeoutError; EOFError or another OSError if the process is dead."""
        if not self.pipe.poll(timeout):
            raise TimeoutError
        answer = self.pipe.recv()
        self.heard = True
        return answer

    def fate(self, timeout: float = 0.0) -> str | None:
        """How the process ended, if it does so within `timeout` seconds."""
        self.process.join(timeout)
        code = self.process.exitcode
        if code is None or code >= 0:
            return None if code is None else f"ended with exit code {code}"
        return f"was ended by signal {-code} ({signal.strsignal(-code)}{'; out of memory?' * (code == -9)})"

    def kill(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """The signals wait until the end of the block, and never reach a process that is started in it before it is ready.

    Else they would end it, some with a traceback; and so would one end whose main process was interrupted half-way
    through telling it what to do.
    """
    if not hasattr(signal, "pthread_sigmask"):                  # Windows
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)    # processes inherit it
    held, handlers = set(), {}
    try:
        resource_tracker.ensure_running()       # a process of Python's own; its first start lifts the mask
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        if threading.current_thread() is threading.main_thread():       # where Python's handlers run, whichever thread
            for one in filter(lambda one: callable(signal.getsignal(one)), SIGNALS):        # takes the signal
                handlers[one] = signal.signal(one, lambda number, frame: held.add(number))
        yield
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number in held:
            signal.raise_signal(number)


# In the worker's process ------------------------------------------------------------------------------------------

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
        """What `envs.origin.play` gives."""
        seed, before, acts = episode
        self._build(seed)
        first, steps = play(self.origin, before, acts)
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
            raise ValueError(f"observation: got shape {obs.shape}, wants {self.row.shape}")
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
        if ":" not in config.env and resolve_env(config.env).id not in gym.registry:
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
