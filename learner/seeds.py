"""Train several seeds of the same settings in one process: in parallel on CPU cores; on CUDA together, or in turn.

Each seed has its own environment, agent, replay, engine, evaluator and record, as in a single run, and each random
generator belongs to one of them. So its numbers equal, to the bit, those of a single run with one PyTorch thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import torch

from utils import global_draws
from utils.cores import count_cores
from utils.display import Display, View
from utils.errors import CheckpointError, ConfigError, SeedsError
from utils.finite import NotFiniteError
from utils.memory import WORKER_BYTES, available_bytes
from utils.settings.fields import Config
from utils.stop import Stop, Stopped
from utils.text import human_bytes, one_line, printable
from utils.threads import threads


def train_seeds(config: Config, build: Callable[[Config], Any], learn: Callable[..., Any], stop: Stop,
                report: Callable[[str], Any]) -> list[Any]:
    """Train with each of `config.seeds`; return what `learn` returned, in the order of the seeds.

    Args:
        build: builds the parts of one seed's run, with an `engine`.
        learn: (parts, view, stop) -> the trained run; it saves its state and raises Stopped after `stop` is set.
        report: called with a line for each seed that fails.
    Raises:
        ConfigError: a setting is wrong for all of them; nothing was written.
        SeedsError: one or more of them failed; the others have ended.
        Stopped: `stop` was set, and every run has saved its state.
    """
    if config.engine == "compile":
        raise ConfigError("engine: got 'compile' with --seeds, expected auto, eager or manual (the state of "
                          "torch.compile is shared by the whole process)")
    seeds = Seeds(config, build, learn, stop, report)
    try:
        if not on_gpu(seeds):
            SideBySide(seeds).run()
        elif seeds.can_share:
            Together(seeds).run()
        else:
            in_turn(seeds)
    except Stopped:
        if not seeds.failed:                            # else the same command would not resume all of them
            raise
    finally:
        seeds.close()
    if seeds.failed:
        failed = ", ".join(str(seed) for seed in config.seeds if seed in seeds.failed)
        raise SeedsError(f"seeds: {failed} of {', '.join(map(str, config.seeds))} failed")
    return [seeds.trained[seed] for seed in config.seeds]


class Seeds:
    """The runs of all seeds: how to build and train them, and their results."""

    def __init__(self, config: Config, build: Callable[[Config], Any], learn: Callable[..., Any], stop: Stop,
                 report: Callable[[str], Any]):
        self.config, self.build, self._learn, self.stop, self.report = config, build, learn, stop, report
        self.display = Display()
        self.failed: list[int] = []
        self.trained: dict[int, Any] = {}                   # seed -> its finished run
        self.built: list[Any] = []                          # parts that no run has begun with
        self.first = [self._build(config.seeds[0])]         # raises before anything is written
        buffer = self.first[0].engine.buffer
        self.buffer_device, self.buffer_bytes = buffer.device, buffer.bytes_needed
        # What is captured for one agent by hand can be captured for all of them.
        engine = self.first[0].engine
        self.can_share = (engine.name == "cudagraph" and engine.by_hand and len(config.seeds) > 1
                          and not config.fit_every)

    def parts(self, seed: int) -> Any:
        """Return the parts of one seed's run; call it in the order of the seeds."""
        return self.first.pop() if self.first else self._build(seed)

    def _build(self, seed: int) -> Any:
        with threads(1) if self.config.device == "cpu" else contextlib.nullcontext():       # as each trains
            parts = self.build(dataclasses.replace(self.config, seed=seed, seeds=None))
        self.config = dataclasses.replace(self.config, kernels=parts.config.kernels)        # one choice for all
        self.built.append(parts)
        return parts

    def close(self) -> None:
        """Close the environments of parts that no run has begun with."""
        for parts in self.built:
            parts.close()

    def learn(self, seed: int, parts: Any, view: View) -> None:
        """Train one seed."""
        self.built.remove(parts)                            # `learn` closes its environments
        self.trained[seed] = self._learn(parts, view, self.stop)

    def begin(self, how: str) -> None:
        """Display how the seeds are trained."""
        self.display.say(f"seeds {', '.join(map(str, self.config.seeds))}: {how}")

    def view(self, seed: int) -> View:
        """Return the view of one seed's run."""
        return self.display.view(self.config.run_length, f"seed {seed}")

    def fail(self, seed: int, complaint: str) -> None:
        """Report that a seed failed; the others continue."""
        self.failed.append(seed)
        self.report(f"seed {seed}: {complaint}")


def in_turn(seeds: Seeds) -> None:
    """Train one seed after the other, in this thread."""
    with seeds.display:
        seeds.begin(f"one after the other on {seeds.config.device}")
        for seed in seeds.config.seeds:
            try:
                with global_draws.seeded(seed):
                    seeds.learn(seed, seeds.parts(seed), seeds.view(seed))
            except Exception as error:
                seeds.fail(seed, error_line(error))
            release()


def on_gpu(seeds: Seeds) -> bool:
    """Return whether agents or replays share one GPU."""
    return seeds.config.device.startswith(("cuda", "mps")) or seeds.buffer_device.type == "cuda"


