"""What a batch of worlds is before the first step: robots, cores, obstacles."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

# The axis that has one entry for each robot, core or obstacle is the second; these fields are filled there with 0.
ROBOTS = ("start", "goal", "start_theta", "start_velocity_r", "start_thrust", "robot_exists")
PLACES = ("start", "goal", "start_theta", "cores", "obstacles")


@dataclass
class Layout:
    """W worlds of up to R robots, C cores and O obstacles. Fewer are padded.

    PLACES are in float64, see `field`; the other numbers are of one type.
    """

    start: Tensor               # (W, R, 2)
    goal: Tensor                # (W, R, 2)
    start_theta: Tensor         # (W, R)
    start_velocity_r: Tensor    # (W, R, 3) through the water, in the world's frame
    start_thrust: Tensor        # (W, R, 2) left, right
    robot_exists: Tensor        # (W, R) bool
    cores: Tensor               # (W, C, 2)
    strength: Tensor            # (W, C) circulation, negative for a core that is not clockwise; 0: no core
    obstacles: Tensor           # (W, O, 2)
    obstacle_radius: Tensor     # (W, O)
    obstacle_exists: Tensor     # (W, O) bool

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Layout:
        """Return a copy of it with numbers of this type, and places in float64, on this device."""
        return Layout(**{name: one.to(device, _kind(name, one, dtype)) for name, one in self.tensors().items()})

    def padded(self, robots: int, cores: int, obstacles: int) -> Layout:
        """Return it with room for so many of each kind, and no fewer than it has."""
        sizes = {name: robots if name in ROBOTS else cores if name in ("cores", "strength") else obstacles
                 for name in self.tensors()}
        return Layout(**{name: _pad(one, sizes[name]) for name, one in self.tensors().items()})

    def put(self, worlds: Tensor, other: Layout) -> Layout:
        """Return it with the layout of these worlds, (k,), replaced by another layout of k worlds."""
        sizes = [max(one, two) for one, two in zip(self.sizes(), other.sizes(), strict=True)]
        old, new = self.padded(*sizes).tensors(), other.padded(*sizes).tensors()
        return Layout(**{name: old[name].index_copy(0, worlds, new[name]) for name in old})

    def take(self, worlds: Tensor) -> Layout:
        """Return the layout of these worlds, (k,)."""
        return Layout(**{name: one[worlds] for name, one in self.tensors().items()})

    def sizes(self) -> tuple[int, int, int]:
        """The room for robots, cores and obstacles of a world."""
        return self.start.shape[1], self.cores.shape[1], self.obstacles.shape[1]


def joined(layouts: list[Layout]) -> Layout:
    """Return the worlds of several layouts as one."""
    sizes = [max(one) for one in zip(*(layout.sizes() for layout in layouts), strict=True)]
    parts = [layout.padded(*sizes).tensors() for layout in layouts]
    return Layout(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def signed(circulation: Tensor, clockwise: Tensor) -> Tensor:
    """Return the strengths of cores: the circulation, negative where a core is not clockwise."""
    return torch.where(clockwise.bool(), circulation, -circulation)


def empty(worlds: int, robots: int, cores: int, obstacles: int, dtype: torch.dtype, device: torch.device | str,
          ) -> Layout:
    """Return worlds in which nothing exists."""
    def zeros(*shape: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.zeros(worlds, *shape, dtype=kind, device=device)
    one = Layout(start=zeros(robots, 2), goal=zeros(robots, 2), start_theta=zeros(robots),
                 start_velocity_r=zeros(robots, 3), start_thrust=zeros(robots, 2),
                 robot_exists=zeros(robots, kind=torch.bool), cores=zeros(cores, 2), strength=zeros(cores),
                 obstacles=zeros(obstacles, 2), obstacle_radius=zeros(obstacles),
                 obstacle_exists=zeros(obstacles, kind=torch.bool))
    return one.to(dtype, device)


def _kind(name: str, one: Tensor, dtype: torch.dtype) -> torch.dtype:
    return one.dtype if not one.is_floating_point() else torch.float64 if name in PLACES else dtype


def _pad(one: Tensor, size: int) -> Tensor:
    missing = size - one.shape[1]
    return torch.cat([one, one.new_zeros(one.shape[0], missing, *one.shape[2:])], 1) if missing > 0 else one
