"""Samples worlds: proposals are drawn until enough of each kind fit, for all worlds at once.

A kind has `proposals` proposals in each world. They are drawn together; then the first that fits is accepted and those
that do not fit beside it are ruled out, and so on. That accepts the same ones as a test of one after another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from envs.marinenav.layout import Layout, empty, joined, signed
from envs.marinenav.settings import Settings

NEAREST_ROBOTS = 10.0       # metres between two starts, and between two goals
MARGIN = {"robots": 2.0, "obstacles": 5.0}              # metres from the edge of the map
CHUNK = 256                 # worlds at once: 50 MB
CLOCKWISE = 0.5             # the share of cores


@dataclass
class Accepted:
    """Which proposals of one kind were accepted, in W worlds."""

    index: Tensor           # (W, n); of a place that stays empty, anything
    exists: Tensor          # (W, n) bool
    tries: Tensor           # (W,) proposals that were used


@dataclass
class Draws:
    """Draws from U(0, 1) and places for W worlds, by the environment's generator."""

    worlds: int
    settings: Settings
    generator: torch.Generator

    def uniform(self, *low_high: tuple[float, float]) -> Tensor:
        """Return (W, P, n): for each proposal one number from each of n intervals."""
        low, high = (torch.tensor(bound, dtype=torch.float64, device=self.generator.device)
                     for bound in zip(*low_high, strict=True))
        shape = (self.worlds, self.settings.proposals, len(low_high))
        unit = torch.rand(shape, generator=self.generator, dtype=torch.float64, device=self.generator.device)
        return low + unit * (high - low)

    def places(self, margin: float) -> Tensor:
        """Return places on the map, (W, P, 2)."""
        width, height = self.settings.width, self.settings.height
        return self.uniform((margin, width - margin), (margin, height - margin))


