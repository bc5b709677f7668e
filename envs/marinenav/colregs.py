"""The rules of the sea that a boat must obey: give way head-on, and to a boat that crosses from the left of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SLOWEST = 0.5           # metres a second; the rules bind two boats that both move


def penalty_angle(own: Tensor, objects: Tensor, seen: Tensor, robot_r: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return by how much a robot should turn to pass the first object that the rules protect.

    Args:
        own: the robot's velocity in its frame, (..., 2).
        objects: x, y, velocity x, velocity y, radius in the robot's frame, the nearest first, (..., K, 5).
        seen: which of them there are, (..., K).
    Returns:
        The angle, (...,), 0 where there is no such object; its index or -1; and for each object whether the robot is
        in one of its zones, (..., K).
    """
    zone = in_zone(own.unsqueeze(-2), objects) & seen
    angle = passing_angle(own.unsqueeze(-2), objects, robot_r)
    counts = zone & (angle > 0)
    first = (counts.cumsum(-1) == 0).sum(-1, keepdim=True).clamp(max=counts.shape[-1] - 1)
    found = counts.any(-1)
    angle = torch.where(found, angle.gather(-1, first).squeeze(-1), torch.zeros_like(angle[..., 0]))
    return angle, torch.where(found, first.squeeze(-1), -1), zone


def in_zone(own: Tensor, objects: Tensor) -> Tensor:
    """Return whether the robot is in the head-on or the left-crossing zone of each object, (..., K).

    Zones lie in the frame of the object, whose x axis is its velocity.
    """
    px, py, vx, vy = objects[..., :4].unbind(-1)
    ux, uy = own.unbind(-1)
    speed = torch.hypot(vx, vy)
    scale = speed.clamp(min=SLOWEST)
    cos, sin = vx / scale, vy / scale
    x, y = -(cos * px + sin * py), sin * px - cos * py                  # the robot as the object sees it
    heading = torch.atan2(cos * uy - sin * ux, cos * ux + sin * uy)
    head_on = (x >= 0) & (x <= 17) & (y.abs() <= 4.5) & (heading.abs() > 0.75 * math.pi)
    crossing = ((x >= -9) & (x <= 12) & (y >= -17) & (y <= 0) & (y + 7 <= -7 / 12 * (x - 12))
                & (heading >= 0.25 * math.pi) & (heading <= 0.75 * math.pi))
    return (head_on | crossing) & (speed >= SLOWEST) & (torch.hypot(ux, uy) >= SLOWEST)


def passing_angle(own: Tensor, objects: Tensor, robot_r: float) -> Tensor:
    """Return the angle from the robot's velocity to the tangent that passes each object, in [-pi, pi), (..., K).

    With the bearing b and the distance d of the object, and its radius and one metre more, e:

        phi = b + asin(e / d) + atan2(r, sqrt(d^2 - e^2)) - angle of the velocity

    It is 0 where the robot is nearer than e, where no tangent exists.
    """
    px, py, _, _, radius = objects.unbind(-1)
    edge, square = radius + 1, px * px + py * py
    outside = square >= edge * edge
    reach = torch.where(outside, square - edge * edge, torch.zeros_like(square)).sqrt()
    angle = torch.atan2(py, px) + torch.atan2(edge, reach) + torch.atan2(torch.full_like(reach, robot_r), reach)
    angle = _half_turn(_half_turn(angle) - torch.atan2(own[..., 1], own[..., 0]))
    return torch.where(outside, angle, torch.zeros_like(angle))


def _half_turn(angle: Tensor) -> Tensor:
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
