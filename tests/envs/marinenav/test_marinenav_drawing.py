"""Pictures: what is drawn where; a place in metres is found again by its colour."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from envs.marinenav.drawing import EDGE, FLOW, HEADER, MARGIN, PIXELS, STONE, Chart, png
from envs.marinenav.env import MarineNav
from envs.marinenav.field import currents
from envs.marinenav.settings import Settings


@pytest.fixture
def env():
    env = MarineNav(2, num_robots=3, num_cores=6, num_obstacles=5, seed=4)
    env.reset()
    return env


def place(x, y, height=55.0):
    """The pixel (row, column) of a place in metres: north is up."""
    return round((height + MARGIN - x) * PIXELS) + HEADER, round((y + MARGIN) * PIXELS)


def counted(image, colour):
    return int((image == np.array(colour)).all(-1).sum())


def test_obstacles_lie_where_they_are(env):
    image = env.render(3)                                       # the second world
    for x, y in env.obstacles[1].tolist():
        assert tuple(image[place(x, y)]) == STONE
    assert counted(image, STONE) == pytest.approx(5 * np.pi * PIXELS ** 2, rel=0.1)
    assert image[place(0, 21)].tolist() == pytest.approx(EDGE, abs=20)


def test_the_current_is_drawn_only_where_there_are_cores(env):
    assert counted(env.render(0), FLOW) > 500
    env.configure(num_cores=0)
    env.reset()
    assert counted(env.render(0), FLOW) == 0


def test_a_boat_leaves_a_wake_and_its_bow_leads(env):
    """The hull lies ahead of and behind the boat's middle, not beside it."""
    env.configure(num_cores=0, num_obstacles=0)
    env.reset()
    first = env.render(0)
    start = env.pose[0, 0].clone()
    for _ in range(8):
        env.step(torch.ones(6, 2))
    image = env.render(0)
    pose = env.pose[0, 0]
    heading = torch.stack([torch.cos(pose[2]), torch.sin(pose[2])])
    bow, beside = pose[:2] + 1.6 * heading, pose[:2] + 1.6 * heading.flip(0) * torch.tensor([-1.0, 1.0])
    colour = image[place(*pose[:2].tolist())]
    assert np.array_equal(image[place(*bow.tolist())], colour)
    assert not np.array_equal(image[place(*beside.tolist())], colour)
    middle = place(*((start + pose)[:2] / 2).tolist())
    around = (slice(middle[0] - 4, middle[0] + 5), slice(middle[1] - 4, middle[1] + 5))
    assert not np.array_equal(image[around], first[around])


def test_a_wake_begins_anew_with_its_world(env):
    env.render(0)
    env.step(torch.ones(6, 2))
    assert len(env.tracks[0]) == 2
    env.reset()
    assert len(env.tracks[0]) == 1
    assert list(env.tracks) == [0]                              # no other world was drawn


def test_a_png_is_the_picture(env):
    image = env.render(0)
    again = cv2.imdecode(np.frombuffer(png(image), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(again[..., ::-1], image)


@pytest.mark.parametrize("clockwise", [True, False])
def test_a_core_is_marked_as_its_water_flows(clockwise):
    """The ring begins north of the core and runs with the water, so its gap is upstream of there."""
    strength = torch.tensor([[3.0 if clockwise else -3.0]])
    north = currents(torch.tensor([[[31.0, 27.0]]]), torch.tensor([[[30.0, 27.0]]]), strength, 0.5)[0, 0]
    chart = Chart(Settings())
    chart.core(30.0, 27.0, clockwise, 0.5)
    side = 1.8 * 0.5 * np.sqrt(0.5)
    colours = [chart.image[place(30 + side, 27 + towards * side)].astype(int) for towards in (-1, 1)]
    drawn = [bool(np.abs(colour - FLOW).max() < 60) for colour in colours]
    assert drawn == ([True, False] if north[1] < 0 else [False, True])


def test_a_boat_beyond_the_map_is_seen():
    """The map appears smaller, the picture stays of one size."""
    env = MarineNav(1, num_cores=0, num_obstacles=0, seed=0)
    env.reset()
    before = env.render(0)
    env.pose[0, 0, :2] = torch.tensor([300.0, -200.0])
    env.step(torch.zeros(1, 2))
    image = env.render(0)
    assert image.shape == before.shape
    corner = image[HEADER:HEADER + 60, :60]                             # north-west
    assert (corner.max(-1) < 215).sum() > 20
    assert (before[HEADER:HEADER + 40, :40].max(-1) < 215).sum() == 0
