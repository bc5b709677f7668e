"""Speed of one RRD-SAC update and its parts: `python benchmarks/speed.py` (or `make bench`).

Fills a buffer with a million random steps of 27 observations and 8 actions and prints medians: a sample of
256 + 4 x 64 steps, one exploring step, updates per second with sampling and target update; and the memory that
the buffer took.
"""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from algorithm import create_agent
from algorithm.replay_buffer import create_buffer
from benchmarks.timing import median_seconds
from utils.config import Config, resolve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000, help="stored steps (default: 1000000)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    parser.add_argument("--repeats", type=int, default=300, help="timings per median (default: 300)")
    args = parser.parse_args()

    config = resolve(dict(alg="rrd", basis_alg="sac", buffer_size=args.steps, device=args.device))
    config.obs_dims, config.acts_dims = (27,), (8,)
    before = resident_bytes()
    buffer = filled_buffer(config)
    taken = resident_bytes() - before
    agent = create_agent(Namespace(**vars(config)))
    obs = np.zeros(27, np.float32)

    def update() -> None:
        agent.update(buffer.sample)
        agent.target_update()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {config.device}, {args.steps} stored steps")
    sample, step, whole = (median_seconds(call, args.repeats)
                           for call in (buffer.sample, lambda: agent.step(obs, explore=True), update))
    print(f"sample   {1e3 * sample:7.3f} ms   (floor: under 1)")
    print(f"step     {1e3 * step:7.3f} ms   (floor: under 0.3)")
    print(f"update   {1 / whole:7.1f} /s   (floor: 60; the original made 47)")
    if config.device == "cpu":
        print(f"memory   {taken / 1e6:7.0f} MB   (floor: under 300 for a million steps)")


def filled_buffer(config: Config):
    buffer, random, length = create_buffer(config), np.random.default_rng(0), 1000
    shapes = dict(obs=27, acts=8, rews=1, done=1, obs_next=27)
    episode = {name: random.standard_normal((length, width)).astype(np.float32) for name, width in shapes.items()}
    for _ in range(config.buffer_size // length):
        buffer.store_episode(episode)
    return buffer


def resident_bytes() -> int:
    """Of this process; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


if __name__ == "__main__":
    main()
