"""Updates a second in fp32 and in bf16, by turns, and how far bf16 moves the metrics.

    python benchmarks/bf16/speed.py                         RRD-SAC, RRD-TD3, RRD-DDPG, with PyTorch's threads
    python benchmarks/bf16/speed.py --only rrd-sac --rounds 3

Each engine has an agent and a replay of its own, with the same numbers. "off" is the largest relative difference of a
mean loss over the first updates, which all make from the same weights and draws. Without AMX and AVX512-BF16 the
products in bf16 are emulated: the rates then say nothing, the differences do.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent)]

from algorithm.engine import Engine  # noqa: E402
from benchmarks.contestants import filled_buffer, our_engine, settings  # noqa: E402
from benchmarks.report import table  # noqa: E402
from benchmarks.timing import fixed_turn, median_ratio, take_turns  # noqa: E402
from utils.cores import processor  # noqa: E402
from utils.precision import LACK, bf16_unit  # noqa: E402

NAMES = ("rrd-sac", "rrd-td3", "rrd-ddpg")
WAYS = {"fp32": ("auto", "fp32"), "bf16": ("manual", "bf16"), "autocast": ("eager", "bf16")}   # (engine, precision)
HEAD = ("algorithm", *(f"{way}/s" for way in WAYS), "bf16 to fp32", "off", "kernels")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(NAMES), help="algorithms, such as rrd-sac,sac")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=50, help="of a turn")
    parser.add_argument("--steps", type=int, default=100_000, help="in the replay")
    given = parser.parse_args(argv)
    print(f"{processor()}: {bf16_unit() or 'bf16 is emulated, ' + LACK}", flush=True)
    print(table(HEAD, [measured(name, given) for name in given.only.split(",")]))
    return 0


def measured(name: str, given: argparse.Namespace) -> list[str]:
    """A row of the table."""
    engines = {way: _engine(name, given.steps, *how) for way, how in WAYS.items()}
    first = {way: _losses(engine, given.updates) for way, engine in engines.items()}        # also warms up
    turns = {way: fixed_turn(engine.run, given.updates) for way, engine in engines.items()}
    seconds = take_turns(turns, given.rounds)
    off = max(abs(first["bf16"][loss] / value - 1) for loss, value in first["fp32"].items() if value)
    rates = [f"{1 / statistics.median(seconds[way]):.1f}" for way in WAYS]
    return [name, *rates, f"{median_ratio(seconds['fp32'], seconds['bf16']):.2f}", f"{off:.1e}",
            str(engines["bf16"].kernels)]


def _engine(name: str, steps: int, engine: str, precision: str) -> Engine:
    """An engine with a replay of its own, so that all draw the same."""
    config = settings(name, "cpu", steps, precision=precision)
    return our_engine(config, filled_buffer(config), engine)


def _losses(engine: Engine, updates: int) -> dict[str, float]:
    """The means over so many updates."""
    return {name: float(total) / count for name, total, count in engine.run(updates).items()}


if __name__ == "__main__":
    sys.exit(main())
