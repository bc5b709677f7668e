"""Replay a reference case of the published program through the functions that training uses.

    python -m envs.marinenav.replay CASE.npz --out OUT.npz [--dtype float64|float32] [--device cpu|cuda]

A case is an episode of one world (`world/*`, `actions`, `meta`, perhaps `noise/*`), a table of the current (`points`),
or a table of the rules of the sea (`ego_velocity`). The exit code is 0, or 2 with one line for a file that is no case.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from envs.marinenav import world
from envs.marinenav.boat import thrust_change
from envs.marinenav.colregs import penalty_angle
from envs.marinenav.field import currents
from envs.marinenav.layout import Layout, signed
from envs.marinenav.settings import DEFAULTS, LIMITS, Settings
from envs.task_settings import checked
from utils.cases import Case, read_case, write_case
from utils.command import run_command
from utils.errors import ConfigError
from utils.settings.cli import Parser

# The settings that a case's `meta` holds, and ours.
META = {"dt": "dt", "substeps": "substeps", "max_objects": "max_obj_num", "detection_range": "detection_range",
        "r_mean_ratio": "r_mean_ratio", "pos_std": "pos_std", "vel_std": "vel_std", "r_kappa": "r_kappa",
        "goal_distance": "goal_dis", "core_radius": "core_r"}
INT8, INT16 = ("info", "objects_index"), ("num_detected",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return run_command("envs.marinenav.replay", lambda: _replay_file(_parse(argv)))


def _parse(argv: Sequence[str] | None) -> Namespace:
    parser = Parser(prog="python -m envs.marinenav.replay", allow_abbrev=False,
                    description="Replay a reference case of the published program.")
    parser.add_argument("case", metavar="CASE.npz", help="an episode, or a table of the current or of the rules")
    parser.add_argument("--out", required=True, metavar="OUT.npz", help="file to write")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="(default: float64)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: got cuda, which is not available here, expected cpu")
    return args


def _replay_file(args: Namespace) -> None:
    with torch.inference_mode():
        result = replay(read_case(args.case), getattr(torch, args.dtype), args.device)
    write_case(Path(args.out), {name: _as_array(name, value) for name, value in result.items()})


def _as_array(name: str, value: Tensor) -> np.ndarray:
    array = value.cpu().numpy()
    return array.astype(np.int8 if name in INT8 else np.int16 if name in INT16 else array.dtype)


def replay(case: Case, dtype: torch.dtype = torch.float64, device: str = "cpu") -> dict[str, Tensor]:
    """Return the figures of a case, by the names of the case.

    Raises:
        ConfigError: an array is missing or does not fit.
    """
    tensors = Tensors(case, dtype, device)
    if "points" in case.arrays:
        return tensors.field_table()
    if "ego_velocity" in case.arrays:
        return tensors.rules_table()
    if "actions" in case.arrays:
        return Episode(tensors).play()
    raise ConfigError("case: has neither actions, points nor ego_velocity, expected an episode or a table")


class Tensors:
    """The arrays of a case as tensors of one type."""

    def __init__(self, case: Case, dtype: torch.dtype, device: str):
        self.case, self.meta, self.dtype, self.device = case, case.meta, dtype, device
        given = {ours: self.meta[name] for name, ours in META.items() if name in self.meta}
        given["discrete"] = not self.meta.get("continuous", True)
        self.settings = Settings(**DEFAULTS | checked("MarineNav", DEFAULTS, LIMITS, given))

    def place(self, name: str, *shape: int | None) -> Tensor:
        """Return an array of finite numbers in float64, as places are."""
        array = self.case.take(name, *shape)
        if not np.isfinite(array).all():
            raise ConfigError(f"case: {name!r} has numbers that are not finite")
        return torch.as_tensor(array, device=self.device).double()

    def take(self, name: str, *shape: int | None) -> Tensor:
        """Return an array of finite numbers."""
        return self.place(name, *shape).to(self.dtype)

    def flag(self, name: str, *shape: int | None) -> Tensor:
        """Return an array of zeros and ones as bool."""
        return self.place(name, *shape) != 0

    def field_table(self) -> dict[str, Tensor]:
        """Return the current at the points of each world."""
        cores = self.place("cores", None, None, 2)
        worlds, count = cores.shape[:2]
        strength = signed(self.take("core_gamma", worlds, count), self.flag("core_clockwise", worlds, count))
        return {"velocity": currents(self.place("points", worlds, None, 2), cores, strength, self.settings.core_r)}

    def rules_table(self) -> dict[str, Tensor]:
        """Return what the rules of the sea say of single objects, and of several at once."""
        own, radius = self.take("ego_velocity", None, 2), float(self.meta.get("robot_radius", self.settings.robot_r))
        one = self.take("object", len(own), 5).unsqueeze(1)
        phi, _, zone = penalty_angle(own, one, torch.ones_like(one[..., 0], dtype=torch.bool), radius)
        result = {"in_zone": zone[:, 0], "phi": phi}
        if "objects" in self.case.arrays:
            several = self.take("objects", None, None, 5)
            seen = several[..., 4] > 0                  # padding is 0
            phi, index, _ = penalty_angle(own[:len(several)], several, seen, radius)
            result |= {"objects_phi": phi, "objects_index": index}
        return result

    def layout(self) -> Layout:
        """Return the world of an episode."""
        start, cores, obstacles = (self.place(f"world/{name}", None, 2) for name in ("start", "cores", "obstacles"))
        r, c, o = len(start), len(cores), len(obstacles)
        yes = torch.ones(max(r, o), dtype=torch.bool, device=self.device)
        one = Layout(
            start=start, goal=self.place("world/goal", r, 2), start_theta=self.place("world/init_theta", r),
            start_velocity_r=self.take("world/init_velocity_r", r, 3),
            start_thrust=self.take("world/init_thrust", r, 2), robot_exists=yes[:r], cores=cores,
            strength=signed(self.take("world/core_gamma", c), self.flag("world/core_clockwise", c)),
            obstacles=obstacles, obstacle_radius=self.take("world/obstacle_radius", o), obstacle_exists=yes[:o])
        return Layout(**{name: value.unsqueeze(0) for name, value in one.tensors().items()})

    def changes(self, robots: int) -> Tensor:
        """Return the changes of thrust that the actions mean, (T, 1, R, 2)."""
        if not self.settings.discrete:
            acts = self.take("actions", None, robots, 2)
        else:
            acts, last = self.place("actions", None, robots), self.settings.num_actions - 1
            if ((acts < 0) | (acts > last) | (acts != acts.round())).any():
                raise ConfigError(f"case: 'actions' has {float(acts.min()):g} to {float(acts.max()):g}, expected "
                                  f"indices from 0 to {last}")
            acts = acts.long()
        return thrust_change(acts, self.settings, self.dtype).unsqueeze(1)

    def draws(self, times: int, robots: int, obstacles: int) -> Sequence[Tensor | None]:
        """Return what is added to the observations at each time, (1, R, O + R, 5), or None."""
        kind = self.meta.get("noise", "zero")
        if kind not in ("zero", "recorded"):
            raise ConfigError(f"case: got noise {kind!r} in meta, expected zero or recorded")
        if kind == "zero":
            return [None] * times
        sizes = {"obstacle": obstacles, "robot": robots}
        parts = [self.take(f"noise/{name}", times, robots, size, 5) for name, size in sizes.items()]
        return torch.cat(parts, 2).unsqueeze(1)


class Episode:
    """One world, played by recorded actions."""

    def __init__(self, tensors: Tensors):
        self.settings, self.layout = tensors.settings, tensors.layout()
        robots, _, obstacles = self.layout.sizes()
        self.changes = tensors.changes(robots)
        self.draws = tensors.draws(len(self.changes) + 1, robots, obstacles)
        self.state = world.begin(self.layout, self.settings, with_current=True)
        self.state.steps += int(tensors.meta.get("episode_timesteps_at_start", 0))
        self.times: list[dict[str, Tensor]] = []
        self.steps: list[dict[str, Tensor]] = []

    def play(self) -> dict[str, Tensor]:
        """Play all actions; return the arrays of the reference."""
        self.state, view = world.observe(self.state, self.layout, self.draws[0], self.settings)
        self._note_time(view, world.rules_angle(view, self.settings))
        for change, draws in zip(self.changes, self.draws[1:], strict=True):
            acted = self.state.active
            self.state, view, step = world.step(self.state, self.layout, change, draws, self.settings)
            self._note_time(view, step.penalty)
            self._note_step(step, acted)
        return _stacked(self.times) | _stacked(self.steps)

    def _note_time(self, view: world.View, penalty: Tensor) -> None:
        state, layout = self.state, self.layout
        self.times.append({
            "pose": state.pose, "velocity": state.velocity, "velocity_r": state.velocity_r, "thrust": state.thrust,
            "current": currents(state.pose[..., :2], layout.cores, layout.strength, self.settings.core_r),
            "obs/self": view.own, "obs/objects": view.sight.objects, "obs/mask": view.sight.seen.to(penalty.dtype),
            "num_detected": view.sight.detected, "phi": penalty, "collision": state.collision,
            "reach_goal": state.reach_goal, "deactivated": ~state.active,
            "distance_to_goal": world.distance_to_goal(state, layout)})

    def _note_step(self, step: world.Step, acted: Tensor) -> None:
        self.steps.append({"reward": step.reward, "done": step.terminated | step.truncated | ~acted,
                           "info": step.info, "step_energy": world.energy(self.state, acted, self.settings)})


def _stacked(frames: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The only world of each time, stacked; nothing of no times."""
    return {name: torch.stack([frame[name][0] for frame in frames]) for name in frames[0]} if frames else {}


if __name__ == "__main__":
    sys.exit(main())
