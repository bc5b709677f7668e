"""What each robot sees: the obstacles and the other robots around it, nearest first, with noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.marinenav.boat import to_body
from envs.marinenav.settings import Settings


@dataclass
class Objects:
    """What there is to be seen in each world: K = O + R objects, obstacles first."""

    position: Tensor        # (W, K, 2) in float64
    velocity: Tensor        # (W, K, 2) over ground
    radius: Tensor          # (W, K)
    present: Tensor         # (W, K) bool


@dataclass
class Sight:
    """What each of R robots of each world sees; all is 0 of a robot that is not active."""

    objects: Tensor         # (W, R, M, 5): x, y, velocity x and y, radius, in the robot's frame
    seen: Tensor            # (W, R, M) bool
    detected: Tensor        # (W, R) objects in range
    touched: Tensor         # (W, R) bool: it collides with one that is in range


def look(pose: Tensor, active: Tensor, objects: Objects, draws: Tensor | None, settings: Settings) -> Sight:
    """Return what the robots see.

    Args:
        pose: x, y, theta, (W, R, 3) in float64.
        active: which robots look, (W, R).
        draws: (W, R, K, 5): what is added to x, y and the velocity in the world's frame, and v in [-pi, pi]; an object
            of radius r appears as ratio r + (1 - ratio) r v / pi. None: no noise.
    """
    dtype = objects.velocity.dtype
    offset = (objects.position.unsqueeze(1) - pose[..., None, :2]).to(dtype)            # (W, R, K, 2)
    true = torch.linalg.vector_norm(offset, dim=-1)
    values = observed(offset, objects, pose[..., 2, None].to(dtype), draws, settings)
    distance = torch.hypot(values[0], values[1])
    near = (distance <= settings.detection_range + values[4]) & _others(active, objects)
    touched = near & (true <= objects.radius.unsqueeze(1) + settings.robot_r)
    gap = (distance - values[4] - settings.robot_r).masked_fill(~near, math.inf)
    nearest, seen = _nearest(gap, settings.max_obj_num)
    packed = torch.stack([one.gather(-1, nearest) for one in values], -1) * seen.unsqueeze(-1)
    missing = settings.max_obj_num - seen.shape[-1]
    return Sight(torch.nn.functional.pad(packed, (0, 0, 0, missing)), torch.nn.functional.pad(seen, (0, missing)),
                 near.sum(-1), touched.any(-1))


def observed(offset: Tensor, objects: Objects, theta: Tensor, draws: Tensor | None, settings: Settings,
             ) -> tuple[Tensor, ...]:
    """Return x, y, velocity x, velocity y and radius of all objects in the frame of each robot, (W, R, K) each."""
    ratio, radius = settings.r_mean_ratio, objects.radius.unsqueeze(1)
    velocity = objects.velocity.unsqueeze(1)
    cos, sin = torch.cos(theta), torch.sin(theta)
    if draws is None:
        radius = (ratio * radius).expand_as(offset[..., 0])
    else:
        offset, velocity = offset + draws[..., :2], velocity + draws[..., 2:4]
        radius = radius * (ratio + (1 - ratio) / math.pi * draws[..., 4])
    return *to_body(*offset.unbind(-1), cos, sin), *to_body(*velocity.unbind(-1), cos, sin), radius


def _others(active: Tensor, objects: Objects) -> Tensor:
    """Which objects (W, R, K) a robot may see: those that are present, but not itself."""
    robots, count = active.shape[1], objects.present.shape[1]
    place = torch.arange(count, device=active.device)
    itself = place == place[count - robots:].unsqueeze(1)                               # (R, K)
    return active.unsqueeze(-1) & objects.present.unsqueeze(1) & ~itself


def _nearest(gap: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The objects with the smallest gaps in order, (W, R, M), and which of them are in range; equal ones stay in order.
    """
    order = torch.sort(gap, dim=-1, stable=True)
    return order.indices[..., :most], order.values[..., :most] < math.inf


class Noise:
    """Draws what `look` adds: normal errors, and von Mises angles by their quantiles.

    Each robot has draws of its own; no two share a stream.
    """

    POINTS = 8192

    def __init__(self, settings: Settings, dtype: torch.dtype, device: torch.device | str):
        self.std = torch.tensor([settings.pos_std] * 2 + [settings.vel_std] * 2, dtype=dtype, device=device)
        self.angles = quantiles(settings.r_kappa, self.POINTS).to(device, dtype)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return draws of this shape and 5 numbers each."""
        kind = {"generator": generator, "dtype": self.std.dtype, "device": self.std.device}
        normal = torch.randn(*shape, 4, **kind) * self.std
        place = torch.rand(*shape, 1, **kind) * (self.POINTS - 1)
        low = place.floor().clamp(max=self.POINTS - 2)
        index = low.long()
        angle = torch.lerp(self.angles[index], self.angles[index + 1], place - low)
        return torch.cat([normal, angle], -1)


def quantiles(kappa: float, points: int) -> Tensor:
    """Return quantiles of the von Mises distribution around 0 at `points` equal steps from 0 to 1, in float64.

    The density is exp(kappa cos x) / (2 pi I_0(kappa)); it is integrated by the trapezium rule.
    """
    x = torch.linspace(-math.pi, math.pi, 16 * points + 1, dtype=torch.float64)
    density = torch.exp(kappa * (torch.cos(x) - 1))
    below = torch.cat([x.new_zeros(1), torch.cumulative_trapezoid(density, x)])
    wanted = torch.linspace(0, 1, points, dtype=torch.float64) * below[-1]
    right = torch.searchsorted(below, wanted).clamp(1, len(x) - 1)
    share = (wanted - below[right - 1]) / (below[right] - below[right - 1])
    return torch.lerp(x[right - 1], x[right], share)
