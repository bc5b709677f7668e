"""Replay a reference case of the published program through the functions that training uses.

    python -m envs.marinenav.replay CASE.npz --out OUT.npz [--dtype float64|float32] [--device cpu|cuda]

A case is an episode of one world (`world/*`, `actions`, `meta`, perhaps `noise/*`), a table of the current (`points`),
or a table of the rules of the sea (`ego_velocity`). The exit code is 0, or 2 with one line for a file that is no case.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.marinenav import world
from envs.marinenav.boat import thrust_change
from envs.marinenav.cases import Arrays, Shapes, read_arrays, run_command, write_arrays
from envs.marinenav.colregs import penalty_angle
from envs.marinenav.field import currents
from envs.marinenav.layout import Layout, signed
from envs.marinenav.settings import DEFAULTS, LIMITS, Settings
from envs.task_settings import checked
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
        result = replay(read_arrays(args.case), getattr(torch, args.dtype), args.device)
    write_arrays(args.out, {name: _as_array(name, value) for name, value in result.items()})


def _as_array(name: str, value: Tensor) -> np.ndarray:
    array = value.cpu().numpy()
    return array.astype(np.int8 if name in INT8 else np.int16 if name in INT16 else array.dtype)


def replay(arrays: Arrays, dtype: torch.dtype = torch.float64, device: str = "cpu") -> dict[str, Tensor]:
    """Return the figures of a case, by the names of the case.

    Raises:
        ConfigError: an array is missing or does not fit.
    """
    case = Case(arrays, dtype, device)
    if "points" in arrays:
        return case.field_table()
    if "ego_velocity" in arrays:
        return case.rules_table()
    if "actions" in arrays:
        return Episode(case).play()
    raise ConfigError("case: got neither actions, points nor ego_velocity, expected an episode or a table")


class Case:
    """The arrays of a case as tensors of one type."""

    def __init__(self, arrays: Arrays, dtype: torch.dtype, device: str):
        self.arrays, self.shapes, self.dtype, self.device = arrays, Shapes(arrays), dtype, device
        self.meta = _meta(arrays)
        given = {ours: self.meta[name] for name, ours in META.items() if name in self.meta}
        given["discrete"] = not self.meta.get("continuous", True)
        self.settings = Settings(**DEFAULTS | checked("MarineNav", DEFAULTS, LIMITS, given))

    def take(self, name: str, shape: str, kinds: str = "fiu") -> Tensor:
        """Return an array, as floats if it holds any."""
        value = torch.as_tensor(self.shapes.take(name, shape, kinds), device=self.device)
        return value.to(self.dtype) if kinds == "fiu" else value

    def place(self, name: str, shape: str) -> Tensor:
        """Return an array in float64, as places are."""
        return torch.as_tensor(self.shapes.take(name, shape), device=self.device).double()

    def field_table(self) -> dict[str, Tensor]:
        """Return the current at the points of each world."""
        strength = signed(self.take("core_gamma", "W C"), self.take("core_clockwise", "W C", "bu"))
        return {"velocity": currents(self.place("points", "W P 2"), self.place("cores", "W C 2"), strength,
                                     self.settings.core_r)}

    def rules_table(self) -> dict[str, Tensor]:
        """Return what the rules of the sea say of single objects, and of several at once."""
        own, radius = self.take("ego_velocity", "n 2"), float(self.meta.get("robot_radius", self.settings.robot_r))
        one = self.take("object", "n 5").unsqueeze(1)
        phi, _, zone = penalty_angle(own, one, torch.ones_like(one[..., 0], dtype=torch.bool), radius)
        result = {"in_zone": zone[:, 0], "phi": phi}
        if "objects" in self.arrays:
            several = self.take("objects", "m K 5")
            seen = several[..., 4] > 0                  # padding is 0
            phi, index, _ = penalty_angle(own[:len(several)], several, seen, radius)
            result |= {"objects_phi": phi, "objects_index": index}
        return result

    def layout(self) -> Layout:
        """Return the world of an episode."""
        shapes = {"start": "R 2", "goal": "R 2", "init_theta": "R", "cores": "C 2", "obstacles": "O 2"}
        start, goal, theta, cores, obstacles = (self.place(f"world/{name}", shape) for name, shape in shapes.items())
        strength = signed(self.take("world/core_gamma", "C"), self.take("world/core_clockwise", "C", "bu"))
        one = Layout(
            start=start, goal=goal, start_theta=theta, start_velocity_r=self.take("world/init_velocity_r", "R 3"),
            start_thrust=self.take("world/init_thrust", "R 2"), robot_exists=torch.ones_like(theta, dtype=torch.bool),
            cores=cores, strength=strength, obstacles=obstacles,
            obstacle_radius=self.take("world/obstacle_radius", "O"),
            obstacle_exists=torch.ones_like(obstacles[:, 0], dtype=torch.bool))
        return Layout(**{name: value.unsqueeze(0) for name, value in one.tensors().items()})


class Episode:
    """One world, played by recorded actions."""

    def __init__(self, case: Case):
        self.settings, self.layout = case.settings, case.layout()
        acts = case.take("actions", "T R", "iu") if self.settings.discrete else case.take("actions", "T R 2")
        if self.settings.discrete and ((acts < 0) | (acts >= self.settings.num_actions)).any():
            raise ConfigError(f"actions: got {int(acts.min())} to {int(acts.max())}, expected indices from 0 to "
                              f"{self.settings.num_actions - 1}")
        self.changes = thrust_change(acts, self.settings, case.dtype).unsqueeze(1)              # (T, 1, R, 2)
        self.draws = _draws(case, len(acts))
        self.state = world.begin(self.layout, self.settings, with_current=True)
        self.state.steps += int(case.meta.get("episode_timesteps_at_start", 0))
        self.times: list[dict[str, Tensor]] = []
        self.steps: list[dict[str, Tensor]] = []

    def play(self) -> dict[str, Tensor]:
        """Play all actions; return the arrays of the reference."""
        self.state, view = world.observe(self.state, self.layout, self.draws[0], self.settings)
        self._note_time(view, torch.zeros_like(self.state.velocity[..., 0]))
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


def _draws(case: Case, actions: int) -> Sequence[Tensor | None]:
    """What is added to the observations at each time, (1, R, O + R, 5), or None."""
    if case.meta.get("noise", "zero") == "zero":
        return [None] * (actions + 1)
    case.shapes.sizes["U"] = actions + 1
    parts = [case.take("noise/obstacle", "U R O 5"), case.take("noise/robot", "U R R 5")]
    return torch.cat(parts, 2).unsqueeze(1)


def _meta(arrays: Arrays) -> dict[str, Any]:
    try:
        meta = json.loads(str(arrays.get("meta", "{}")))
    except ValueError:
        meta = None
    if not isinstance(meta, dict):
        raise ConfigError("meta: got no JSON object, expected one")
    return meta


def _stacked(frames: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The only world of each time, stacked; nothing of no times."""
    return {name: torch.stack([frame[name][0] for frame in frames]) for name in frames[0]} if frames else {}


if __name__ == "__main__":
    sys.exit(main())
