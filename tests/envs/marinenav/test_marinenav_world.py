"""The batch of worlds beside a scalar one, and beside numbers worked by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
import scalar_world as scalar
import torch

from envs.marinenav import world
from envs.marinenav.colregs import in_zone, penalty_angle
from envs.marinenav.field import currents
from envs.marinenav.layout import Layout, empty, joined
from envs.marinenav.perception import Noise, quantiles
from envs.marinenav.settings import Settings

SETTINGS = Settings(r_mean_ratio=0.7, max_obj_num=4, yDotV=-12.0)
DOUBLE = {"dtype": torch.float64}


def crowded(seed, robots, cores, obstacles):
    """A world in which much happens: robots under way close to each other, cores beside and below them."""
    draw = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(1, *shape, generator=draw, **DOUBLE)
    sign = torch.where(uniform(0, 1, cores) < 0.5, -1.0, 1.0)
    return Layout(start=uniform(0, 25, robots, 2), goal=uniform(0, 25, robots, 2),
                  start_theta=uniform(0, 2 * math.pi, robots), start_velocity_r=uniform(-1.5, 1.5, robots, 3),
                  start_thrust=uniform(-300, 900, robots, 2), robot_exists=torch.ones(1, robots, dtype=torch.bool),
                  cores=uniform(0, 25, cores, 2), strength=sign * uniform(4, 12, cores),
                  obstacles=uniform(-5, 30, obstacles, 2), obstacle_radius=uniform(0.3, 2, obstacles),
                  obstacle_exists=torch.ones(1, obstacles, dtype=torch.bool))


def scalar_of(layout, settings):
    one = layout.take(torch.tensor([0]))
    robots = [scalar.Robot(*start, theta, tuple(goal), *speed, *thrust) for start, theta, goal, speed, thrust in
              zip(one.start[0].tolist(), one.start_theta[0].tolist(), one.goal[0].tolist(),
                  one.start_velocity_r[0].tolist(), one.start_thrust[0].tolist(), strict=True)]
    cores = [scalar.Core(*place, strength > 0, abs(strength)) for place, strength in
             zip(one.cores[0].tolist(), one.strength[0].tolist(), strict=True)]
    stones = [scalar.Obstacle(*place, r) for place, r in
              zip(one.obstacles[0].tolist(), one.obstacle_radius[0].tolist(), strict=True)]
    return scalar.ScalarWorld(robots, cores, stones, settings)


def flattened(lists):
    return [value for one in lists for value in one]


def assert_same(batch, index, state, view, twin):
    """Compare one world of the batch with the scalar one."""
    for i, robot in enumerate(twin.robots):
        values = [[robot.x, robot.y], [robot.vx, robot.vy, robot.ground_yaw], [robot.vx_r, robot.vy_r, robot.yaw],
                  [robot.left, robot.right]]
        found = [state.pose[index, i, :2], state.velocity[index, i], state.velocity_r[index, i], state.thrust[index, i]]
        for ours, theirs in zip(found, values, strict=True):
            assert ours.tolist() == pytest.approx(theirs, abs=1e-8)
        turn = math.remainder(float(state.pose[index, i, 2]) - robot.theta, 2 * math.pi)
        assert abs(turn) < 1e-9
        assert 0 <= state.pose[index, i, 2] < 2 * math.pi
        assert bool(state.collision[index, i]) == robot.collision
        assert bool(state.reach_goal[index, i]) == robot.reach_goal
        sight = view.sight
        seen = sight.seen[index, i]
        assert int(sight.detected[index, i]) == robot.detected
        assert sight.objects[index, i][seen].flatten().tolist() == pytest.approx(flattened(robot.objects), abs=1e-8)
        assert not sight.objects[index, i][~seen].any()


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_batch_of_worlds_steps_as_scalar_ones(seed, noisy):
    """Three worlds of different sizes, padded to one shape; 25 joint actions."""
    settings = dataclasses.replace(SETTINGS, max_steps=22)
    sizes = [(5, 3, 6), (2, 0, 1), (7, 5, 0)]
    parts = [crowded(10 * seed + i, *size) for i, size in enumerate(sizes)]
    layout, twins = joined(parts), [scalar_of(part, settings) for part in parts]
    robots, _, obstacles = layout.sizes()
    draw = torch.Generator().manual_seed(seed)
    noise = Noise(settings, torch.float64, "cpu")

    def draws():
        return noise.draw((3, robots, obstacles + robots), draw) if noisy else None

    def of(index, values):
        if values is None:
            return None
        r, _, o = sizes[index]
        return torch.cat([values[index, :r, :o], values[index, :r, obstacles:obstacles + r]], 1).tolist()
    given = draws()
    state, view = world.observe(world.begin(layout, settings, True), layout, given, settings)
    for index, twin in enumerate(twins):
        twin.perceive(of(index, given))
        assert_same(layout, index, state, view, twin)
    infos = set()
    for _ in range(25):
        change, given = 1000 * (2 * torch.rand(3, robots, 2, generator=draw, **DOUBLE) - 1), draws()
        state, view, step = world.step(state, layout, change, given, settings)
        for index, twin in enumerate(twins):
            found = twin.step(change[index, :sizes[index][0]].tolist(), of(index, given))
            assert_same(layout, index, state, view, twin)
            for i, (reward, info, phi) in enumerate(found):
                assert float(step.reward[index, i]) == pytest.approx(reward, abs=1e-8)
                assert world.INFO[step.info[index, i]] == info
                assert float(step.penalty[index, i]) == pytest.approx(phi, abs=1e-8)
                infos.add(info)
                assert bool(step.terminated[index, i]) == (info in ("collision", "reach goal"))
                assert bool(step.truncated[index, i]) == (info == "too long episode")
            assert [bool(one) for one in ~state.active[index, :sizes[index][0]]] == [
                robot.deactivated for robot in twin.robots]
    assert {"normal", "collision", "deactivated after collision"} <= infos


@pytest.mark.parametrize(("point", "velocity"), [
    ((11, 10), (0, -2)), ((12, 10), (0, -1.5)), ((10.25, 10), (0, -1.9)), ((10, 13), (0.32, -0.24)),
    ((10, 10), (0, -0.375))])
def test_the_current_of_two_cores(point, velocity):
    """Gamma = 2 pi 0.5 3; a core adds nothing at its own middle."""
    gamma = 3 * math.pi
    found = currents(torch.tensor([[point]], **DOUBLE), torch.tensor([[(10, 10), (14, 10)]], **DOUBLE),
                     torch.tensor([[gamma, -gamma]], **DOUBLE), 0.5)
    assert found[0, 0].tolist() == pytest.approx(velocity, abs=5e-3)


def test_a_boat_from_rest():
    """Four actions without a current: x, u and thrust as published."""
    layout = empty(1, 1, 0, 0, torch.float64, "cpu")
    layout.robot_exists[:] = True
    layout.goal[:] = 1000
    settings = Settings(noise=False)
    state = world.begin(layout, settings, True)
    expected = [([1, 1], 0.277673, 1.158902, [500, 500]), ([1, 1], 1.266892, 2.714156, [1000, 1000]),
                ([0, 0], 2.758399, 3.192807, [1000, 1000]), ([1, -1], 4.281415, 2.932362, [1000, 500])]
    for act, x, u, thrust in expected:
        state, _, _ = world.step(state, layout, 1000 * torch.tensor([[act]], **DOUBLE), None, settings)
        assert (float(state.pose[0, 0, 0]), float(state.velocity_r[0, 0, 0])) == pytest.approx((x, u), abs=1e-6)
        assert state.thrust[0, 0].tolist() == thrust
    assert state.pose[0, 0, 1:].tolist() == pytest.approx([-0.017004, 0.044752], abs=1e-6)
    assert state.velocity_r[0, 0, 1:].tolist() == pytest.approx([-0.117434, 0.185969], abs=1e-6)


@pytest.mark.parametrize(("thing", "angle"), [
    ([12, 0, -2, 0, 2.8], 0.563010), ([12, 1, -2, 0, 2.8], 0.644109), ([8, 8, 0, -2, 2.8], 1.384445),
    ([8, -8, 0, 2, 2.8], 0), ([12, 0, -0.4, 0, 2.8], 0), ([3, 0, -2, 0, 2.8], 0)])
def test_the_rules_of_the_sea(thing, angle):
    """The fifth object is too slow, the last one nearer than its radius and a metre."""
    found, index, _ = penalty_angle(torch.tensor([2.0, 0.0], **DOUBLE), torch.tensor([thing], **DOUBLE),
                                    torch.ones(1, dtype=torch.bool), 0.5 * math.hypot(5, 2.5))
    assert float(found) == pytest.approx(angle, abs=1e-6)
    assert int(index) == (0 if angle else -1)


HEAD_ON, CROSSING, BACK, SIDE = (8, 0), (5, -9), math.pi, math.pi / 2


@pytest.mark.parametrize(("place", "heading", "inside"), [
    (HEAD_ON, BACK, True), ((0.01, 0), BACK, True), ((-0.01, 0), BACK, False), ((16.99, 0), BACK, True),
    ((17.01, 0), BACK, False), ((8, 4.49), BACK, True), ((8, 4.51), BACK, False), ((8, -4.49), BACK, True),
    (HEAD_ON, 0.76 * math.pi, True), (HEAD_ON, 0.74 * math.pi, False), (HEAD_ON, -0.76 * math.pi, True),
    (CROSSING, SIDE, True), (CROSSING, -SIDE, False), (CROSSING, 0.26 * math.pi, True),
    (CROSSING, 0.24 * math.pi, False), (CROSSING, 0.74 * math.pi, True), (CROSSING, 0.76 * math.pi, False),
    ((-8.99, -9), SIDE, True), ((-9.01, -9), SIDE, False), ((-5, -16.99), SIDE, True), ((-5, -17.01), SIDE, False),
    ((-5, -0.01), SIDE, True), ((-5, 0.01), SIDE, False), ((11.9, -6.96), SIDE, True), ((11.9, -6.92), SIDE, False),
    ((6, -3.51), SIDE, True), ((6, -3.49), SIDE, False)])
def test_the_zones_of_the_rules(place, heading, inside):
    """Places and headings of the robot in the frame of the object, which itself looks in any direction."""
    for turn in (0.0, 1.0, -2.5):
        own = scalar.to_frame(2 * math.cos(heading), 2 * math.sin(heading), -turn)
        x, y = scalar.to_frame(*place, -turn)
        thing = [-x, -y, math.cos(turn), math.sin(turn), 1.0]
        found = in_zone(torch.tensor(own, **DOUBLE), torch.tensor([thing], **DOUBLE))
        assert found.tolist() == [inside]


@pytest.mark.parametrize(("distance", "hit"), [(3.79, True), (3.80, False)])
def test_a_collision_is_of_the_true_places(distance, hit):
    """Radii 2.79508 and 1; the obstacle appears a metre farther away, then a metre nearer."""
    layout = empty(1, 1, 0, 1, torch.float64, "cpu")
    layout.robot_exists[:] = layout.obstacle_exists[:] = True
    layout.obstacles[0, 0, 0], layout.obstacle_radius[:] = distance, 1.0
    draws = torch.zeros(1, 1, 2, 5, **DOUBLE)
    draws[..., 0] = 1.0 if hit else -1.0
    state, view = world.observe(world.begin(layout, SETTINGS, True), layout, draws, SETTINGS)
    assert bool(state.collision[0, 0]) == hit
    assert float(view.sight.objects[0, 0, 0, 0]) == pytest.approx(distance + draws[0, 0, 0, 0])


def drifted(dtype, round_places=False):
    """Where six boats are that drift for 40 s in the vortices of three cores."""
    layout = empty(1, 6, 3, 0, dtype, "cpu")
    layout.robot_exists[:] = True
    layout.cores[:] = torch.tensor([(40.1, 40.2), (44.3, 40.7), (41.7, 45.1)])
    layout.strength[:] = 3 * math.pi
    layout.start[:] = torch.tensor([(40.3 + 0.7 * i, 40.1 + 0.4 * i) for i in range(6)])
    state = world.begin(layout, SETTINGS, True)
    for _ in range(80):
        state = world.advance(state, layout, torch.zeros(1, 6, 2, dtype=dtype), SETTINGS)
        state.pose = state.pose.float().double() if round_places else state.pose
    return state.pose[..., :2]


def test_float32_stays_close_in_vortices():
    """Places are in float64: rounded to float32 after each action, they lead elsewhere."""
    exact = drifted(torch.float64)
    error, rounded = (float((drifted(torch.float32, places) - exact).abs().max()) for places in (False, True))
    assert error < 1e-4
    assert rounded > 2 * error


def test_the_noise_has_its_distribution():
    """Normal errors; von Mises angles with kappa 1: E cos v = I_1(1) / I_0(1) = 0.44640, E v = 0."""
    noise = Noise(Settings(pos_std=0.05, vel_std=0.2), torch.float64, "cpu")
    draws = noise.draw((200_000,), torch.Generator().manual_seed(0))
    assert draws[:, :4].std(0).tolist() == pytest.approx([0.05, 0.05, 0.2, 0.2], rel=0.01)
    assert float(draws[:, 4].cos().mean()) == pytest.approx(0.44640, abs=0.005)
    assert float(draws[:, 4].mean()) == pytest.approx(0, abs=0.01)
    assert draws[:, 4].abs().max() <= math.pi
    flat = quantiles(0.0, 101)
    assert flat.tolist() == pytest.approx(torch.linspace(-math.pi, math.pi, 101).tolist(), abs=1e-6)


def test_no_two_robots_share_their_noise():
    """Two robots that see one obstacle each draw their own error."""
    noise = Noise(Settings(), torch.float64, "cpu").draw((500, 2, 1), torch.Generator().manual_seed(1))
    both = noise[:, :, 0].permute(1, 2, 0)                                  # (robot, number, draw)
    for number in range(5):
        assert abs(float(torch.corrcoef(both[:, number])[0, 1])) < 0.2
