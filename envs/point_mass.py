"""PointMassRL: a point with mass is pushed to a goal in the plane, around two obstacles that only cost.

    v = v (1 - damping dt) + a force / mass dt,   p = clip(p + v dt, -half, half)          a = clip(action, -1, 1)
    reward = -d + 0.5 exp(-d^2 / (2 0.05^2)) - 2 sum_j pen_j^2 - 0.01 |v|^2 - 0.001 |a - a_last|^2 + bonus terminated

with d = |p - goal|, pen_j = max(radius_j - |p - o_j|, 0), terminated d < threshold. The task is that of EmbodiChain's
trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from envs.tensor import Step, TensorEnv, register_env

OBSTACLES, TRIES = 2, 50
WIDTH = 0.05                                            # of the bump of reward about the goal
ZEROED = ("velocity", "last_acts", "path_length", "steps", "collisions")
PIXELS = 256


@register_env("PointMassRL-v0")
class PointMassRL(TensorEnv):
    """Observation (14,): position, velocity, goal, last action, obstacles' positions, their radii. Action (2,).

    `info["success"]` (N,) bool, `info["final_position"]` (N, 2), and the metrics; `collision_count` is the number of
    steps that ended inside an obstacle.
    """

    SETTINGS: ClassVar = {
        "max_episode_steps": 100, "workspace_half": 1.0, "mass": 1.0, "force_scale": 5.0, "linear_damping": 5.0,
        "dt": 1 / 60, "success_threshold": 0.03, "success_bonus": 0.0, "obstacle_radius_range": (0.08, 0.15),
        "obstacle_min_goal_distance": 0.25}
    LIMITS: ClassVar = {
        "max_episode_steps": (1, None), "workspace_half": (1e-6, None), "mass": (1e-6, None),
        "linear_damping": (0.0, None), "dt": (1e-9, None), "success_threshold": (0.0, None),
        "success_bonus": (0.0, None), "obstacle_radius_range": (0.0, None), "obstacle_min_goal_distance": (0.0, None)}
    PER_ROW = ("max_episode_steps", "workspace_half", "mass", "force_scale", "linear_damping", "dt",
               "success_threshold", "success_bonus")
    STATE = ("position", "goal", "obstacles", "radii", *ZEROED)
    rewards = ("distance", "goal", "obstacles", "speed", "jerk", "success")
    metrics = ("success", "final_distance", "path_length", "collision_count")

    def setup(self) -> None:
        self.observation_space = Box(-np.inf, np.inf, (14,), np.float32)
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        self.position, self.velocity, self.goal, self.last_acts = (self.zeros(2) for _ in range(4))
        self.obstacles, self.radii = self.zeros(OBSTACLES, 2), self.zeros(OBSTACLES)
        self.path_length = self.zeros()
        self.steps, self.collisions = (self.zeros(dtype=torch.int64) for _ in range(2))

    def _reset(self, rows: Tensor) -> Tensor:
        self.renew(rows, self._draw)
        return self._observe()

    def start_at(self, start: Mapping[str, Tensor]) -> Tensor:
        """Begin an episode in each row at a given place; return the observations.

        Args:
            start: position, velocity and goal (N, 2), obstacles (N, 2, 2), radii (N, 2), or some of these.
        """
        self.reset()
        for name, value in start.items():
            setattr(self, name, value.to(self.device, self.dtype))
        self.obs = self._observe()
        return self.obs

    def _draw(self, count: int) -> dict[str, Tensor]:
        """Draw `count` starting states.

        An obstacle is the first of 51 places that is far enough from the goal, else it is at -goal / 2.
        """
        half = self.settings["workspace_half"]
        goal = self.uniform(-0.7 * half, 0.7 * half, count, 2)
        places = self.uniform(-0.8 * half, 0.8 * half, count, OBSTACLES, TRIES + 1, 2)
        places = torch.cat([places, (-goal / 2).view(count, 1, 1, 2).expand(-1, OBSTACLES, 1, -1)], 2)
        fits = length(places - goal.view(count, 1, 1, 2)) > self.settings["obstacle_min_goal_distance"]
        fits[..., -1] = True
        first = fits.int().argmax(-1)                                               # (count, OBSTACLES)
        return {"goal": goal, "position": self.uniform(-0.6 * half, 0.6 * half, count, 2),
                "obstacles": places.take_along_dim(first[..., None, None], 2)[:, :, 0],
                "radii": self.uniform(*self.settings["obstacle_radius_range"], count, OBSTACLES),
                **{name: torch.zeros_like(getattr(self, name)[:1]).expand(count, *getattr(self, name).shape[1:])
                   for name in ZEROED}}

    def _observe(self) -> Tensor:
        return torch.cat([self.position, self.velocity, self.goal, self.last_acts, self.obstacles.flatten(1),
                          self.radii], 1)

    def _step(self, acts: Tensor) -> Step:
        acts = acts.clamp(-1, 1)
        self._move(acts)
        distance = length(self.position - self.goal)
        inside = (self.radii - length(self.position[:, None] - self.obstacles)).clamp(min=0)        # (N, OBSTACLES)
        self.collisions = self.collisions + (inside > 0).any(1)
        terminated = distance < self.of_row("success_threshold")
        truncated = self.steps >= self.of_row("max_episode_steps")
        parts = self._parts(acts, distance, inside, terminated)
        self.last_acts = acts
        rews = torch.stack(list(parts.values())).sum(0)
        return self._observe(), rews, terminated, truncated, self._info(parts, distance, terminated)

    def _move(self, acts: Tensor) -> None:
        before, dt = self.position, self.of_row("dt")
        kept, pushed = 1 - self.of_row("linear_damping") * dt, self.of_row("force_scale") / self.of_row("mass") * dt
        half = self.of_row("workspace_half")[:, None]
        self.velocity = self.velocity * kept[:, None] + acts * pushed[:, None]
        self.position = (before + self.velocity * dt[:, None]).clamp(-half, half)
        self.steps = self.steps + 1
        self.path_length = self.path_length + length(self.position - before)

    def _parts(self, acts: Tensor, distance: Tensor, inside: Tensor, terminated: Tensor) -> dict[str, Tensor]:
        """Return the parts of the reward, (N,) each, by the names in `rewards`."""
        return {"distance": -distance, "goal": 0.5 * torch.exp(-distance.square() / (2 * WIDTH**2)),
                "obstacles": -2 * inside.square().sum(1), "speed": -0.01 * self.velocity.square().sum(1),
                "jerk": -0.001 * (acts - self.last_acts).square().sum(1),
                "success": self.of_row("success_bonus") * terminated}

    def _info(self, parts: dict[str, Tensor], distance: Tensor, terminated: Tensor) -> dict[str, Any]:
        metrics = {"success": terminated.to(self.dtype), "final_distance": distance, "path_length": self.path_length,
                   "collision_count": self.collisions.to(self.dtype)}
        return {"rewards": parts, "metrics": metrics, "success": terminated, "final_position": self.position}

    # Pictures -------------------------------------------------------------------------------------------------------

    def render(self, row: int = 0) -> np.ndarray:
        import cv2
        half = float(self.of_row("workspace_half")[row])
        scale = PIXELS / (2.2 * half)                                               # pixels a unit
        frame = np.full((PIXELS, PIXELS, 3), 255, np.uint8)

        def disc(place: Tensor, radius: float, colour: tuple[int, int, int]) -> None:
            x, y = (PIXELS / 2 + scale * place.double().cpu().numpy() * (1, -1)) * 16           # 16ths of a pixel
            cv2.circle(frame, (round(x), round(y)), round(max(radius * scale, 3) * 16), colour, -1, cv2.LINE_AA, 4)
        corner, opposite = round(PIXELS / 2 - half * scale), round(PIXELS / 2 + half * scale)
        cv2.rectangle(frame, (corner, corner), (opposite, opposite), (200, 200, 200), 1)
        for place, radius in zip(self.obstacles[row], self.radii[row].tolist(), strict=True):
            disc(place, radius, (190, 150, 150))
        disc(self.goal[row], float(self.of_row("success_threshold")[row]), (40, 160, 70))
        disc(self.position[row], 0.025 * half, (40, 80, 200))
        return frame


def length(vectors: Tensor) -> Tensor:
    """Return the Euclidean lengths of vectors in the plane, (..., 2) -> (...)."""
    return torch.hypot(vectors[..., 0], vectors[..., 1])
