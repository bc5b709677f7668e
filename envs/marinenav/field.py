"""The current: a sum of Rankine vortices.

Places are in float64 even where all else is in float32: near a vortex, the rounding of a position grows 500-fold
within 40 s.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def currents(points: Tensor, cores: Tensor, strength: Tensor, core_r: float) -> Tensor:
    """Return the velocity of the water, (W, P, 2), of the type of `strength`.

    A core turns as a rigid body inside of its radius r_c, and as a free vortex outside of it. With q = core - point:

        v = sum of strength / (2 pi max(|q|^2, r_c^2)) (-q_y, q_x)

    The field is 0 at the middle of a core.

    Args:
        points: (W, P, 2).
        cores: (W, C, 2).
        strength: (W, C), the circulation Gamma of a core that is called clockwise (north of it the water flows west),
            -Gamma of another one; 0 where there is no core.
    """
    x, y, turn = around(points, cores, strength)
    return torch.stack(flow(x, y, turn, core_r), -1).view(points.shape)


def around(points: Tensor, cores: Tensor, strength: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x and y from each point to each core, and the core's strength / 2 pi, (C, N) each with N = W * P."""
    offset = cores.permute(2, 1, 0).unsqueeze(-1) - points.permute(2, 0, 1).unsqueeze(1)        # (2, C, W, P)
    turn = (strength / (2 * math.pi)).T.unsqueeze(-1).expand(offset.shape[1:])
    return *offset.to(strength.dtype).flatten(2).unbind(0), turn.flatten(1)


def flow(x: Tensor, y: Tensor, turn: Tensor, core_r: float) -> tuple[Tensor, Tensor]:
    """Return both components of the velocity, (N,), given x and y to the cores and their strength / 2 pi, (C, N)."""
    weight = turn / (x * x).addcmul_(y, y).clamp_(min=core_r * core_r)
    return -(weight * y).sum(0), (weight * x).sum(0)