def sample(worlds: int, settings: Settings, dtype: torch.dtype, generator: torch.Generator) -> tuple[Layout, Tensor]:
    """Return W new worlds, on the generator's device, and the proposals used for robots, cores, obstacles, (W, 3).

    Where `proposals` were not enough, fewer exist than the settings ask for.
    """
    sizes = [CHUNK] * (worlds // CHUNK) + [worlds % CHUNK]
    parts = [_sample(size, settings, dtype, generator) for size in sizes]
    return joined([layout for layout, _ in parts]), torch.cat([tries for _, tries in parts])


def _sample(worlds: int, settings: Settings, dtype: torch.dtype, generator: torch.Generator) -> tuple[Layout, Tensor]:
    draws = Draws(worlds, settings, generator)
    layout = empty(worlds, settings.num_robots, settings.num_cores, settings.num_obstacles, dtype, generator.device)
    tries = []
    for kind in (sample_robots, sample_cores, sample_obstacles):        # each keeps clear of those before it
        layout, accepted = kind(layout, draws)
        tries.append(accepted.tries)
    return layout, torch.stack(tries, 1)


def sample_robots(layout: Layout, draws: Draws) -> tuple[Layout, Accepted]:
    """Place starts and goals, each pair far apart, starts apart and goals apart; headings are uniform."""
    start, goal = draws.places(MARGIN["robots"]), draws.places(MARGIN["robots"])
    theta = draws.uniform((0.0, 2 * math.pi))[..., 0]
    fits = _distance(start, goal) >= draws.settings.min_start_goal_dis

    def beside(chosen: Tensor) -> Tensor:
        return (_apart(start, chosen) > NEAREST_ROBOTS) & (_apart(goal, chosen) > NEAREST_ROBOTS)
    accepted = accept(fits, beside, draws.settings.num_robots)
    return replace(layout, start=_chosen(start, accepted), goal=_chosen(goal, accepted),
                   start_theta=_chosen(theta, accepted), robot_exists=accepted.exists), accepted


def sample_cores(layout: Layout, draws: Draws) -> tuple[Layout, Accepted]:
    """Place vortex cores, wholly on the map, clear of starts and goals, and of each other by `compatible`."""
    s = draws.settings
    place, (turn, speed) = draws.places(0.0), draws.uniform((0.0, 1.0), s.v_range).unbind(-1)
    clockwise, circulation = turn < CLOCKWISE, 2 * math.pi * s.core_r * speed
    size = place.new_tensor([s.width, s.height])
    fits = ((place >= s.core_r) & (place <= size - s.core_r)).all(-1) & _clear(place, layout, s.core_r + s.clear_r)

    def beside(chosen: Tensor) -> Tensor:
        return compatible(_apart(place, chosen), circulation, circulation.gather(1, chosen),
                          clockwise == clockwise.gather(1, chosen), s)
    accepted = accept(fits, beside, s.num_cores)
    strength = _chosen(signed(circulation, clockwise), accepted).to(layout.strength.dtype)
    return replace(layout, cores=_chosen(place, accepted), strength=strength), accepted


def compatible(distance: Tensor, one: Tensor, two: Tensor, same_direction: Tensor, settings: Settings) -> Tensor:
    """Return whether cores of these circulations may be so far apart.

    Of one direction, the water between them flows at most at `v_rel_max` relative to it. Of two directions, the
    stronger one's speed at the edge of the other is at most the share `p` of that one's own; cores that overlap or
    touch are refused, which the published program accepts: it divides by the gap, which is negative there.
    """
    weaker, stronger = torch.minimum(one, two), torch.maximum(one, two)
    gap = distance - 2 * settings.core_r
    opposite = stronger * settings.core_r <= settings.p * weaker * gap
    return torch.where(same_direction, distance >= (one + two) / (2 * math.pi * settings.v_rel_max), opposite)


def sample_obstacles(layout: Layout, draws: Draws) -> tuple[Layout, Accepted]:
    """Place obstacles clear of starts, goals and cores, and apart from each other."""
    s = draws.settings
    place, radius = draws.places(MARGIN["obstacles"]), draws.uniform(s.obs_r_range)[..., 0]
    to_cores = torch.cdist(place, layout.cores, compute_mode="donot_use_mm_for_euclid_dist")
    off_cores = ((to_cores > s.core_r + radius.unsqueeze(-1)) | (layout.strength == 0).unsqueeze(1)).all(-1)
    fits = off_cores & _clear(place, layout, radius + s.clear_r)

    def beside(chosen: Tensor) -> Tensor:
        return _apart(place, chosen) > radius + radius.gather(1, chosen)
    accepted = accept(fits, beside, s.num_obstacles)
    return replace(layout, obstacles=_chosen(place, accepted),
                   obstacle_radius=_chosen(radius, accepted).to(layout.obstacle_radius.dtype),
                   obstacle_exists=accepted.exists), accepted


def accept(fits: Tensor, beside: Callable[[Tensor], Tensor], count: int) -> Accepted:
    """Accept proposals in order until there are `count` in each world.

    Args:
        fits: which proposals fit by themselves, (W, P).
        beside: of one accepted proposal a world, (W, 1), which others fit beside it, (W, P).
    """
    worlds, proposals = fits.shape
    index = torch.zeros(worlds, count, dtype=torch.int64, device=fits.device)
    exists = torch.zeros(worlds, count, dtype=torch.bool, device=fits.device)
    order = torch.arange(proposals, device=fits.device)
    for place in range(count):
        first = fits.to(torch.uint8).argmax(1, keepdim=True)
        index[:, place], exists[:, place] = first[:, 0], fits.gather(1, first)[:, 0]
        fits = fits & beside(first) & (order > first)
    last = index[:, -1] + 1 if count else torch.zeros_like(order[:1]).expand(worlds)
    tries = torch.where(exists.all(1), last, proposals)
    return Accepted(index, exists, tries)


def _chosen(values: Tensor, accepted: Accepted) -> Tensor:
    """The values (W, P, ...) of accepted proposals, (W, n, ...); 0 where none is."""
    index, exists = (one.view(*one.shape, *[1] * (values.dim() - 2)) for one in (accepted.index, accepted.exists))
    return values.gather(1, index.expand(-1, -1, *values.shape[2:])) * exists


def _apart(places: Tensor, chosen: Tensor) -> Tensor:
    """The distance of each place (W, P, 2) to the chosen one, (W, P)."""
    return _distance(places, places.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 2)))


def _distance(one: Tensor, two: Tensor) -> Tensor:
    return torch.linalg.vector_norm(one - two, dim=-1)


def _clear(places: Tensor, layout: Layout, distance: Tensor | float) -> Tensor:
    """Whether places (W, P, 2) are at least so far, a number or (W, P), from all starts and goals."""
    ends = torch.cat([layout.start, layout.goal], 1)
    exists = torch.cat([layout.robot_exists] * 2, 1).unsqueeze(1)
    nearest = torch.cdist(places, ends, compute_mode="donot_use_mm_for_euclid_dist")
    return nearest.masked_fill(~exists, math.inf).amin(-1) >= distance


def shortfall(layout: Layout, settings: Settings) -> str:
    """Return one line that says of what fewer were placed than asked for, or nothing."""
    counts = {"robots": (layout.robot_exists.sum(1), settings.num_robots),
              "cores": ((layout.strength != 0).sum(1), settings.num_cores),
              "obstacles": (layout.obstacle_exists.sum(1), settings.num_obstacles)}
    short = [f"{wanted} {kind} in {int((count < wanted).sum())} of {len(count)} worlds, {count.double().mean():.1f} on "
             "average" for kind, (count, wanted) in counts.items() if (count < wanted).any()]
    return f"no room within {settings.proposals} proposals for {'; '.join(short)}" if short else ""
