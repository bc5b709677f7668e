"""Updates per second of the PyTorch agents and the TensorFlow reference: `python benchmarks/backends.py`.

One process, both backends in turn on the same batch (27 observations, 8 actions, 256 steps, RRD 4 x 64 more; DQN
32 images of 84 x 84 x 4, RRD 1 x 32 more), medians over rounds. Compare the columns, not this with another run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from algorithm import create_agent
from algorithm.schedule import Schedule
from algorithm.tf.importing import import_tensorflow

ALGORITHMS = [(alg, basis) for basis in ("ddpg", "td3", "sac", "dqn") for alg in (basis, "rrd")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds; the median is printed (default: 7)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a round (default: 0.5)")
    parser.add_argument("--threads", type=int, help="threads of both (default: all cores)")
    args = parser.parse_args()
    import torch
    tf = import_tensorflow()
    if args.threads:
        torch.set_num_threads(args.threads)
        tf.config.threading.set_intra_op_parallelism_threads(args.threads)
        tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    print(f"torch {torch.__version__}, tensorflow {tf.__version__}, {torch.get_num_threads()} threads each")
    print(f"{'':10} {'PyTorch /s':>12} {'TensorFlow /s':>14} {'ratio':>7}")
    for alg, basis in ALGORITHMS:
        batch = random_batch(basis == "dqn")
        agents = [make_agent(alg, basis, flag) for flag in (True, False)]
        for agent in agents:
            rate(agent, batch, args.seconds)            # warm up: the first call compiles
        rounds = [[rate(agent, batch, args.seconds) for agent in agents] for _ in range(args.rounds)]
        ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(first / second for first, second in rounds)
        name = alg if alg == basis else f"{alg}-{basis}"
        print(f"{name:10} {ours:12.1f} {theirs:14.1f} {ratio:7.2f}", flush=True)


def make_agent(alg: str, basis: str, use_pytorch: bool):
    obs_dims, acts = ((84, 84, 4), 6) if basis == "dqn" else ((27,), 8)
    return create_agent(Namespace(alg=alg, basis_alg=basis, obs_dims=obs_dims, acts_dims=acts, device="cpu",
                                  use_pytorch=use_pytorch))


def rate(agent, batch: dict, seconds: float) -> float:
    """Updates per second, target updates included."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        agent.update(lambda: batch)
        if Schedule.of(agent).targets_due(agent.updates):
            agent.target_update()
        count += 1
    return count / (time.perf_counter() - start)


def random_batch(images: bool) -> dict:
    """A batch of tensors, like one of a replay."""
    import torch
    random = np.random.default_rng(0)
    obs, batch, sequences = ((84, 84, 4), 32, (1, 32)) if images else ((27,), 256, (4, 64))

    def acts(*shape: int) -> np.ndarray:
        return random.integers(6, size=shape) if images else random.uniform(-1, 1, (*shape, 8)).astype(np.float32)

    def floats(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, np.float32)
    arrays = {"obs": floats(batch, *obs), "obs_next": floats(batch, *obs), "acts": acts(batch),
              "rews": floats(batch, 1), "done": np.zeros((batch, 1), np.float32),
              "rrd_obs": floats(*sequences, *obs), "rrd_obs_next": floats(*sequences, *obs),
              "rrd_acts": acts(*sequences), "rrd_rews": floats(sequences[0], 1),
              "rrd_var_coef": np.ones((sequences[0], 1), np.float32)}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


if __name__ == "__main__":
    main()
