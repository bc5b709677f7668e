"""Robot-steps a second of MarineNav: `python benchmarks/marinenav/speed.py`.

Worlds of 6 robots, 8 cores and 8 obstacles, with noise, random actions and resets; all rows count, those that wait for
their world too. The published program does 208 robot-steps a second of a busy thread in the same worlds.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from envs.marinenav.env import MarineNav

PUBLISHED = 208


def measure(env: MarineNav, seconds: float) -> tuple[float, float]:
    """Return robot-steps a second of the clock, and of this process's time."""
    env.reset()
    advance(env)
    steps, clock, process = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - clock < seconds:
        advance(env)
        steps += env.num_envs
    return steps / (time.perf_counter() - clock), steps / (time.process_time() - process)


def advance(env: MarineNav) -> None:
    """Play one joint action."""
    acts = 2 * torch.rand(env.num_envs, 2, device=env.device) - 1
    _, _, terminated, truncated, _ = env.step(acts)
    env.reset(terminated | truncated)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 64, 256, 1024])
    parser.add_argument("--robots", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{'worlds':>7}{'steps/s':>10}{'of process time':>17}{'x published':>13}")
    for worlds in given.worlds:
        clock, process = measure(MarineNav(worlds, given.device, num_robots=given.robots), given.seconds)
        print(f"{worlds:>7}{clock:>10.0f}{process:>17.0f}{process / PUBLISHED:>13.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
