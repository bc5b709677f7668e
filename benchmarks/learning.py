"""The learning curves in the documentation, from runs of train.py; each folder here holds those of one task.

    for seed in 1 2; do
        OMP_NUM_THREADS=1 python train.py --config configs/rrd_sac_halfcheetah.json --seed=$seed &
    done; wait
    for seed in 1 2; do
        for alg in rrd ircr dqn; do
            python train.py --config configs/catch_$alg.json --env=benchmarks.catch:Catch-v0 --seed=$seed
        done
    done
    python train.py --config configs/rrd_dqn_roadrunner.json
    python benchmarks/learning.py outputs/benchmark-* outputs/catch-*   # keeps curves, prints tables, draws figures

Without arguments it prints and draws what is kept. In halfcheetah/, the original's curves are those that its own
program wrote (TensorFlow 1.12, its defaults, the same simulator), seeds 1 and 2.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent


class Task(NamedTuple):
    """A task, whose curves are in one folder."""

    folder: str
    title: str
    returns: str                    # the name of the vertical axis


TASKS = {
    "HalfCheetah-v4": Task("halfcheetah", "RRD-SAC on HalfCheetah-v4, rewards paid at the episode's end",
                           "mean return of 10 greedy episodes"),
    "benchmarks.catch:Catch-v0": Task("catch", "Catch from pixels, told once in ten balls how many were caught",
                                      "balls caught of 10, mean of 10 episodes"),
    "RoadRunner": Task("roadrunner", "RRD-DQN on Road Runner, rewards paid at the episode's end",
                       "mean score of 3 episodes"),
}
COLOURS = {"original": "tab:orange", "ours": "tab:blue", "rrd-dqn": "tab:blue", "ircr-dqn": "tab:green",
           "dqn": "tab:gray"}


def keep(run: Path) -> None:
    """Copy a run's evaluation returns into its task's folder, as CSV, by program and seed."""
    config = json.loads((run / "config.json").read_text())
    if config["env"] not in TASKS:
        sys.exit(f"{run}: got a run on {config['env']}, expected one on {', '.join(TASKS)}")
    folder, curve = HERE / TASKS[config["env"]].folder, run / "rews"
    basis = config.get("basis_alg")
    program = "ours" if config["env"] == "HalfCheetah-v4" else config["alg"] + f"-{basis}" * bool(basis)
    with np.load(next(curve.glob("**/*.npz"))) as file:
        folder.mkdir(exist_ok=True)
        np.savetxt(folder / f"{program}_seed{config['seed']}.csv", file["info"], fmt=["%d", "%.3f"], delimiter=",",
                   header="Timesteps,Rewards", comments="")


def curves(folder: Path) -> dict[str, np.ndarray]:
    """'ours_seed1' and so on -> rows of (environment steps, mean return of the evaluation's episodes)."""
    paths = sorted(folder.glob("*_seed*.csv"))
    return {path.stem: np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2) for path in paths}


def print_table(data: dict[str, np.ndarray]) -> None:
    print(f"{'steps':>8}" + "".join(f"{name:>16}" for name in data))
    for steps in sorted({int(step) for rows in data.values() for step in rows[:, 0]}):
        cells = [rows[rows[:, 0] == steps, 1] for rows in data.values()]
        print(f"{steps:>8}" + "".join(f"{cell[0]:>16.5g}" if len(cell) else f"{'':>16}" for cell in cells))


def draw(task: Task, data: dict[str, np.ndarray]) -> None:
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for name, rows in data.items():
        program, _, seed = name.partition("_seed")
        axes.plot(rows[:, 0] / 1000, rows[:, 1], color=COLOURS[program], linestyle="-" if seed == "1" else "--",
                  marker="o", markersize=3, label=f"{program}, seed {seed}")
    axes.set(xlabel="environment steps (thousands)", ylabel=task.returns, title=task.title)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(HERE / task.folder / "curves.png", dpi=150)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        keep(Path(argument))
    for task in TASKS.values():
        if data := curves(HERE / task.folder):
            print(f"\n{task.title}")
            print_table(data)
            draw(task, data)
