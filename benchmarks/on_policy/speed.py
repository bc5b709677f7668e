"""Environment steps a second of whole PPO runs, beside those of Stable-Baselines3 and SBX on the same task, by turns.

    python benchmarks/on_policy/speed.py [--turns 3] [--only NAME]

Each run is a process of its own with one thread; its own clock starts after imports and the first rollout. Beside the
time it takes the processor's time of that process: where other programs use the cores, ratios of the latter mean more.
The latter says nothing of runs whose environments are in other processes. A library that is not installed (extra
`bench`) is left out.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
from benchmarks.peers import PEERS
from utils.installed import pip_install

POINTS, CHEETAH, ARENA = "PointMassRL-v0", "HalfCheetah-v4", "Arena-v0"
Seconds = tuple[float, float]           # of a run: by the clock, and of the processor
# name: (library, environment, environments, rollout steps of each, batch, epochs, steps that are timed)
RUNS = {
    "ours, 256 rows": ("ours", POINTS, 256, 128, 4096, 10, 400_000),
    "SB3, 8 environments, its defaults": ("sb3", POINTS, 8, 2048, 64, 10, 16_384),
    "SBX, 8 environments, its defaults": ("sbx", POINTS, 8, 2048, 64, 10, 16_384),
    "ours, equal rollout": ("ours", POINTS, 8, 2048, 64, 10, 32_768),
    "ours, equal rollout, 256 rows": ("ours", POINTS, 256, 64, 64, 10, 32_768),
    "ours, HalfCheetah": ("ours", CHEETAH, 8, 256, 256, 10, 16_384),
    "SB3, HalfCheetah": ("sb3", CHEETAH, 8, 256, 256, 10, 16_384),
    "SBX, HalfCheetah": ("sbx", CHEETAH, 8, 256, 256, 10, 16_384),
    "SB3, HalfCheetah, 8 processes": ("sb3 processes", CHEETAH, 8, 256, 256, 10, 16_384),
    "ours, Arena": ("ours", ARENA, 128, 32, 1024, 4, 204_800),
    "ours, Arena, published batch": ("ours", ARENA, 64, 256, 64, 10, 65_536),
    "SB3, Arena, published batch": ("sb3", ARENA, 8, 2048, 64, 10, 32_768),
}
# Arena's observations and rewards are normalised, and its networks are the published ones: ours share two layers
OURS = {ARENA: dict(env_kwargs={"style": 2}, obs_normalization=True, normalize_rewards=True, shared_sizes=(256, 128),
                    hidden_sizes=(64,), activation="silu")}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "NPROC": "1", "JAX_PLATFORMS": "cpu"}        # NPROC: of XLA


def ours(env: str, rows: int, steps: int, batch: int, epochs: int, timed: int) -> Seconds:
    """Seconds of this program for the timed steps, after one rollout."""
    import return_decomposition as rd
    clock = Clock()
    rd.train(env=env, alg="ppo", device="cpu", num_envs=rows, rollout_steps=steps, batch_size=batch, n_epochs=epochs,
             iterations=1, total_timesteps=timed + rows * steps, test_rollouts=0, env_type="normal",
             checkpoint_every=0, callback=clock.look, **OURS.get(env, {}))
    return clock.seconds()


def theirs(who: str, env: str, rows: int, steps: int, batch: int, epochs: int, timed: int) -> Seconds:
    """Seconds of a peer for the timed steps, after one rollout and its update, which compiles.

    Args:
        who: `sb3` or `sbx`; with ` processes` after it, each environment is in a process of its own.
    """
    from stable_baselines3.common.callbacks import BaseCallback
    clock = Clock()

    class Look(BaseCallback):
        def _on_rollout_start(self) -> None:
            if self.num_timesteps:
                clock.look({})

        def _on_step(self) -> bool:
            return True
    library, _, processes = who.partition(" ")
    model = importlib.import_module(PEERS[library].module).PPO(
        "MlpPolicy", vector(env, rows, bool(processes)), n_steps=steps, batch_size=batch, n_epochs=epochs,
        device="cpu", policy_kwargs=network(env))
    model.learn(timed + rows * steps, callback=Look())
    clock.look({})
    return clock.seconds()


def vector(env: str, rows: int, processes: bool) -> Any:
    """Return the environments as a VecEnv."""
    import gymnasium as gym
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

    import envs.registration  # noqa: F401 (registers PointMassRL)
    if env == ARENA:
        from benchmarks.on_policy.games import games
        return VecNormalize(games(rows, **OURS[ARENA]["env_kwargs"]))
    return (SubprocVecEnv if processes else DummyVecEnv)([lambda: gym.make(env)] * rows)


def network(env: str) -> dict[str, Any]:
    """Return the settings of a peer's networks; SB3's share no layer."""
    if env != ARENA:
        return {}
    import torch
    return dict(net_arch=[256, 128, 64], activation_fn=torch.nn.SiLU)


class Clock:
    """Takes the time, and the processor's, at the end of each rollout; the first one warms up."""

    def __init__(self):
        self.times: list[tuple[float, float]] = []

    def look(self, row: dict) -> None:
        """Take the time."""
        self.times.append((time.perf_counter(), time.process_time()))

    def seconds(self) -> tuple[float, float]:
        """The seconds since the end of the first rollout, and those of the processor."""
        (begin, used), (end, then) = self.times[0], self.times[-1]
        return end - begin, then - used


def measure(name: str) -> tuple[float, float]:
    """Environment steps a second of one run, and a second of the processor, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--run", name], capture_output=True, text=True, check=True,
                          env=os.environ | ONE_THREAD)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def is_installed(library: str) -> bool:
    """Whether a library of RUNS is installed; print a note if it is not."""
    peer = PEERS.get(library.partition(" ")[0])
    if peer is None or importlib.util.find_spec(peer.module):
        return True
    print(f"note: {peer.package} is not installed; {pip_install('bench')} installs it", file=sys.stderr)
    return False


def main() -> None:
    """Measure all runs by turns, and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", default="", help="runs whose names contain this")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        library, *sizes = RUNS[args.run]
        seconds = ours(*sizes) if library == "ours" else theirs(library, *sizes)
        print(json.dumps([sizes[-1] / one for one in seconds]))
        return
    names = [name for name in RUNS if args.only in name and is_installed(RUNS[name][0])]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(args.turns):
        for name in names:
            found[name].append(measure(name))
    for name, pairs in found.items():
        speeds, of_processor = zip(*pairs, strict=True)
        print(f"{name:36}{statistics.median(speeds):12.0f} steps/s   {min(speeds):.0f} to {max(speeds):.0f}"
              f"{statistics.median(of_processor):12.0f} a second of the processor")


if __name__ == "__main__":
    main()
