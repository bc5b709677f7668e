"""Updates of RRD-DQN from the images of a game, beside their own convolutions alone."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from algorithm.replay_buffer import create_buffer
from benchmarks.contestants import our_engine
from benchmarks.sections import Plan
from benchmarks.timing import Turns, median_ratio, rate_turn, take_turns, timed
from envs.atari import SIDE
from utils.settings.fields import Config
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

NAME, GAME, ACTIONS = "rrd-dqn", "Assault", 7
STEPS, UPDATES = 20_000, 10             # stored, and of one call
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


def measure_games(plan: Plan) -> dict[str, Any]:
    """Measure updates of RRD-DQN; see `measure_updates`."""
    config = settings(str(plan.device), min(plan.steps, STEPS))
    return measure_updates(config, filled_buffer(config), plan.rounds, min(plan.updates, UPDATES), plan.seconds)


def measure_updates(config: Config, buffer: Any, rounds: int, count: int, seconds: float) -> dict[str, Any]:
    """Measure updates by autograd and by the default engine, and their convolutions alone, in turn.

    A turn makes `count` updates at a time for at least so many seconds. `share` is of the rate of the convolutions in
    the layout that is faster in the same round.
    """
    default = our_engine(config, buffer)
    engines = {default.name: default}
    eager = engines.setdefault("eager", default if default.name == "eager" else our_engine(config, buffer, "eager"))
    alone = Convolutions(eager)
    turns: Turns = {who: rate_turn(engine.run, count, seconds) for who, engine in engines.items()}
    times = take_turns(turns | {layout: partial(alone.seconds, layout) for layout in LAYOUTS}, rounds)
    convolutions = {layout: times.pop(layout) for layout in LAYOUTS}
    least = [min(pair) for pair in zip(*convolutions.values(), strict=True)]
    return {"algorithm": NAME, "default_engine": default.name, "seconds": times, "convolutions": convolutions,
            "per_second": {who: 1 / statistics.median(values) for who, values in times.items()},
            "convolutions_per_second": 1 / statistics.median(least),
            "share": {who: median_ratio(least, values) for who, values in times.items()}}


def settings(device: str, steps: int, game: str = GAME) -> Config:
    """The settings of RRD-DQN for the images of a game, with a replay of `steps`."""
    config = resolve(dict(alg="rrd", basis_alg="dqn", env=game, buffer_size=steps, device=device))
    return with_sizes(config, (SIDE, SIDE, 4), ACTIONS)


def filled_buffer(config: Config) -> Any:
    """Make a full replay of random pixels, in episodes of 1000 steps."""
    buffer, random, length = create_buffer(config), np.random.default_rng(0), min(1000, config.buffer_size)
    episode = {"frames": random.integers(256, size=(length + 4, SIDE, SIDE), dtype=np.uint8),
               "acts": random.integers(ACTIONS, size=length), "rews": np.zeros((length, 1), np.float32),
               "done": np.zeros((length, 1), np.float32)}
    for _ in range(config.buffer_size // length):
        buffer.store_episode(episode)
    return buffer


class Convolutions:
    """The convolutions of one update by autograd, forward and backward, of random numbers."""

    def __init__(self, engine: Any):
        with _Record() as record:
            engine.run(1)
        self.calls = record.calls

    @torch.inference_mode()
    def seconds(self, layout: str, warmup: int = 1) -> float:
        """Return the time of all of them, with images and kernels in a layout of memory."""
        calls = [(call, tree_map_only(Tensor, partial(_in_layout, LAYOUTS[layout]), arguments))
                 for call, arguments in self.calls]
        for _ in range(warmup):
            _make(calls)
        return timed(lambda: _make(calls))


def _make(calls: list[tuple[Any, tuple]]) -> None:
    for call, arguments in calls:
        call(*arguments)


def _in_layout(layout: torch.memory_format, value: Tensor) -> Tensor:
    """Return the value in a layout, which vectors do not have."""
    return value.contiguous(memory_format=layout) if value.dim() == 4 else value


class _Record(TorchDispatchMode):
    """Records the convolutions that are computed, with random numbers for theirs."""

    def __init__(self):
        super().__init__()
        self.calls: list[tuple[Any, tuple]] = []

    def __torch_dispatch__(self, call: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        if call in CONVOLUTIONS:
            self.calls.append((call, tree_map_only(Tensor, lambda value: torch.rand(value.shape, device=value.device),
                                                   args)))
        return call(*args, **(kwargs or {}))
