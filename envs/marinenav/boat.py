"""The motion of a boat in three degrees of freedom, after Fossen; a WAM-V with two fixed thrusters."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from envs.marinenav.field import flow
from envs.marinenav.settings import Settings

TURN = 2 * math.pi


def thrust_change(acts: Tensor, settings: Settings, dtype: torch.dtype) -> Tensor:
    """Return the changes of left and right thrust that actions mean, newtons a second, (..., 2).

    Args:
        acts: (..., 2) in [-1, 1]; or indices (...,) of pairs, left * n + right, if the settings are `discrete`.
    """
    if not settings.discrete:
        return acts * settings.change_scale
    table = _pairs(settings.thrust_change, dtype, acts.device)
    return table[acts]


@functools.lru_cache
def _pairs(changes: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.cartesian_prod(*[torch.tensor(changes, dtype=dtype, device=device)] * 2)       # (n * n, 2)


def push(thrust: Tensor, change: Tensor, settings: Settings) -> Tensor:
    """Return left and right thrust, (..., 2), after a change in newtons a second has lasted one action."""
    return (thrust + change * settings.period).clamp(settings.min_thrust, settings.max_thrust)


def move(pose: Tensor, velocity_r: Tensor, thrust: Tensor, cores: tuple[Tensor, Tensor, Tensor], settings: Settings,
         ) -> tuple[Tensor, Tensor, Tensor]:
    """Return pose, velocity over ground and velocity through the water, (N, 3) each, after one action.

    Each substep first moves the boat by its velocity through the water and the current, then changes the velocity by
    the forces at the new heading. So the velocity over ground is that of the last substep's beginning.

    Args:
        pose: x, y, theta, (N, 3) in float64; theta in [0, 2 pi), clockwise from x (north) to y (east).
        velocity_r: through the water, in the world's frame: x, y, yaw, (N, 3).
        thrust: left, right, (N, 2), constant over the action.
        cores: x and y to each core, and its strength / 2 pi, (C, N) each, of `field.around`.
    """
    dt, (core_x, core_y, strength) = settings.dt, cores
    vx, vy, yaw = velocity_r.unbind(-1)
    x, y, theta = torch.zeros_like(vx), torch.zeros_like(vx), pose[:, 2].to(vx.dtype)
    turned = torch.zeros_like(vx)                       # x, y, turned: since the action began
    force, moment = thrust.sum(-1), (thrust[..., 0] - thrust[..., 1]) * (0.5 * settings.breadth)
    for _ in range(settings.substeps):
        flow_x, flow_y = flow(core_x - x, core_y - y, strength, settings.core_r)
        ground = vx + flow_x, vy + flow_y, yaw
        x, y, turned = (old.add(speed, alpha=dt) for old, speed in zip((x, y, turned), ground, strict=True))
        heading = theta + turned
        vx, vy, yaw = accelerate(torch.cos(heading), torch.sin(heading), ground, (vx, vy), force, moment, settings)
    end = pose + torch.stack([x, y, turned], -1)
    end[:, 2] = wrapped(end[:, 2])
    return end, torch.stack(ground, -1), torch.stack([vx, vy, yaw], -1)


def accelerate(cos: Tensor, sin: Tensor, ground: tuple[Tensor, Tensor, Tensor], water: tuple[Tensor, Tensor],
               force: Tensor, moment: Tensor, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Return the velocity through the water after one substep: M_A dv/dt = -C_RB v - (C_A + D) v_r + tau.

    v and v_r are the velocities over ground and through the water in the boat's frame; the yaw rate is the same in
    both. D is linear and quadratic drag. The world's frame is left and entered with the same heading.
    """
    s, dt, yaw = settings, settings.dt, ground[2]
    u, v = to_body(*ground[:2], cos, sin)
    u_r, v_r = to_body(*water, cos, sin)
    surge = force + yaw * (s.m * v + s.yDotV * v_r) + u_r * (s.xU + s.xUU * u_r.abs())
    sway = yaw * (s.xDotU * u_r - s.m * u) + v_r * (s.yV + s.yVV * v_r.abs())
    turn = moment - (s.xDotU - s.yDotV) * u_r * v_r + yaw * (s.nR + s.nRR * yaw.abs())
    u_r, v_r = u_r.add(surge, alpha=dt / (s.m - s.xDotU)), v_r.add(sway, alpha=dt / (s.m - s.yDotV))
    return *to_world(u_r, v_r, cos, sin), yaw.add(turn, alpha=dt / (s.Izz - s.nDotR))


def to_body(x: Tensor, y: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Return a vector of the world's frame in the frame of a boat with this heading."""
    return torch.addcmul(cos * x, sin, y), torch.addcmul(cos * y, sin, x, value=-1)


def to_world(u: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Return a vector of a boat's frame in the world's frame."""
    return torch.addcmul(cos * u, sin, v, value=-1), torch.addcmul(sin * u, cos, v)


def wrapped(theta: Tensor) -> Tensor:
    """Return the angle in [0, 2 pi); rounding would give 2 pi for a small negative one."""
    theta = torch.remainder(theta, TURN)
    return torch.where(theta >= TURN, torch.zeros_like(theta), theta)
