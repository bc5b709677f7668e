"""Pictures of a world: north (x) is up, east (y) is right."""

from __future__ import annotations

import colorsys
import math

import cv2
import numpy as np
import torch
from torch import Tensor

from envs.marinenav.field import currents
from envs.marinenav.layout import Layout
from envs.marinenav.settings import Settings
from envs.marinenav.world import State, distance_to_goal

PIXELS = 11                 # a metre
MARGIN = 4                  # metres around the map
HEADER = 36                 # pixels of text above it
ARROW_GAP = 2.5             # metres between the arrows of the current
SHIFT = 4                   # fractional bits of a coordinate for OpenCV
SEA, GRID, FLOW, EDGE, STONE, INK = ((238, 245, 250), (222, 232, 240), (130, 165, 195), (120, 140, 160),
                                     (110, 100, 95), (40, 45, 55))


def draw_world(layout: Layout, state: State, one: int, track: Tensor, settings: Settings) -> np.ndarray:
    """Return a picture of one of W worlds: RGB, uint8 (H, W, 3).

    Arrows are the current, rings cores, dark discs obstacles, crosses goals, thin rings around them the distance at
    which a goal is reached; the number and the colour of a boat are those of its goal and wake.

    Args:
        track: where the robots have been, (T, R, 3).
    """
    chart = Chart(settings, track.double().cpu().numpy()[..., :2].reshape(-1, 2))
    world = layout.to(torch.float64, "cpu").take(torch.tensor([one]))
    chart.flow(world, settings)
    for x, y, strength in zip(*world.cores[0].unbind(-1), world.strength[0], strict=True):
        if strength != 0:
            chart.core(float(x), float(y), bool(strength > 0), settings.core_r)
    for (x, y), radius in zip(world.obstacles[0][world.obstacle_exists[0]].tolist(),
                              world.obstacle_radius[0][world.obstacle_exists[0]].tolist(), strict=True):
        chart.disc(x, y, radius, STONE)
    robots = world.robot_exists[0].nonzero()[:, 0].tolist()
    for robot in robots:
        chart.robot(robot, len(robots), state, world, one, track[:, robot].double().cpu().numpy(), settings)
    chart.header(headline(layout, state, one, settings), tally(state, one, robots))
    return chart.image


def headline(layout: Layout, state: State, one: int, settings: Settings) -> str:
    """Return the time, and the distance to the goal if there is one robot."""
    text = f"{int(state.steps[one]) * settings.period:.1f} s"
    if int(layout.robot_exists[one].sum()) == 1:
        speed = torch.linalg.vector_norm(state.velocity[one, 0, :2])
        text += f"   goal {float(distance_to_goal(state, layout)[one, 0]):.1f} m   {float(speed):.1f} m/s"
    return text


def tally(state: State, one: int, robots: list[int]) -> str:
    """Return how many robots have arrived and collided."""
    hit = state.collision[one][robots]
    home = state.reach_goal[one][robots] & ~hit
    return f"{int(home.sum())} arrived   {int(hit.sum())} collided   of {len(robots)}"


