"""Sample worlds into a file.

    python -m envs.marinenav.sample --robots 6 --cores 8 --obstacles 8 --min-start-goal-dis 30 --resets 200 --seed 0 \
        --out OUT.npz

The arrays `start`, `goal` [n, robots, 2], `theta` [n, robots], `cores` [n, cores, 2], `clockwise` [n, cores] (1, 0),
`obstacles` [n, obstacles, 2] are filled with NaN (`clockwise`: -1) where there was no room; `tries` [n, 3] are the
proposals used for robots, cores and obstacles.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from envs.marinenav.layout import Layout
from envs.marinenav.sampler import sample, shortfall
from envs.marinenav.settings import DEFAULTS, LIMITS, Settings
from envs.task_settings import checked
from utils.cases import Arrays, write_case
from utils.command import run_command
from utils.errors import ConfigError
from utils.settings.cli import Parser

NAME = "envs.marinenav.sample"
FLAGS = {"robots": ("num_robots", 6), "cores": ("num_cores", 8), "obstacles": ("num_obstacles", 8),
         "min-start-goal-dis": ("min_start_goal_dis", 30.0)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return run_command(NAME, lambda: _sample_file(_parse(argv)))


def _parse(argv: Sequence[str] | None) -> Namespace:
    parser = Parser(prog=f"python -m {NAME}", allow_abbrev=False, description="Sample worlds into a file.")
    for flag, (name, default) in FLAGS.items():
        parser.add_argument(f"--{flag}", dest=name, default=default, metavar="N", help=f"(default: {default})")
    parser.add_argument("--resets", type=int, default=200, metavar="N", help="number of worlds (default: 200)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    parser.add_argument("--out", required=True, metavar="OUT.npz", help="file to write")
    args = parser.parse_args(argv)
    for name, low, high in (("resets", 1, 1_000_000), ("seed", 0, 2 ** 63 - 1)):
        if not low <= getattr(args, name) <= high:
            raise ConfigError(f"{name}: got {getattr(args, name)}, expected an integer from {low} to {high}")
    return args


def _sample_file(args: Namespace) -> None:
    given = {name: getattr(args, name) for name, _ in FLAGS.values()}
    settings = Settings(**DEFAULTS | checked("MarineNav", DEFAULTS, LIMITS, given))
    generator = torch.Generator().manual_seed(args.seed)
    layout, tries = sample(args.resets, settings, torch.float64, generator)
    if line := shortfall(layout, settings):
        print(f"{NAME}: {line}", file=sys.stderr)
    write_case(Path(args.out), as_arrays(layout) | {"tries": tries.numpy().astype(np.int32)})


def as_arrays(layout: Layout) -> Arrays:
    """Return the places of sampled worlds as float64 arrays, NaN where there is nothing."""
    there = layout.strength != 0
    return {"start": _or_nan(layout.start, layout.robot_exists), "goal": _or_nan(layout.goal, layout.robot_exists),
            "theta": _or_nan(layout.start_theta, layout.robot_exists), "cores": _or_nan(layout.cores, there),
            "clockwise": torch.where(there, (layout.strength > 0).long(), -1).numpy().astype(np.int8),
            "obstacles": _or_nan(layout.obstacles, layout.obstacle_exists)}


def _or_nan(values: Tensor, exists: Tensor) -> np.ndarray:
    exists = exists.view(*exists.shape, *[1] * (values.dim() - 2))
    return torch.where(exists, values, torch.nan).double().numpy()


if __name__ == "__main__":
    sys.exit(main())
