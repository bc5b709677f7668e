"""Our learning curves beside the original's: HalfCheetah-v4, episodic rewards, RRD-SAC, 100 000 steps.

    for seed in 1 2; do
        OMP_NUM_THREADS=1 python train.py --config configs/rrd_sac_halfcheetah.json --seed=$seed &
    done; wait
    python benchmarks/learning.py outputs/benchmark-*      # keeps the curves, prints the table, draws the figure

Without arguments it prints and draws what is kept in benchmarks/halfcheetah/. The original's curves are those
that its own program wrote (TensorFlow 1.12, its defaults, the same simulator), seeds 1 and 2.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).resolve().parent / "halfcheetah"
COLOURS = {"original": "tab:orange", "ours": "tab:blue"}


def keep(run: Path) -> None:
    """Copy a run's evaluation returns into the folder, as CSV, by its seed."""
    config = json.loads((run / "config.json").read_text())
    with np.load(run / "rews" / f"{config['env']}.npz") as file:
        np.savetxt(FOLDER / f"ours_seed{config['seed']}.csv", file["info"], fmt=["%d", "%.3f"], delimiter=",",
                   header="Timesteps,Rewards", comments="")


def curves() -> dict[str, np.ndarray]:
    """'ours_seed1' and so on -> rows of (environment steps, mean return of 10 greedy episodes)."""
    paths = sorted(FOLDER.glob("*_seed*.csv"))
    return {path.stem: np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2) for path in paths}


def print_table(data: dict[str, np.ndarray]) -> None:
    print(f"{'steps':>8}" + "".join(f"{name:>16}" for name in data))
    for steps in sorted({int(step) for rows in data.values() for step in rows[:, 0]}):
        cells = [rows[rows[:, 0] == steps, 1] for rows in data.values()]
        print(f"{steps:>8}" + "".join(f"{cell[0]:>16.0f}" if len(cell) else f"{'':>16}" for cell in cells))


def draw(data: dict[str, np.ndarray], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for name, rows in data.items():
        program, _, seed = name.partition("_seed")
        axes.plot(rows[:, 0] / 1000, rows[:, 1], color=COLOURS[program], linestyle="-" if seed == "1" else "--",
                  marker="o", markersize=3, label=f"{program}, seed {seed}")
    axes.set(xlabel="environment steps (thousands)", ylabel="mean return of 10 greedy episodes",
             title="RRD-SAC on HalfCheetah-v4, rewards paid at the episode's end")
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        keep(Path(argument))
    print_table(curves())
    draw(curves(), FOLDER / "curves.png")
