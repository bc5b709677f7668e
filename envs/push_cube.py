"""PushCubeRL: a UR10 pushes a cube along the floor to a goal.

    dq = clip(action_scale a, -joint_limits, joint_limits)          change of the joints' angles that is asked for
    reward = 0.1 (1 - tanh(5 |tool - p|)) + place - 0.01 |dq| + 10 success
    p = cube - 0.015 unit(goal - cube) + (0, 0, 0.015)                  where the tool should be
    place = 2 t if t >= 0 else 0.5 t,    t = tanh(10 (d_before - d)),    d the distance of cube and goal in the plane

The task is that of EmbodiChain's trainer. Its simulator is MuJoCo here, with drives that are stable in it: their
targets move by at most 2 rad/s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor

from envs.mujoco_rows import Rows
from envs.tensor import Step, TensorEnv, register_env
from envs.ur10 import JOINTS, arm_xml, drives_xml, forward
from utils.errors import ConfigError
from utils.threads import one_thread

DT, MOST_SPEED = 0.01, 2.0                              # s of a physics step; rad/s of a drive's target
START = (0.0, -1.57, 1.57, -1.57, -1.57, 0.0)           # angles of the joints
CUBE, CUBE_RANGE, GOAL = (-0.6, -0.4, 0.05), 0.2, (-0.9, -0.6, 0.05)
HALF, LOWEST = 0.05, -0.1                               # m: half an edge of the cube; below it the cube has fallen
BEHIND, ABOVE = 0.015, 0.015                            # m: where the tool should be, from the cube's centre
HEIGHT, WIDTH = 320, 400                                # of a picture
PARTS = {"object/cube_pos": 3, "object/goal_pos": 3, "robot/ee_pos": 3, "robot/qpos": JOINTS}
STATE_ORDER = ("robot/qpos", "robot/ee_pos", "object/cube_pos", "object/goal_pos")


@register_env("PushCubeRL-v0")
class PushCubeRL(TensorEnv):
    """Observation (15,): angles of the joints, tool, cube, goal; with `obs_mode="dict"` these by name. Action (6,).

    An episode ends with success, and is truncated after `episode_length` steps, or when the cube falls.
    `info["success"]` is (N,) bool.
    """

    SETTINGS: ClassVar = {
        "obs_mode": "state", "episode_length": 100, "joint_limits": 0.5, "action_scale": 0.1, "success_threshold": 0.1,
        "reaching_reward_weight": 0.1, "place_reward_weight": 2.0, "place_penalty_weight": 0.5,
        "action_penalty_weight": 0.01, "success_bonus_weight": 10.0, "sim_steps_per_control": 4}
    LIMITS: ClassVar = {
        "episode_length": (1, None), "joint_limits": (0.0, None), "action_scale": (0.0, None),
        "success_threshold": (0.0, None), "sim_steps_per_control": (1, 1000),
        **{name: (0.0, None) for name in SETTINGS if name.endswith("_weight")}}
    WEIGHTS = tuple(name for name in SETTINGS if name.endswith("_weight"))
    PER_ROW = ("episode_length", "joint_limits", "action_scale", "success_threshold", *WEIGHTS)
    STATE = ("physics", "distance", "steps")
    rewards = ("reaching_reward", "place_reward", "action_penalty", "success_bonus")
    metrics = ("success", "distance_to_goal")
    metadata: ClassVar = TensorEnv.metadata | {"render_fps": 25}

    def setup(self) -> None:
        if self.settings["obs_mode"] not in ("state", "dict"):
            raise ConfigError(f"env: PushCubeRL's setting obs_mode: got {self.settings['obs_mode']!r}, expected state "
                              "or dict")
        boxes = {name: Box(-np.inf, np.inf, (size,), np.float32) for name, size in PARTS.items()}
        one = Box(-np.inf, np.inf, (sum(PARTS.values()),), np.float32)
        self.as_dict = self.settings["obs_mode"] == "dict"
        self.observation_space = Dict(boxes) if self.as_dict else one
        self.action_space = Box(-1.0, 1.0, (JOINTS,), np.float32)
        self.rows = Rows(scene_xml(self.settings["success_threshold"]), self.num_envs)
        start = self.rows.start(np.array([*START, *CUBE, 1, 0, 0, 0]))
        self.start = start.to(self.device)                                          # (S,) float64
        self.physics = self.start.repeat(self.num_envs, 1)                          # (N, S) float64
        self.goal = torch.tensor(GOAL, dtype=torch.float64, device=self.device)
        self.distance = self.zeros(dtype=torch.float64)                             # of cube and goal, before a step
        self.steps = self.zeros(dtype=torch.int64)

    def _reset(self, rows: Tensor) -> Tensor | dict[str, Tensor]:
        self.renew(rows, self._draw)
        return self._observe(self.physics)

    def _draw(self, count: int) -> dict[str, Tensor]:
        """Draw `count` starting states: the arm's is the same, the cube's place is drawn."""
        physics = self.start.repeat(count, 1)
        moved = self.uniform(-CUBE_RANGE, CUBE_RANGE, count, 2)
        physics[:, CUBE_AT:CUBE_AT + 2] += moved
        return {"physics": physics, "distance": planar(cube_of(physics), self.goal),
                "steps": torch.zeros(count, dtype=torch.int64, device=self.device)}

    def _observe(self, physics: Tensor, tool: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        angles = angles_of(physics)
        tool = forward(angles).tool if tool is None else tool
        parts = {"robot/qpos": angles, "robot/ee_pos": tool, "object/cube_pos": cube_of(physics),
                 "object/goal_pos": self.goal.expand(len(physics), 3)}
        parts = {name: part.to(self.dtype) for name, part in parts.items()}
        return parts if self.as_dict else torch.cat([parts[name] for name in STATE_ORDER], 1)

    @one_thread()       # threads that share such small products spin, beside those of the physics
    def _step(self, acts: Tensor) -> Step:
        self.steps = self.steps + 1
        change = self.change(acts)
        self._move(change)
        tool, cube = forward(angles_of(self.physics)).tool, cube_of(self.physics)
        distance = planar(cube, self.goal)
        success = distance < self.of_row("success_threshold")
        weights = {name: self.of_row(name) for name in self.WEIGHTS}
        parts = reward_parts(tool, cube, self.goal, change, self.distance, success, weights)
        self.distance = distance
        truncated = (self.steps >= self.of_row("episode_length")) | (cube[:, 2] < LOWEST)
        parts = {name: part.to(self.dtype) for name, part in parts.items()}
        metrics = {"success": success.to(self.dtype), "distance_to_goal": distance.to(self.dtype)}
        info = {"rewards": parts, "metrics": metrics, "success": success}
        return self._observe(self.physics, tool), sum(parts.values()), success, truncated, info

    def change(self, acts: Tensor) -> Tensor:
        """Return the change of the joints' angles that actions ask for, (N, 6)."""
        limit = self.of_row("joint_limits")[:, None]
        return (acts * self.of_row("action_scale")[:, None]).clamp(-limit, limit)

    def _move(self, change: Tensor) -> None:
        steps = self.settings["sim_steps_per_control"]
        most = MOST_SPEED * DT * steps
        target = angles_of(self.physics) + change.double().clamp(-most, most)
        self.physics = self.rows.step(self.physics, target, steps)

    def render(self, row: int = 0) -> np.ndarray:
        return self.rows.render(self.physics[row], "side", HEIGHT, WIDTH)

    def close(self) -> None:
        self.rows.close()


