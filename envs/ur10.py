"""The UR10 arm: its kinematics as functions of tensors, and its description for MuJoCo.

The figures are those of the public `universal_robot` description. Each joint turns about the z axis of its link; at
angles 0 the arm points to -x, which is the frame of its controller.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TOOL = 0.16                             # m from the flange to the tool's point, along the flange's z


class Link(NamedTuple):
    """A link: where its joint is in the link before, its mass and its shape.

    Attributes:
        origin: of its frame in that of the link before, m.
        turn: of its frame about the x axis there, in quarters.
        mass: kg.
        centre: of mass, m.
        radius, length: of a cylinder about `centre`, m; the arm collides as its capsule.
        axis: of the cylinder, "x" or "z".
        inertia: of the mass across the cylinder and along it, kg m^2.
    """

    name: str
    origin: tuple[float, float, float]
    turn: int
    mass: float
    centre: tuple[float, float, float]
    radius: float
    length: float
    axis: str
    inertia: tuple[float, float]


LINKS = (
    Link("shoulder", (0, 0, 0.1273), 0, 7.778, (0, 0, 0), 0.075, 0.178, "z", (0.031474, 0.021876)),
    Link("upper_arm", (0, 0, 0), 1, 12.93, (-0.306, 0, 0.175), 0.075, 0.612, "x", (0.421754, 0.036366)),
    Link("forearm", (-0.612, 0, 0), 0, 3.87, (-0.28615, 0, 0.049042), 0.06, 0.5723, "x", (0.111070, 0.010884)),
    Link("wrist_1", (-0.5723, 0, 0.163941), 0, 1.96, (0, 0, 0), 0.06, 0.12, "z", (0.005108, 0.005512)),
    Link("wrist_2", (0, -0.1157, 0), 1, 1.96, (0, 0, 0), 0.06, 0.09, "z", (0.004079, 0.005512)),
    Link("wrist_3", (0, 0.0922, 0), -1, 0.202, (0, 0, -0.01525), 0.045, 0.0305, "z", (0.000118, 0.000205)))
JOINTS = len(LINKS)
LIMITS = (360, 360, 180, 360, 360, 360)                     # degrees to each side
STIFFNESS = (2e4, 2e4, 1e4, 2e3, 2e3, 2e3)                  # N m / rad, of the drives
DAMPING = 0.02                                              # s: of a drive, as a share of its stiffness
EFFORT = 500.0                                              # N m, of a drive
ARMATURE = 0.1                                              # kg m^2, of a drive's rotor
GRIPPER_MASS, GRIPPER_RADIUS = 1.0, 0.03


class Pose(NamedTuple):
    """Where an arm is: the tool's point (..., 3), its rotation (..., 3, 3), the links' origins (..., 6, 3).

    The last origin is the flange's.
    """

    tool: Tensor
    rotation: Tensor
    origins: Tensor


def forward(angles: Tensor) -> Pose:
    """Return the pose at these angles of the joints, (..., 6) in radians.

    R_i = R_{i-1} X_i Z(q_i),   o_i = o_{i-1} + R_{i-1} origin_i,   tool = o_6 + 0.16 R_6 e_z

    R is kept as its columns x, y, z, because products of 3 x 3 matrices cost several times as much.
    """
    sines, cosines = angles.sin().split(1, -1), angles.cos().split(1, -1)               # (..., 1) each
    x, y, z = torch.eye(3, dtype=angles.dtype, device=angles.device).expand(*angles.shape[:-1], 3, 3).unbind(-2)
    origin, origins = torch.zeros_like(x), []
    for link, sin, cos in zip(LINKS, sines, cosines, strict=True):
        for axis, length in zip((x, y, z), link.origin, strict=True):
            origin = origin + length * axis if length else origin
        origins.append(origin)
        if link.turn:
            y, z = link.turn * z, -link.turn * y
        x, y = cos * x + sin * y, cos * y - sin * x
    return Pose(origin + TOOL * z, torch.stack((x, y, z), -1), torch.stack(origins, -2))


def arm_xml(colour: str = "0.55 0.6 0.68 1") -> str:
    """Return the arm as a body of MJCF; a capsule for each link, gravity compensated as by its controller."""
    body = (f'<body name="gripper" gravcomp="1"><geom type="capsule" size="{GRIPPER_RADIUS}" mass="{GRIPPER_MASS}" '
            f'fromto="0 0 0 0 0 {TOOL - GRIPPER_RADIUS}" friction="1" rgba="0.2 0.2 0.22 1"/></body>')
    for link, limit in reversed(list(zip(LINKS, LIMITS, strict=True))):
        body = _link_xml(link, limit, colour, body)
    return body


def _link_xml(link: Link, limit: int, colour: str, inner: str) -> str:
    across, along = link.inertia
    inertia = (along, across, across) if link.axis == "x" else (across, across, along)
    half = max(link.length / 2 - (0 if link.axis == "x" else link.radius), 0.005)       # of the capsule's straight part
    turn = ' zaxis="1 0 0"' if link.axis == "x" else ""
    return (f'<body name="{link.name}" pos="{_text(link.origin)}" euler="{90 * link.turn} 0 0" gravcomp="1">'
            f'<inertial pos="{_text(link.centre)}" mass="{link.mass}" diaginertia="{_text(inertia)}"/>'
            f'<joint name="{link.name}" axis="0 0 1" range="{-limit} {limit}" armature="{ARMATURE}"/>'
            f'<geom type="capsule" size="{link.radius} {half}" pos="{_text(link.centre)}"{turn} rgba="{colour}"/>'
            f"{inner}</body>")


def drives_xml() -> str:
    """Return the drives as actuators of MJCF, which hold joints at angles."""
    return "".join(f'<position joint="{link.name}" kp="{stiffness}" kv="{DAMPING * stiffness}" '
                   f'forcerange="{-EFFORT} {EFFORT}"/>' for link, stiffness in zip(LINKS, STIFFNESS, strict=True))


def _text(values: tuple[float, ...]) -> str:
    return " ".join(map(str, values))
