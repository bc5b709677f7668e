"""Speed on Atari: `python benchmarks/atari.py`.

Prints, of this machine and in one run: how long a batch of 32 transitions and 1 x 32 steps of a sub-sequence takes to
stack; environment steps per second with and without our wrappers; and updates per second of RRD-DQN with sampling,
and the share that they reach of the speed at which their convolutions run alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.games import UPDATES, filled_buffer, measure_updates, settings
from benchmarks.timing import median_seconds
from envs import make_env
from envs.atari import SIDE, import_atari

ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Assault", help="an Atari game (default: Assault)")
    parser.add_argument("--steps", type=int, default=100_000, help="stored steps (default: 100000)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    args = parser.parse_args()
    config = settings(args.device, args.steps, args.game)
    buffer = filled_buffer(config)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}, {args.steps} stored steps")
    sample = median_seconds(buffer.sample, 200)
    print(f"stack    {1e3 * sample:7.2f} ms a batch")
    bare, ours = steps_per_second(config)
    print(f"env      {ours:7.0f} steps/s, bare ale-py with OpenCV {bare:.0f}: {ours / bare:.0%}")
    found = measure_updates(config, buffer, ROUNDS, UPDATES, seconds=0.5)
    engine, alone = found["default_engine"], found["convolutions_per_second"]
    print(f"update   {found['per_second'][engine]:7.1f} /s, {engine}; the convolutions alone {alone:.1f} /s: "
          f"{found['share'][engine]:.0%}")


def steps_per_second(config, rounds: int = ROUNDS, steps: int = 300) -> tuple[float, float]:
    """Median steps/s of the bare game with OpenCV's two calls, and of our environment, measured in turn."""
    ale_py, cv2 = import_atari()
    gym.register_envs(ale_py)
    env = make_env(config)
    bare = gym.make(f"ALE/{config.env}-v5", frameskip=4, repeat_action_probability=0.0).unwrapped
    random = np.random.default_rng(0)

    def bare_step(action: int) -> bool:
        screen, _, terminated, truncated, _ = bare.step(action)
        cv2.resize(cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return terminated or truncated

    def our_step(action: int) -> bool:
        _, _, terminated, truncated, _ = env.step(action)
        return terminated or truncated

    def rate(game: gym.Env, step: Callable[[int], bool]) -> float:
        game.reset(seed=0)
        spent = 0.0
        for action in random.integers(env.action_space.n, size=steps):
            start = time.perf_counter()
            over = step(int(action))
            spent += time.perf_counter() - start
            if over:
                game.reset()
        return steps / spent
    pairs = [(rate(bare, bare_step), rate(env, our_step)) for _ in range(rounds)]
    return tuple(statistics.median(column) for column in zip(*pairs, strict=True))


if __name__ == "__main__":
    main()
