"""Several seeds of the same settings in one process: side by side on CPU cores; on a CUDA device together, or in turn.

Every seed has the environment, agent, replay, engine, evaluator and record that its single run would have, and whatever
is drawn from belongs to one of them; so it computes, to the bit, what that run computes with one PyTorch thread.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import torch

from record.system import count_cores
from utils.display import Display, View
from utils.errors import CheckpointError, ConfigError
from utils.finite import NotFiniteError
from utils.installed import called
from utils.memory import WORKER_BYTES, available_bytes
from utils.settings.fields import Config
from utils.stop import Stop, Stopped
from utils.text import human_bytes, printable


def train_seeds(config: Config, build: Callable[[Config], Any], learn: Callable[..., None], stop: Stop) -> int:
    """Train with each of `config.seeds`; the exit code, 1 if one of them failed.

    Args:
        build: makes the parts of a seed's run, with an `engine` and a `test_env`.
        learn: (parts, view, stop) is that run; it raises Stopped soon after `stop` is set, when it has saved itself.
    Raises:
        ConfigError: a setting is wrong for all of them; nothing was written.
        Stopped: `stop` was set; every run has saved itself.
    """
    if config.engine == "compile":
        raise ConfigError("engine: got 'compile' with --seeds, expected auto, eager or manual (what torch.compile "
                          "knows is one for the whole process)")
    seeds = Seeds(config, build, learn, stop)
    try:
        if not on_cuda(seeds):
            SideBySide(seeds).run()
        elif seeds.can_share:
            Together(seeds).run()
        else:
            in_turn(seeds)
    except Stopped:
        if not seeds.failed:                            # or the same command would not go on with all of them
            raise
    return 1 if seeds.failed else 0


class Seeds:
    """The runs to be made, and where they are seen."""

    def __init__(self, config: Config, build: Callable[[Config], Any], learn: Callable[..., None], stop: Stop):
        self.config, self.build, self.learn, self.stop = config, build, learn, stop
        self.display, self.failed = Display(), []
        self.first = [self._build(config.seeds[0])]         # tells what is wrong before anything is written
        buffer = self.first[0].engine.buffer
        self.buffer_device, self.buffer_bytes = buffer.device, buffer.bytes_needed
        # What is captured for one agent by hand can be captured for all of them.
        engine = self.first[0].engine
        self.can_share = engine.name == "cudagraph" and engine.by_hand and len(config.seeds) > 1

    def parts(self, seed: int) -> Any:
        """Asked for by the order of the seeds."""
        return self.first.pop() if self.first else self._build(seed)

    def _build(self, seed: int) -> Any:
        return self.build(dataclasses.replace(self.config, seed=seed, seeds=None))

    def begin(self, how: str) -> None:
        self.display.say(f"seeds {', '.join(map(str, self.config.seeds))}: {how}")

    def view(self, seed: int) -> View:
        return self.display.view(self.config.run_length, f"seed {seed}")

    def fail(self, seed: int, complaint: str) -> None:
        """Tell of it at once; the others go on."""
        self.failed.append(seed)
        print(f"{called('train.py')}: seed {seed}: {complaint}", file=sys.stderr, flush=True)


def in_turn(seeds: Seeds) -> None:
    """One seed after the other, in this thread."""
    with seeds.display:
        seeds.begin(f"one after the other on {seeds.config.device}")
        for seed in seeds.config.seeds:
            try:
                seeds.learn(seeds.parts(seed), seeds.view(seed), seeds.stop)
            except Exception as error:
                seeds.fail(seed, one_line(error))
            release()


def on_cuda(seeds: Seeds) -> bool:
    """Whether agents or replays share one GPU."""
    return seeds.config.device.startswith("cuda") or seeds.buffer_device.type == "cuda"


class SideBySide:
    """As many seeds at a time as there are cores, each in a thread of its own that PyTorch does not divide further.

    Environments and agents are built in the main thread, one at a time.
    """

    def __init__(self, seeds: Seeds):
        self.seeds, self.lanes = seeds, self._count_lanes(len(seeds.config.seeds))
        check_memory(self.lanes, seeds)
        self.stop, self.ended = seeds.stop, SimpleQueue()
        self.running: dict[int, threading.Thread] = {}

    def run(self) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        with self.seeds.display:
            try:
                self._start_all()
                while self.running:
                    self._await_one()
            except BaseException:                       # Ctrl-C that was not heard, an error in here
                self.stop.set()
                raise
            finally:
                self._wake()
                for thread in self.running.values():
                    thread.join()
                while not self.ended.empty():           # a run that could not save itself says so
                    seed, complaint = self.ended.get()
                    if complaint:
                        self.seeds.fail(seed, complaint)
                torch.set_num_threads(threads)

    def _count_lanes(self, seeds: int) -> int:
        """How many train at a time."""
        return min(seeds, count_cores())

    def _start_all(self) -> None:
        self.seeds.begin(f"{self.lanes} at a time, each in a thread of its own")
        for seed in self.seeds.config.seeds:
            if len(self.running) == self.lanes:
                self._await_one()
            self._start(seed)

    def _wake(self) -> None:
        """Threads that wait for each other must see that it is over."""

    def _start(self, seed: int) -> None:
        try:
            parts = self.seeds.parts(seed)
        except Exception as error:
            self.seeds.fail(seed, one_line(error))
            return
        self._start_thread(seed, parts)

    def _start_thread(self, seed: int, parts: Any) -> None:
        # A daemon, so that a second Ctrl-C ends a program whose environment hangs.
        thread = threading.Thread(target=self._train, args=(seed, parts, self.seeds.view(seed)), name=f"seed {seed}",
                                  daemon=True)
        self.running[seed] = thread
        thread.start()

    def _train(self, seed: int, parts: Any, view: View) -> None:
        torch.set_num_threads(1)
        complaint = None
        try:
            self.seeds.learn(parts, view, self.stop)
        except Stopped:
            pass
        except BaseException as error:                  # an environment may even call sys.exit
            complaint = one_line(error)
        self.ended.put((seed, complaint))

    def _await_one(self) -> None:
        seed, complaint = self.ended.get()
        self.running.pop(seed).join()
        release()
        if complaint:
            self.seeds.fail(seed, complaint)
        self.stop.check()


class Together(SideBySide):
    """All seeds at a time on one GPU, where they share one captured update; see `algorithm.engine.seeds.shared`."""

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
            parts.engine.leave()                        # or the others would wait for it


def check_memory(lanes: int, seeds: Seeds) -> None:
    """A ConfigError if the replays of so many seeds, and their environments' processes, do not fit side by side."""
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
    """Give back what an ended run held, before the next one looks how much memory there is."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def one_line(error: BaseException) -> str:
    """What went wrong, and where the traceback is."""
    plain = isinstance(error, (ConfigError, CheckpointError, NotFiniteError, OSError))
    told = str(error) if plain else f"{type(error).__name__}: {error}"
    line = "; ".join([told, *getattr(error, "__notes__", ())])
    return printable(" ".join(line.split()))
