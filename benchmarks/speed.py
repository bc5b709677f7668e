"""Speed of sampling, acting, updating and of whole runs: `python benchmarks/speed.py` (or `make bench`).

All contestants are measured in one run, in turn and in short rounds: our engines, Stable-Baselines3 and SBX where they
are installed (`pip install -e '.[bench]'`), the TensorFlow reference with --tensorflow, and the machine's own matrix
products. Figures are medians over the rounds, and ratios are taken within a round: they hold on a machine that others
use as well, the times by themselves do not. Prints Markdown tables and writes one JSON file. docs/performance.md says
what each number means.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import report
from benchmarks.flags import check_writable, names_of, positive
from benchmarks.games import measure_games
from benchmarks.machine import describe_machine, headline
from benchmarks.peers import closing, find_peers
from benchmarks.sections import (
    ALGORITHMS,
    Plan,
    measure_algorithm,
    measure_environment,
    measure_memory,
    measure_scaling,
    note,
    profile,
)
from benchmarks.targets import targets
from utils.errors import ConfigError
from utils.precision import bf16_unit
from utils.settings.cli import Parser
from utils.torch_utils import resolve_device


def measure_updates(plan: Plan) -> dict[str, Any]:
    """Run `measure_algorithm` for each, which takes minutes, and report progress on a terminal."""
    results = {}
    for name in plan.only:
        if sys.stderr.isatty():
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
        results[name] = measure_algorithm(plan, name)
        gc.collect()
    return results


# The function that measures each part, and the one that makes its tables. Memory comes first: it needs a new process.
PARTS: dict[str, tuple[Callable, ...]] = {
    "memory": (measure_memory, report.memory_table),
    "updates": (measure_updates, report.updates_table, report.small_table),
    "environment": (measure_environment, report.environment_table),
    "games": (measure_games, report.games_table),
    "scaling": (measure_scaling, report.scaling_table),
}
SECTIONS = tuple(PARTS)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns 0, 1 if a disk fails, 2 for an invalid flag, 130 for Ctrl-C."""
    try:
        args = parse_args(argv)
        plan = make_plan(args)
        if args.profile:
            for engine in plan.engines:
                print(f"rrd-sac, {engine}, {plan.updates} updates\n\n{profile(plan, engine)}", flush=True)
            return 0
        with closing(plan.peers):
            results = measure(plan, args.sections)
        args.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    except (ConfigError, OSError) as error:
        print(f"speed.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print("speed.py: interrupted", file=sys.stderr)
        return 130
    print(f"written to {args.out}")
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the flags; raises ConfigError for an invalid one."""
    parser = Parser(prog="speed.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                    allow_abbrev=False)
    add = parser.add_argument
    add("--only", type=names_of(ALGORITHMS), default=ALGORITHMS, metavar="NAMES",
        help=f"of updates and whole runs, by commas: {','.join(ALGORITHMS)} (default: all)")
    add("--sections", type=names_of(SECTIONS), default=SECTIONS, metavar="NAMES",
        help=f"parts, by commas: {','.join(SECTIONS)} (default: all)")
    add("--rounds", type=positive, metavar="N", help="rounds of turns (default: 7; with --quick 2)")
    add("--steps", type=positive, metavar="N", help="stored steps (default: 1000000; with --quick 2000)")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ... or auto (default: cpu)")
    add("--compile", action="store_true", help="measure torch.compile as well; it takes minutes to start")
    add("--tensorflow", action="store_true", help="measure the TensorFlow reference as well")
    add("--quick", action="store_true", help="run for seconds on one thread, as a test; the figures are noise")
    add("--profile", action="store_true", help="only print torch.profiler's table of rrd-sac for each engine")
    add("--out", type=Path, metavar="FILE", help="JSON file (default: outputs/speed_<time>.json)")
    args = parser.parse_args(argv)
    args.out = args.out or Path("outputs") / time.strftime("speed_%Y%m%d-%H%M%S.json")
    if not args.profile:
        check_writable(args.out)
    return args


def make_plan(args: argparse.Namespace) -> Plan:
    """The plan; raises ConfigError if a flag needs something that is missing."""
    try:
        device = resolve_device(args.device)
    except RuntimeError:
        raise ConfigError(f"device: got {args.device!r}, expected cpu, cuda, cuda:N or auto") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: got {args.device!r}, expected cpu, cuda, cuda:N or auto")
    if device.type == "cuda":
        torch.cuda.set_device(device)                   # which timing waits for
    if args.quick:                                      # threads that wait for each other on busy cores are not quick
        torch.set_num_threads(1)
    if args.tensorflow:
        use_our_threads()
    engines = ["eager", "manual"] + ["compile"] * args.compile + ["cudagraph"] * (device.type == "cuda")
    plan = Plan(device, rounds=args.rounds or (2 if args.quick else 7),
                steps=args.steps or (2000 if args.quick else 1_000_000), only=args.only, engines=tuple(engines),
                tensorflow=args.tensorflow, quick=args.quick,
                bf16=device.type == "cpu" and bool(bf16_unit()))
    plan.peers = find_peers(device, torch.get_num_threads(), partial(note, plan))
    return plan


def use_our_threads() -> None:
    """Give TensorFlow as many threads as PyTorch has."""
    from algorithm.tf.importing import import_tensorflow
    threading = import_tensorflow().config.threading
    try:
        threading.set_intra_op_parallelism_threads(torch.get_num_threads())
        threading.set_inter_op_parallelism_threads(torch.get_num_threads())
    except RuntimeError:                                # it has begun to compute, with its own
        pass


def measure(plan: Plan, sections: tuple[str, ...]) -> dict[str, Any]:
    """Measure, print as it goes, and return all that goes into the file."""
    machine = describe_machine(plan.device)
    if machine["crowded"]:
        note(plan, machine["crowded"].removeprefix("note: "))
    if plan.quick:
        note(plan, "--quick only shows that the benchmark works: its figures are noise")
    say(headline(machine), *(f"note: {text}" for text in plan.notes))
    said = len(plan.notes)
    results: dict[str, Any] = {
        "machine": machine, "notes": plan.notes,
        "settings": dict(rounds=plan.rounds, steps=plan.steps, only=plan.only, sections=sections,
                         device=str(plan.device), engines=plan.engines, tensorflow=plan.tensorflow, quick=plan.quick)}
    for name in sections:
        measured, *tables = PARTS[name]
        results[name] = measured(plan)
        gc.collect()                                    # a replay is hundreds of megabytes
        say("\n\n".join(shown(results[name]) for shown in tables))
    if plan.device.type == "cpu":
        results["targets"] = targets(results)
        say(report.targets_table(results["targets"]))
    else:
        note(plan, "the targets are for CPUs")
    if plan.notes[said:]:                               # notes of the measurements
        say(*(f"note: {text}" for text in plan.notes[said:]))
    return results


def say(*lines: str) -> None:
    print(*lines, sep="\n", end="\n\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
