"""Compute the figures of a reference case again, through the classes that training uses.

    python -m envs.replay CASE.npz --out OUT.npz
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch

from envs.point_mass import PointMassRL
from envs.push_cube import PushCubeRL, planar, reward_parts
from envs.ur10 import JOINTS, forward
from utils.cases import Arrays, Case, replay_main


def point_mass(case: Case) -> Arrays:
    """Play the actions of the case from the states that it starts with; no row is reset.

    `meta` may hold each setting of the task. `obs` (T + 1, N, 14) begins with the observation before the first step.
    """
    acts = torch.as_tensor(case.take("acts", None, None, 2))                        # (T, N, 2)
    count = acts.shape[1]
    shapes = {"position": (2,), "velocity": (2,), "goal": (2,), "obstacles": (2, 2), "radii": (2,)}
    env = PointMassRL(count, **{name: case.meta[name] for name in PointMassRL.SETTINGS if name in case.meta})
    obs = env.start_at({name: torch.as_tensor(case.take(f"start/{name}", count, *shape))
                        for name, shape in shapes.items()})
    steps = [_step(env, one) for one in acts.to(env.dtype)]
    found = {name: np.stack([step[name] for step in steps]) if steps else np.zeros((0, count)) for name in WRITTEN}
    return found | {"obs": np.stack([obs.numpy(), *(step["obs"] for step in steps)])}


WRITTEN = ("rewards", "terminated", "truncated", "position", "distance", "path_length", "collisions")


def _step(env: PointMassRL, acts: torch.Tensor) -> Arrays:
    obs, rews, terminated, truncated, info = env.step(acts)
    metrics = info["metrics"]
    found = {"obs": obs, "rewards": rews, "terminated": terminated, "truncated": truncated,
             "position": info["final_position"], "distance": metrics["final_distance"],
             "path_length": metrics["path_length"], "collisions": metrics["collision_count"].long()}
    return {name: value.numpy().copy() for name, value in found.items()}


def push_cube(case: Case) -> Arrays:
    """Compute the kinematics of the arm at angles `fk/q` (M, 6), and the rewards of T steps of N cubes.

    The distance before the first step is that of `reward/cube_start`. `meta` may hold settings of the task.
    """
    return _kinematics(case) | _rewards(case)


def _kinematics(case: Case) -> Arrays:
    pose = forward(torch.as_tensor(case.take("fk/q", None, JOINTS)).double())
    found = {"ee": pose.tool, "rotation": pose.rotation, "flange": pose.origins[:, -1], "link_origins": pose.origins}
    return {f"fk/{name}": value.numpy() for name, value in found.items()}


def _rewards(case: Case) -> Arrays:
    acts = _floats(case, "acts", None, None, JOINTS)                                # (T, N, 6)
    steps, rows = acts.shape[:2]
    tool, cube = (_floats(case, name, steps, rows, 3) for name in ("ee", "cube"))
    start, goal = (_floats(case, name, rows, 3) for name in ("cube_start", "goal"))
    env = PushCubeRL(rows, **{name: case.meta[name] for name in PushCubeRL.SETTINGS if name in case.meta})
    distance = planar(torch.cat([start[None], cube]), goal)                         # (T + 1, N)
    success = distance[1:] < env.settings["success_threshold"]
    parts = reward_parts(tool, cube, goal, env.change(acts), distance[:-1], success, env.settings)
    found = {"reward": sum(parts.values()), "success": success} | parts
    return {f"reward/{name}": value.numpy() for name, value in found.items()}


def _floats(case: Case, name: str, *shape: int | None) -> torch.Tensor:
    found = torch.as_tensor(case.take(f"reward/{name}", *shape))
    return found if found.is_floating_point() else found.double()


KINDS = {"point_mass": point_mass, "push_cube": push_cube}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return replay_main("python -m envs.replay", __doc__.partition("\n")[0], KINDS, argv)


if __name__ == "__main__":
    sys.exit(main())
