"""How right the credit of each method is on four tasks whose answers are known, and what it costs to learn it.

    python benchmarks/methods/known.py --seeds=0-9 --out benchmarks/methods/known.csv      # the same command resumes
    python benchmarks/methods/known.py --summary --out benchmarks/methods/known.csv

Each method learns from three quarters of the episodes, and is judged on the others. A row of the file is one method on
one task with one seed; rows that are there are not computed again.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent)]

from algorithm.create import create_decomposition_for_spaces  # noqa: E402
from benchmarks.methods.tasks import TASKS, r2, sequences, table, task_of, truth_of  # noqa: E402
from results.statistics import interquartile_mean  # noqa: E402
from utils.settings.algorithms import decompositions  # noqa: E402
from utils.settings.values import parse_seeds  # noqa: E402

COLUMNS = ("task", "method", "seed", "updates", "r2_reward", "r2_credit", "r2_return", "cpu_seconds")
SCORES = COLUMNS[4:7]
# Settings beside the defaults; `updates` is the share of --updates. Sizes of methods for a GPU are reduced.
LARGE = dict(fit_episodes=32, r_lr=1e-3)
SETTINGS: dict[str, dict[str, Any]] = {
    "rrd": dict(rrd_batch_size=128, rrd_sample_size=4, r_lr=1e-3),
    "vib_rd": dict(rrd_batch_size=128, rrd_sample_size=4, r_lr=1e-3), "rd": LARGE,
    "lrr": LARGE | dict(sigma_floor=0.05), "grd": LARGE, "ares": LARGE, "gp_lrr": dict(fit_episodes=8),
    "rudder": dict(fit_episodes=32, r_lr=3e-3, cell_size=32, quality_floor=0.0),
    "rbt": dict(fit_episodes=16, r_lr=1e-3, attention_size=32, attention_layers=1, attention_window=50,
                test_timesteps=50),
    "diaster": dict(fit_episodes=32, r_lr=1e-3, cell_size=64, cut_noise=False, return_scale=1.0),
}
SHARES = {"gp_lrr": 0.3, "rbt": 0.5, "grd": 0.25, "ares": 0.5, "diaster": 0.5}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-2", help="such as 0,1 or 0-9 (default: 0-2)")
    parser.add_argument("--tasks", default=",".join(TASKS), help="by commas (default: all)")
    parser.add_argument("--methods", default=",".join(decompositions()), help="by commas (default: all)")
    parser.add_argument("--updates", type=int, default=1000, help="of a model, at most (default: 1000)")
    parser.add_argument("--out", type=Path, default=HERE / "known.csv", help="the file of scores")
    parser.add_argument("--summary", action="store_true", help="print the file as a table, and compute nothing")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = read(given.out)
    if not given.summary:
        done = {(row["task"], row["method"], row["seed"], row["updates"]) for row in rows}
        for seed in parse_seeds(given.seeds):                       # each seed is complete before the next begins
            for task, method in ((task, name) for task in given.tasks.split(",") for name in given.methods.split(",")):
                updates = round(given.updates * SHARES.get(method, 1.0))
                if (task, method, str(seed), str(updates)) not in done:
                    rows.append(scored(task, method, seed, updates))
                    print(*rows[-1].values(), flush=True)
                    write(given.out, rows)
    print("\n".join(summary(rows)))


def scored(name: str, method: str, seed: int, updates: int) -> dict[str, str]:
    """Fit a method to a task; return a row of `COLUMNS`."""
    task = task_of(name)
    episodes = table(task) if name == "tabular" else sequences(name, task)
    rest = len(episodes) * 3 // 4
    sizes = (Box(-1, 1, episodes[0][part].shape[1:], np.float32) for part in ("obs", "acts"))
    observations, actions = sizes
    model = create_decomposition_for_spaces(method, observation_space=observations, action_space=actions, device="cpu",
                                            seed=seed, **SETTINGS.get(method, {}))
    start = time.process_time()
    model.fit(episodes[:rest], updates)
    seconds = time.process_time() - start
    paid = [model.redistribute(one).double().numpy() for one in episodes[rest:]]
    found = {f"r2_{kind}": r2(np.concatenate(paid), np.concatenate(true[rest:]))
             for kind, true in truth_of(name, task).items()}
    if model.unit == "reward":
        found["r2_return"] = r2(np.array([one.sum() for one in paid]), task["return"][rest:])
    return {"task": name, "method": method, "seed": str(seed), "updates": str(updates),
            **{score: f"{found[score]:.4f}" if score in found and model.unit == "reward" else "" for score in SCORES},
            "cpu_seconds": f"{seconds:.1f}"}


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of the file, none if there is none."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write the rows, atomically."""
    new = path.with_suffix(".new")
    with new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    new.replace(path)


def summary(rows: Sequence[dict[str, str]]) -> Iterator[str]:
    """Yield a table: the IQM of each score over the seeds, with the least and the largest, and the seconds of a fit."""
    yield "| task | method | seeds | reward of steps | credit of predictions | return | seconds |"
    yield "|---|---|---|---|---|---|---|"
    for task, method in dict.fromkeys((row["task"], row["method"]) for row in rows):
        some = [row for row in rows if (row["task"], row["method"]) == (task, method)]
        cells = [spread([float(row[score]) for row in some if row[score]]) for score in SCORES]
        seconds = np.median([float(row["cpu_seconds"]) for row in some])
        yield f"| {task} | {method} | {len(some)} | {' | '.join(cells)} | {seconds:.0f} |"


def spread(values: Sequence[float]) -> str:
    """Return `IQM (least to largest)`; a dash of no values."""
    if not values:
        return "-"
    return f"{float(interquartile_mean([np.array(values)])):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