def reward_parts(tool: Tensor, cube: Tensor, goal: Tensor, change: Tensor, before: Tensor, success: Tensor,
                 weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the parts of the reward, (...) each; see the module.

    Args:
        tool, cube, goal: (..., 3), m.
        change: of the joints' angles, as asked for, (..., 6), rad.
        before: the distance of cube and goal in the plane before the step, (...).
        success: (...) bool.
        weights: PushCubeRL's settings whose names end in _weight.
    """
    push = torch.nn.functional.normalize(goal - cube, dim=-1, eps=1e-6)
    behind = cube - BEHIND * push + cube.new_tensor((0, 0, ABOVE))
    reached = 1 - torch.tanh(5 * (tool - behind).norm(dim=-1))
    nearer = torch.tanh(10 * (before - planar(cube, goal)))
    return {"reaching_reward": weights["reaching_reward_weight"] * reached,
            "place_reward": torch.where(nearer >= 0, weights["place_reward_weight"] * nearer,
                                        weights["place_penalty_weight"] * nearer),
            "action_penalty": -weights["action_penalty_weight"] * change.norm(dim=-1),
            "success_bonus": weights["success_bonus_weight"] * success.to(tool.dtype)}


def planar(places: Tensor, others: Tensor) -> Tensor:
    """Return the distances in the plane of places (..., 3): (...)."""
    return (places - others)[..., :2].norm(dim=-1)


# A row of `physics`: time, 6 angles, the cube's place and quaternion, 12 velocities.
ANGLES_AT, CUBE_AT = 1, 1 + JOINTS


def angles_of(physics: Tensor) -> Tensor:
    """Return the angles of the joints, (N, S) -> (N, 6)."""
    return physics[:, ANGLES_AT:CUBE_AT]


def cube_of(physics: Tensor) -> Tensor:
    """Return the place of the cube, (N, S) -> (N, 3)."""
    return physics[:, CUBE_AT:CUBE_AT + 3]


def scene_xml(threshold: float) -> str:
    """Return the scene as MJCF: floor, arm, cube, and the goal, a disc of radius `threshold` that nothing touches."""
    text = {"goal": f"{GOAL[0]} {GOAL[1]}", "cube": " ".join(map(str, CUBE))}
    goal = 'conaffinity="0" rgba="0.2 0.65 0.3'
    return f"""<mujoco model="push_cube">
      <compiler angle="degree"/>
      <option timestep="{DT}" integrator="implicitfast"/>
      <visual><global offwidth="{WIDTH}" offheight="{HEIGHT}"/>
        <headlight ambient="0.45 0.45 0.45" diffuse="0.25 0.25 0.25" specular="0 0 0"/></visual>
      <asset><texture type="skybox" builtin="flat" rgb1="1 1 1" rgb2="1 1 1" width="32" height="32"/></asset>
      <default><geom contype="0" conaffinity="1" friction="1"/></default>
      <worldbody>
        <light pos="-0.5 0.8 2.5" dir="0 -0.3 -1" directional="true" diffuse="0.45 0.45 0.45" specular="0 0 0"/>
        <camera name="side" pos="-2.1 -1.6 1.15" xyaxes="0.62 -0.78 0 0.36 0.29 0.88"/>
        <geom name="floor" type="plane" size="3 3 0.1" contype="1" rgba="0.86 0.87 0.88 1"/>
        <geom type="cylinder" size="{max(threshold, 0.001)} 0.001" pos="{text["goal"]} 0.001" {goal} 0.6"/>
        <geom type="sphere" size="0.02" pos="{text["goal"]} {GOAL[2]}" {goal} 1"/>
        {arm_xml()}
        <body name="cube" pos="{text["cube"]}">
          <joint type="free" damping="2"/>
          <geom type="box" size="{HALF} {HALF} {HALF}" mass="10" friction="2" contype="1" rgba="0.8 0.35 0.2 1"/>
        </body>
      </worldbody>
      <actuator>{drives_xml()}</actuator>
    </mujoco>"""