class Chart:
    """A picture that is drawn on in metres."""

    def __init__(self, settings: Settings, places: np.ndarray | None = None):
        """
        Args:
            places: x, y in metres (n, 2) that are to be seen, also beyond the map, which then appears smaller.
        """
        self.height, self.width = settings.width, settings.height       # the map's x is up
        self.size = np.array([self.height + 2 * MARGIN, self.width + 2 * MARGIN])
        rows, columns = np.rint(self.size * PIXELS).astype(int)
        self.image = np.full((rows + HEADER, columns, 3), SEA, np.uint8)
        seen = np.array([(0, 0), (self.height, self.width), *(() if places is None else places)])
        low, high = seen.min(0) - MARGIN, seen.max(0) + MARGIN
        self.pixels = PIXELS * min(self.size / (high - low))
        self.north_west = np.array([(low[0] + high[0] + rows / self.pixels) / 2,
                                    (low[1] + high[1] - columns / self.pixels) / 2])
        for metres in range(0, int(max(self.height, self.width)) + 1, 5):
            self.line([(metres, 0), (metres, self.width)] if metres <= self.height else [], GRID)
            self.line([(0, metres), (self.height, metres)] if metres <= self.width else [], GRID)
        corners = [(0, 0), (0, self.width), (self.height, self.width), (self.height, 0), (0, 0)]
        self.line(corners, EDGE)

    def at(self, points: np.ndarray | list) -> np.ndarray:
        """Return places x, y in metres (n, 2) as OpenCV's pixels with fractions."""
        x, y = np.asarray(points, float).reshape(-1, 2).T
        place = np.stack([y - self.north_west[1], self.north_west[0] - x], -1) * self.pixels + [0, HEADER]
        return np.clip(np.rint(place * 2**SHIFT), -2**30, 2**30).astype(np.int32)

    def line(self, points: np.ndarray | list, colour: tuple, thickness: int = 1) -> None:
        """Draw a line through places in metres."""
        if len(points) > 1:
            cv2.polylines(self.image, [self.at(points)], False, colour, thickness, cv2.LINE_AA, SHIFT)

    def disc(self, x: float, y: float, radius: float, colour: tuple, thickness: int = -1) -> None:
        """Draw a disc, or a ring if `thickness` is positive."""
        cv2.circle(self.image, self.at([x, y])[0].tolist(), round(radius * self.pixels * 2**SHIFT), colour, thickness,
                   cv2.LINE_AA, SHIFT)

    def flow(self, world: Layout, settings: Settings) -> None:
        """Draw arrows of the current; the length of one grows with the root of the speed."""
        if not (world.strength != 0).any():
            return
        x, y = (torch.arange(ARROW_GAP / 2, size, ARROW_GAP, dtype=torch.float64) for size in
                (self.height, self.width))
        places = torch.cartesian_prod(x, y)
        speed = currents(places.unsqueeze(0), world.cores, world.strength, settings.core_r)[0]
        length = torch.linalg.vector_norm(speed, dim=-1, keepdim=True)
        arrows = (speed / length.clamp(min=1e-9) * ARROW_GAP * 0.9 * (length / settings.v_range[1]).sqrt()).numpy()
        for place, arrow in zip(places.numpy(), arrows, strict=True):
            self.arrow(place, arrow)

    def arrow(self, place: np.ndarray, arrow: np.ndarray) -> None:
        """Draw an arrow of the current through a place."""
        tip, tail, side = place + arrow / 2, place - arrow / 2, np.array([-arrow[1], arrow[0]])
        self.line([tail, tip], FLOW)
        self.line([tip - 0.35 * arrow + 0.2 * side, tip, tip - 0.35 * arrow - 0.2 * side], FLOW)

    def core(self, x: float, y: float, clockwise: bool, radius: float) -> None:
        """Draw the edge of a core with the direction in which it turns.

        A core is called clockwise where x is to the right and y is up; with north up it turns the other way.
        """
        self.disc(x, y, radius, (205, 222, 236))
        self.disc(x, y, radius, FLOW, 1)
        turn = -1 if clockwise else 1
        angles = turn * np.linspace(0, 1.5 * math.pi, 20)
        ring = np.stack([x + 1.8 * radius * np.cos(angles), y + 1.8 * radius * np.sin(angles)], -1)
        self.line(ring, FLOW, 2)
        out = np.array([math.cos(angles[-1]), math.sin(angles[-1])])
        ahead = turn * np.array([-out[1], out[0]])
        tip = ring[-1] + 0.5 * radius * ahead
        self.line([tip - radius * (ahead + 0.7 * out), tip, tip - radius * (ahead - 0.7 * out)], FLOW, 2)

    def robot(self, number: int, count: int, state: State, world: Layout, one: int, track: np.ndarray,
              settings: Settings) -> None:
        """Draw a boat with its wake, its start and its goal."""
        colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(number / max(count, 1), 0.75, 0.75))
        pale = tuple((part + 2 * sea) // 3 for part, sea in zip(colour, SEA, strict=True))
        goal, pose = world.goal[0, number].tolist(), state.pose[one, number].double().cpu().numpy()
        self.line([pose[:2], goal], pale)
        self.disc(*goal, settings.goal_dis, colour, 1)
        for dx, dy in ((0.6, 0.6), (0.6, -0.6)):
            self.line([(goal[0] - dx, goal[1] - dy), (goal[0] + dx, goal[1] + dy)], colour, 2)
        self.line(track[:, :2], pale, 4)
        self.line(track[:, :2], colour)
        self.disc(*track[0, :2], 0.3, colour, 1)
        self.hull(pose, settings, colour if state.active[one, number] else pale)
        if state.collision[one, number]:
            self.disc(*pose[:2], settings.robot_r, (200, 30, 30), 2)
        self.text(str(number + 1), [goal[0] - 0.45, goal[1] + 1.0], colour)

    def hull(self, pose: np.ndarray, settings: Settings, colour: tuple) -> None:
        """Draw a boat from above: a bow, and a circle of the radius in which it collides."""
        half, side, cos, sin = settings.length / 2, settings.breadth / 2, math.cos(pose[2]), math.sin(pose[2])
        shape = np.array([(half, 0), (0.3 * half, side), (-half, side), (-half, -side), (0.3 * half, -side)])
        outline = pose[:2] + shape @ np.array([[cos, sin], [-sin, cos]])
        cv2.fillPoly(self.image, [self.at(outline)], colour, cv2.LINE_AA, SHIFT)
        self.line([*outline, outline[0]], INK)
        self.disc(*pose[:2], settings.robot_r, colour, 1)

    def text(self, text: str, place: list[float], colour: tuple) -> None:
        """Write beside a place in metres."""
        x, y = (self.at(place)[0] >> SHIFT).tolist()
        cv2.putText(self.image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)

    def header(self, left: str, right: str) -> None:
        """Write above the map."""
        self.image[:HEADER] = 255
        style = cv2.FONT_HERSHEY_SIMPLEX, 0.5
        width = cv2.getTextSize(right, *style, 1)[0][0]
        for text, x in ((left, 12), (right, self.image.shape[1] - width - 12)):
            cv2.putText(self.image, text, (x, 23), *style, INK, 1, cv2.LINE_AA)


def png(image: np.ndarray) -> bytes:
    """Return a picture, RGB, as a PNG file."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
