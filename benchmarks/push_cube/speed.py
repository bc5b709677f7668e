"""Environment steps a second of PushCubeRL with random actions, rows that end being reset.

    python benchmarks/push_cube/speed.py [--rows 128] [--threads 2] [--rounds 7]

Prints the median of the rounds, by the clock and by the processors' time, and the processor. On a busy machine the
second one is nearer to what an idle machine makes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

STEPS = 50                                              # of each row in a round


def measure(rows: int, rounds: int, steps: int = STEPS) -> list[tuple[float, float]]:
    """Return (seconds by the clock, seconds of the processors) of each round of `steps` steps."""
    from envs.push_cube import PushCubeRL
    env, generator, found = PushCubeRL(rows, seed=1), torch.Generator().manual_seed(0), []
    env.reset()
    for _ in range(rounds + 1):
        clock, processors = time.perf_counter(), time.process_time()
        for _ in range(steps):
            _, _, terminated, truncated, _ = env.step(torch.randn(rows, 6, generator=generator))
            env.reset(terminated | truncated)
        found.append((time.perf_counter() - clock, time.process_time() - processors))
    env.close()
    return found[1:]                                    # the first one warms up


def main() -> None:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = measure(args.rows, args.rounds)
    steps = args.rows * STEPS
    columns = zip(*found, strict=True)
    clock, processors = (statistics.median(steps / seconds for seconds in column) for column in columns)
    from record.system import describe_system
    print(f"{clock:.0f} steps/s by the clock, {processors:.0f} for a second of one processor; {args.rows} rows, "
          f"{args.threads} threads, {describe_system('cpu')['processor']}")


if __name__ == "__main__":
    main()
