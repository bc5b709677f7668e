"""A scripted policy of PushCubeRL: behind the cube, down, and forward; by the arm's kinematics alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from envs.push_cube import PushCubeRL
from envs.ur10 import forward

BEHIND, AHEAD, HIGH, LOW, STEP = 0.13, 0.02, 0.2, 0.03, 0.06          # m
DOWN = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)


def play(policy: Callable[[Tensor], Tensor], rows: int, seed: int) -> tuple[float, float, float]:
    """Return the mean return, the share of successes and the mean length of each row's first episode."""
    env = PushCubeRL(rows, seed=seed)
    obs, total, length, success = env.reset(), *torch.zeros(3, rows)
    over = torch.zeros(rows, dtype=torch.bool)
    while not over.all():
        obs, rews, terminated, truncated, info = env.step(policy(obs))
        total, length = total + rews * ~over, length + ~over
        success = torch.where(over, success, info["metrics"]["success"])
        over |= terminated | truncated
    env.close()
    return total.mean().item(), success.mean().item(), length.mean().item()


def _tool(angles: Tensor) -> Tensor:
    """The tool's point and its direction, (6,) -> (6,)."""
    pose = forward(angles)
    return torch.cat([pose.tool, pose.rotation[:, 2]])


def push(obs: Tensor) -> Tensor:
    """(N, 15) -> actions (N, 6)."""
    angles, tool, cube, goal = obs.double().split([6, 3, 3, 3], 1)
    move = target(tool, cube, goal) - tool
    move = move * (STEP / move.norm(dim=1, keepdim=True)).clamp(max=1)
    turn = 0.5 * (DOWN - forward(angles).rotation[:, :, 2])
    jacobian = vmap(jacrev(_tool))(angles)                              # (N, 6, 6)
    damped = jacobian @ jacobian.mT + 1e-4 * torch.eye(6, dtype=torch.float64)
    change = jacobian.mT @ torch.linalg.solve(damped, torch.cat([move, turn], 1)[:, :, None])
    change = change[:, :, 0]
    return (change * (0.08 / change.abs().amax(1, keepdim=True)).clamp(max=1) / 0.1).float()


def target(tool: Tensor, cube: Tensor, goal: Tensor) -> Tensor:
    """Where the tool should go, (N, 3): above the place behind the cube, down there, and through the cube."""
    way = torch.nn.functional.normalize((goal - cube)[:, :2], dim=-1)
    offset = (tool - cube)[:, :2]
    along = (offset * way).sum(1, keepdim=True)
    beside = (offset - along * way).norm(dim=1, keepdim=True)
    aligned = (beside < 0.04) & (along < -0.08)
    deep = (beside < 0.07) & (along < -0.01) & (tool[:, 2:] < 0.09)
    place = torch.where(deep, cube[:, :2] + AHEAD * way, cube[:, :2] - BEHIND * way)
    return torch.cat([place, torch.where(aligned | deep, LOW, HIGH).double()], 1)
