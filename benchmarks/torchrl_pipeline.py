"""The TorchRL pipeline beside this package's own trainer, by turns: `python benchmarks/torchrl_pipeline.py`.

Both train AC-IQN in worlds of 5 robots and 4 obstacles, an update every 4 joint steps, as the published program does.
A second: joint steps with their updates (whole); joint steps with their actions and resets, without updates (step);
batches of 64 (sample). The last column is what TensorDict and TorchRL's parts take besides, for one of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from algorithm.replay_buffer import create_buffer
from benchmarks.clocks import Item
from benchmarks.report import table
from benchmarks.sections import Plan
from benchmarks.timing import median_ratio, rate_turn, take_turns
from learner.collector import open_collector
from learner.learner import Learner
from learner.parts import build
from torchrl_gpu.following import Silent
from torchrl_gpu.processes import Processes
from torchrl_gpu.replay import create_torchrl_buffer
from torchrl_gpu.torchrl_trainer import opened
from utils.settings.marinenav_form import translated
from utils.settings.resolve import resolve

WORLDS = (1, 16, 256)
SCHEDULE = {"timesteps": [0], "num_robots": [5], "num_cores": [0], "num_obstacles": [4], "min_start_goal_dis": [40.0]}
OURS, THEIRS = "ours", "torchrl"


class Training:
    """A run without a record; the first updates are made."""

    def __init__(self, which: str, worlds: int, device: str, longest: int = 30, agent: str = "AC-IQN"):
        """longest: of an episode, so that the replay is filled soon."""
        trial = {"agent_type": agent, "training_schedule": SCHEDULE, "env_batch_size": worlds}
        settings = translated(trial, {}, lambda line: None)
        config = resolve(settings | {"device": device, "test_timesteps": longest, "test_rollouts": 0, "warmup": 1,
                                     "total_timesteps": 10_000_000, "buffer_size": 200_000})
        self.open, self.worlds = ExitStack(), worlds
        parts = build(config, make_buffer=create_torchrl_buffer if which == THEIRS else create_buffer)
        collect = partial(opened, None, Processes(), lambda: None) if which == THEIRS else open_collector
        collector = self.open.enter_context(collect(parts.config, parts.env, parts.engine.actor))
        self.engine, self.every = parts.engine, parts.config.timesteps
        self.learner = Learner(parts.config, collector, parts.engine, Silent(), SimpleNamespace(logger=Silent()))
        while not self.learner._is_warm():
            self.learner._gather(worlds)
        self.learner._iterate(self.every)

    def __call__(self, steps: int) -> None:
        """Take so many joint steps, with their updates."""
        for _ in range(steps // self.every):
            self.learner._iterate(self.every)

    def step(self, steps: int) -> None:
        """Take so many joint steps without updates."""
        self.learner._gather(steps)

    def sample(self, batches: int) -> None:
        """Draw batches."""
        for _ in range(batches):
            self.engine.buffer.sample()


def turns(runs: dict[str, Training], what: str, seconds: float) -> dict[str, Callable[[], float]]:
    """Return a turn of each contestant: seconds of one joint step, or of one batch."""
    count = 20 if what == "sample" else max(next(iter(runs.values())).worlds, 16)
    call = {"whole": Training.__call__, "step": Training.step, "sample": Training.sample}[what]
    return {name: rate_turn(partial(call, run), count, seconds) for name, run in runs.items()}


def compare(worlds: int, device: str, rounds: int, seconds: float) -> Iterator[list[str]]:
    """Yield a row for each thing that is measured in so many worlds."""
    runs = {name: Training(name, worlds, device) for name in (OURS, THEIRS)}
    for what in ("whole", "step", "sample"):
        found = take_turns(turns(runs, what, seconds), rounds)
        rates = [1 / sorted(found[name])[rounds // 2] for name in (OURS, THEIRS)]
        more = 1e6 * sorted(two - one for one, two in zip(found[OURS], found[THEIRS], strict=True))[rounds // 2]
        yield [str(worlds), what, *(f"{rate:.0f}" for rate in rates),
               f"{median_ratio(found[OURS], found[THEIRS]):.2f}", f"{more:.0f}"]
    for run in runs.values():
        run.open.close()


HEADING = ["worlds", "what", "own trainer", "TorchRL pipeline", "ratio", "us more"]


# On a GPU ------------------------------------------------------------------------------------------------------------

def gpu_items(plan: Plan) -> dict[str, Item]:
    """Joint steps a second of the pipeline and of our own trainer, by the number of worlds."""
    counts = (2,) if plan.quick else WORLDS
    return {f"{which}, {count} worlds": partial(measure, plan, which, count) for count in counts
            for which in (THEIRS, OURS)}


def measure(plan: Plan, which: str, worlds: int) -> dict[str, Any]:
    """Measure whole joint steps, with their updates."""
    from benchmarks.gpu_sections import timed
    run = Training(which, worlds, str(plan.device), longest=5 if plan.quick else 30)
    try:
        return timed(plan, run, max(worlds, 16))
    finally:
        run.open.close()


def gpu_table(results: dict[str, Any]) -> str:
    """Joint steps a second."""
    return table(["MarineNav, AC-IQN", "joint steps a second"],
                 [[name, f"{found['per_second']:.0f}"] for name, found in results.items()])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, nargs="+", default=WORLDS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", default="", help="also write the rows to this file")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    rows = []
    for worlds in given.worlds:
        for row in compare(worlds, given.device, given.rounds, given.seconds):
            print("  ".join(row), flush=True)
            rows.append(row)
    print(table(HEADING, rows))
    if given.json:
        Path(given.json).write_text(json.dumps([dict(zip(HEADING, row, strict=True)) for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
