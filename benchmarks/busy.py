"""Evaluation and training on cores that other programs use: `python benchmarks/busy.py`, three minutes.

Three processes by turns, beside `--spinners` processes that never wait: this package as it is, with one thread
(OMP_NUM_THREADS=1), and with two threads that wait as PyTorch's do by default. With `--spinners=0` on a quiet machine
it shows what the default costs there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.contestants import OurRun, our_engine
from benchmarks.timing import timed
from utils.threads import patience, prepare_threads

OPENMP = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
CONTESTANTS = {"as it is": {}, "one thread": {"OMP_NUM_THREADS": "1"},
               "two as PyTorch's": {"OMP_NUM_THREADS": "2", "SPIN": "1"}}
WORK = {"evaluate": "an episode of HalfCheetah-v4", "manual": "5 updates of RRD-SAC, by hand",
        "eager": "5 updates of RRD-SAC, by autograd"}


def serve() -> None:
    """Do what each line of standard input names, and print the seconds."""
    if "SPIN" in os.environ:
        patience.look = patience.begin = lambda: None
    prepare_threads()
    run = OurRun("rrd-sac", "HalfCheetah-v4", "cpu", longest=200, every=20)
    learner = run.learner
    learner.evaluator.rollouts = 1
    engines = {name: our_engine(learner.config, learner.buffer, name) for name in ("manual", "eager")}
    work = {"evaluate": lambda: learner._record(0)}
    work |= {name: lambda engine=engine: engine.run(5) for name, engine in engines.items()}
    for call in work.values():
        call()
    print("ready", flush=True)
    for line in sys.stdin:
        print(timed(work[line.strip()]), flush=True)


def start(variables: dict[str, str]) -> subprocess.Popen:
    """Start a contestant in an environment without variables of OpenMP but these."""
    env = {name: value for name, value in os.environ.items() if name not in OPENMP}
    process = subprocess.Popen([sys.executable, __file__, "--serve"], env=env | variables, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if process.stdout.readline().strip() != "ready":
        raise SystemExit(f"busy.py: a contestant failed with exit code {process.wait()}")
    return process


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """Run so many processes that never wait."""
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def measure(processes: dict[str, subprocess.Popen], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by work and contestant, of each round."""
    found: dict[str, dict[str, list[float]]] = {what: {who: [] for who in processes} for what in WORK}
    order = random.Random(0)
    for _ in range(rounds):
        for what, times in found.items():
            for who in order.sample(list(processes), len(processes)):       # whose turn is next bears on the caches
                processes[who].stdin.write(f"{what}\n")
                processes[who].stdin.flush()
                times[who].append(float(processes[who].stdout.readline()))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spinners", type=int, default=4, help="processes beside it that never wait (default: 4)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (default: 15)")
    parser.add_argument("--out", type=Path, help="write the seconds to this JSON file")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return 0
    processes = {who: start(variables) for who, variables in CONTESTANTS.items()}
    try:
        with spinning(args.spinners):
            found = measure(processes, args.rounds)
    finally:
        for process in processes.values():
            process.kill()
    report(found)
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def report(found: dict[str, dict[str, list[float]]]) -> None:
    """Print the medians, and those of the ratios to one thread, each taken within a round."""
    for what, times in found.items():
        cells = [f"{who} {statistics.median(seconds):.3f} s "
                 f"({statistics.median(b / a for a, b in zip(times['one thread'], seconds, strict=True)):.2f})"
                 for who, seconds in times.items()]
        print(f"{WORK[what]}: " + ", ".join(cells))


if __name__ == "__main__":
    sys.exit(main())
