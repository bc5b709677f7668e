"""What runs on PushCubeRL have learned: return, success and length of greedy episodes, beside a scripted push.

    python benchmarks/push_cube/success.py outputs/RUN ... [--episodes 200]

The episodes are the first ones of as many rows, whose cubes are drawn by a fixed seed. Returns are undiscounted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
SEED = 12345


def main() -> None:
    """Play the runs and the script, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--episodes", type=int, default=200)
    args = parser.parse_args()
    from pushing import play, push

    import return_decomposition as rd
    policies = {run: rd.load(run) for run in args.runs}
    found = {run: lambda obs, agent=agent: torch.as_tensor(agent.step(obs.numpy())) for run, agent in policies.items()}
    for name, policy in ({"scripted push": push} | found).items():
        reward, success, length = play(policy, args.episodes, SEED)
        print(f"{name:60} return {reward:6.2f}   success {success:.3f}   length {length:5.1f}")


if __name__ == "__main__":
    main()
