"""Pictures of Arena: the field at 0.6 of its size, and beside it phase, health and counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.arena import rules

SCALE, SIDEBAR = 0.6, 256
WIDTH, HEIGHT = round(rules.WIDTH * SCALE), round(rules.HEIGHT * SCALE)
Colour = tuple[int, int, int]
FIELD, PANEL, TEXT, FAINT = (18, 20, 30), (34, 37, 50), (225, 228, 235), (70, 75, 92)
PLAYER, ENEMY, SPAWNER = (90, 190, 255), (235, 85, 75), (180, 110, 230)
SHOT, ENEMY_SHOT = (250, 225, 110), (255, 140, 60)
HEALTHY, HURT = (95, 200, 110), (225, 80, 70)
FINE = 4                                                # bits of a pixel's fractions


class Picture:
    """RGB pixels to draw on, (H, W, 3) uint8, in coordinates of the field."""

    def __init__(self) -> None:
        self.pixels = np.full((HEIGHT, WIDTH + SIDEBAR, 3), PANEL, np.uint8)
        self.pixels[:, :WIDTH] = FIELD

    def circle(self, place: np.ndarray, radius: float, colour: Colour, thickness: int = -1) -> None:
        """Draw a circle; it is filled if `thickness` is -1."""
        import cv2
        x, y, r = (round(value * SCALE * 2**FINE) for value in (*place.tolist(), radius))
        cv2.circle(self.pixels[:, :WIDTH], (x, y), r, colour, thickness, cv2.LINE_AA, FINE)

    def line(self, place: np.ndarray, end: np.ndarray, colour: Colour) -> None:
        """Draw a line."""
        import cv2
        points = (tuple(round(value * SCALE * 2**FINE) for value in point.tolist()) for point in (place, end))
        cv2.line(self.pixels[:, :WIDTH], *points, colour, 2, cv2.LINE_AA, FINE)

    def bar(self, x: float, y: float, width: int, height: int, share: float) -> None:
        """Draw a bar of health, in pixels of the picture, from its upper left corner."""
        left, top = round(x), round(y)
        self._box(left, top, width, height, FAINT)
        self._box(left, top, round(width * share), height, HEALTHY if share > 0.35 else HURT)

    def _box(self, left: int, top: int, width: int, height: int, colour: Colour) -> None:
        self.pixels[max(top, 0):max(top + height, 0), max(left, 0):max(left + width, 0)] = colour

    def text(self, line: int, text: str, size: float = 0.55, colour: Colour = TEXT) -> None:
        """Write a line of the sidebar."""
        import cv2
        place = (WIDTH + 20, 44 + 34 * line)
        cv2.putText(self.pixels, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)


def draw(game: Mapping[str, Any], spawner_hp: float) -> np.ndarray:
    """Draw a game, given as lists (see `envs.arena.lists`) of arrays: RGB, uint8 (768, 1216, 3).

    Args:
        spawner_hp: HP of a new spawner.
    """
    picture = Picture()
    draw_spawners(picture, game, spawner_hp)
    for place in game["enemy_pos"][game["enemy_alive"]]:
        picture.circle(place, rules.ENEMY_RADIUS, ENEMY)
    flying = game["proj_alive"]
    for place, by_player in zip(game["proj_pos"][flying], game["proj_player"][flying], strict=True):
        picture.circle(place, rules.SHOT_RADIUS + 1, SHOT if by_player else ENEMY_SHOT)
    draw_player(picture, game)
    draw_sidebar(picture, game)
    return picture.pixels


def draw_spawners(picture: Picture, game: Mapping[str, Any], full: float) -> None:
    """Draw the spawners, and the health of each above it."""
    for place, hp in zip(game["spawner_pos"][game["spawner_alive"]], game["spawner_health"][game["spawner_alive"]],
                         strict=True):
        picture.circle(place, rules.SPAWNER_RADIUS, SPAWNER)
        picture.circle(place, rules.SPAWNER_RADIUS / 2, FIELD, 2)
        x, y = place * SCALE
        picture.bar(x - 18, y - 26, 36, 5, min(hp / full, 1.0))


def draw_player(picture: Picture, game: Mapping[str, Any]) -> None:
    """Draw the player, a line where he faces, and his health above him."""
    place, rotation = game["player_pos"], float(game["player_rot"])
    picture.circle(place, rules.PLAYER_RADIUS, PLAYER if game["player_alive"] else FAINT)
    picture.line(place, place + 26 * np.array([math.cos(rotation), math.sin(rotation)]), TEXT)
    x, y = place * SCALE
    picture.bar(x - 14, y - 20, 28, 5, game["player_health"] / rules.PLAYER_HP)


def draw_sidebar(picture: Picture, game: Mapping[str, Any]) -> None:
    """Write phase, health and counts."""
    phase = int(game["phase"])
    picture.text(0, f"Phase {min(phase + 1, rules.PHASES)} of {rules.PHASES}", 0.8)
    picture.text(2, f"Health {float(game['player_health']):.0f} / {rules.PLAYER_HP:.0f}")
    picture.bar(WIDTH + 20, 44 + 34 * 2 + 12, SIDEBAR - 40, 14, game["player_health"] / rules.PLAYER_HP)
    counts = {"Spawners": f"{int(game['spawner_alive'].sum())} left, {int(game['spawners_destroyed'])} destroyed",
              "Enemies": f"{int(game['enemy_alive'].sum())}, {int(game['enemies_destroyed'])} destroyed",
              "Step": f"{int(game['step'])} of {rules.LIMIT}", "Return": f"{float(game['episode_reward']):.1f}"}
    for line, (name, value) in enumerate(counts.items()):
        picture.text(5 + 2 * line, name, 0.5, (150, 156, 172))
        picture.text(6 + 2 * line, value)
    ended = "WON" if game["win"] else "" if game["player_alive"] else "DEAD"
    picture.text(15, ended, 1.0, HEALTHY if game["win"] else HURT)