class SideBySide:
    """Train as many seeds at a time as there are cores, each in one thread that PyTorch does not divide further.

    Environments and agents are built in the calling thread, one at a time.
    """

    def __init__(self, seeds: Seeds):
        self.seeds, self.lanes = seeds, self._count_lanes(len(seeds.config.seeds))
        check_memory(self.lanes, seeds)
        self.stop, self.ended = seeds.stop, SimpleQueue()
        self.running: dict[int, threading.Thread] = {}

    def run(self) -> None:
        """Train all seeds, and wait for them."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        with self.seeds.display, self._global_generators():
            try:
                self._start_all()
                while self.running:
                    self._await_one()
            except BaseException:                       # Ctrl-C without a handler, an error in this thread
                self.stop.set()
                raise
            finally:
                self._wake()
                for thread in self.running.values():
                    thread.join()
                while not self.ended.empty():           # a run that could not save its state reports it
                    seed, complaint = self.ended.get()
                    if complaint:
                        self.seeds.fail(seed, complaint)
                torch.set_num_threads(threads)

    @contextlib.contextmanager
    def _global_generators(self) -> Iterator[None]:
        """Leave the generators of the process to all seeds; report if any environment draws from them."""
        with global_draws.shared() as drawn:
            yield
        if any(drawn):
            self.seeds.display.say("note: an environment draws from global generators (random, numpy.random or torch), "
                                   "which all seeds share, so these runs do not repeat; train one --seed at a time")

    def _count_lanes(self, seeds: int) -> int:
        """Return how many train at a time."""
        return min(seeds, count_cores())

    def _start_all(self) -> None:
        self.seeds.begin(f"{self.lanes} at a time, each in a thread of its own")
        for seed in self.seeds.config.seeds:
            if len(self.running) == self.lanes:
                self._await_one()
            self._start(seed)

    def _wake(self) -> None:
        """End the waiting of threads for each other."""

    def _start(self, seed: int) -> None:
        try:
            parts = self.seeds.parts(seed)
        except Exception as error:
            self.seeds.fail(seed, error_line(error))
            return
        self._start_thread(seed, parts)

    def _start_thread(self, seed: int, parts: Any) -> None:
        # A daemon thread, so that a second Ctrl-C ends a program whose environment hangs.
        thread = threading.Thread(target=self._train, args=(seed, parts, self.seeds.view(seed)), name=f"seed {seed}",
                                  daemon=True)
        self.running[seed] = thread
        thread.start()

    def _train(self, seed: int, parts: Any, view: View) -> None:
        torch.set_num_threads(1)
        complaint = None
        try:
            self.seeds.learn(seed, parts, view)
        except Stopped:
            pass
        except BaseException as error:                  # an environment may even call sys.exit
            complaint = error_line(error)
        self.ended.put((seed, complaint))

    def _await_one(self) -> None:
        seed, complaint = self.ended.get()
        self.running.pop(seed).join()
        release()
        if complaint:
            self.seeds.fail(seed, complaint)
        self.stop.check()


class Together(SideBySide):
    """Train all seeds at once on one GPU, in one captured update; see `algorithm.engine.seeds.shared`."""

    def _count_lanes(self, seeds: int) -> int:
        return seeds

    def _start_all(self) -> None:
        from algorithm.engine.seeds.shared import share
        self.runs = [self.seeds.parts(seed) for seed in self.seeds.config.seeds]
        for parts, engine in zip(self.runs, share([parts.engine for parts in self.runs]), strict=True):
            parts.engine, parts.why = engine, f"one update for {self.lanes} seeds"
        self.seeds.begin(f"together on {self.seeds.config.device}, in one captured update")
        for seed, parts in zip(self.seeds.config.seeds, self.runs, strict=True):
            self._start_thread(seed, parts)

    def _wake(self) -> None:
        for parts in self.runs if self.running else ():
            parts.engine.leave()

    def _train(self, seed: int, parts: Any, view: View) -> None:
        try:
            super()._train(seed, parts, view)
        finally:
            parts.engine.leave()                        # else the others would wait for it


def check_memory(lanes: int, seeds: Seeds) -> None:
    """Check that the replays of `lanes` seeds, and the processes of their environments, fit in memory.

    Raises:
        ConfigError: they do not.
    """
    config, available = seeds.config, available_bytes(seeds.buffer_device)
    workers = config.num_envs * WORKER_BYTES if config.num_envs > 1 else 0
    needed = lanes * (seeds.buffer_bytes + workers)
    if available is None or needed <= available:
        return
    fits = int(0.9 * config.buffer_size * (available / lanes - workers) / seeds.buffer_bytes)
    size = f"--buffer_size={fits} would fit, or " if fits >= config.test_timesteps else ""
    raise ConfigError(f"buffer_size: {lanes} replays of {config.buffer_size} steps, one for each seed that trains at a "
                      f"time, {'with the processes of their environments ' if workers else ''}need "
                      f"{human_bytes(needed)} on {seeds.buffer_device}, which has {human_bytes(available)} free; "
                      f"{size}name fewer --seeds")


def release() -> None:
    """Free the memory of ended runs, before the next one measures how much is free."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def error_line(error: BaseException) -> str:
    """Return an error as one line, with the place of its traceback."""
    plain = isinstance(error, (ConfigError, CheckpointError, NotFiniteError, OSError))
    message = str(error) if plain else f"{type(error).__name__}: {error}"
    return printable(one_line("; ".join([message, *getattr(error, "__notes__", ())])))
