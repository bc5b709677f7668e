"""One world in plain Python, written to be read: one robot, one object, one number after another.

It shares nothing with `envs.marinenav` but the values of `Settings`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

TURN = 2 * math.pi


@dataclass
class Core:
    x: float
    y: float
    clockwise: bool
    circulation: float


@dataclass
class Obstacle:
    x: float
    y: float
    r: float
    vx: float = 0.0
    vy: float = 0.0


@dataclass
class Robot:
    x: float
    y: float
    theta: float
    goal: tuple[float, float]
    vx_r: float = 0.0               # through the water, in the world's frame
    vy_r: float = 0.0
    yaw: float = 0.0
    left: float = 0.0
    right: float = 0.0
    vx: float = 0.0                 # over ground
    vy: float = 0.0
    ground_yaw: float = 0.0
    r: float = 0.0
    collision: bool = False
    reach_goal: bool = False
    deactivated: bool = False
    objects: list = field(default_factory=list)
    detected: int = 0

    def distance(self):
        return math.hypot(self.goal[0] - self.x, self.goal[1] - self.y)


class ScalarWorld:
    """A world of robots, cores and obstacles; `step` plays one joint action."""

    def __init__(self, robots, cores, obstacles, settings):
        self.robots, self.cores, self.obstacles, self.s, self.steps = robots, cores, obstacles, settings, 0
        for robot in robots:
            robot.r = 0.5 * math.sqrt(settings.length ** 2 + settings.breadth ** 2)
            flow_x, flow_y = self.current(robot.x, robot.y)
            robot.vx, robot.vy, robot.ground_yaw = robot.vx_r + flow_x, robot.vy_r + flow_y, robot.yaw

    def current(self, x, y):
        """The sum of what each core adds: a rigid rotation inside of it, a free vortex outside."""
        sum_x = sum_y = 0.0
        for core in self.cores:
            qx, qy = core.x - x, core.y - y
            d = math.hypot(qx, qy)
            if d == 0:
                continue
            if d <= self.s.core_r:
                speed = core.circulation * d / (TURN * self.s.core_r ** 2)
            else:
                speed = core.circulation / (TURN * d)
            direction = (-qy / d, qx / d) if core.clockwise else (qy / d, -qx / d)
            sum_x += speed * direction[0]
            sum_y += speed * direction[1]
        return sum_x, sum_y

    def move(self, robot, change):
        """One action of a robot: ten substeps of 0.05 s."""
        s = self.s
        for substep in range(s.substeps):
            flow_x, flow_y = self.current(robot.x, robot.y)
            robot.vx, robot.vy, robot.ground_yaw = robot.vx_r + flow_x, robot.vy_r + flow_y, robot.yaw
            robot.x += robot.vx * s.dt
            robot.y += robot.vy * s.dt
            robot.theta = (robot.theta + robot.yaw * s.dt) % TURN
            if substep == 0:
                period = s.dt * s.substeps
                robot.left = min(max(robot.left + change[0] * period, s.min_thrust), s.max_thrust)
                robot.right = min(max(robot.right + change[1] * period, s.min_thrust), s.max_thrust)
            self.accelerate(robot)

    def accelerate(self, robot):
        """The forces of one substep, in the robot's frame."""
        s = self.s
        u, v = to_frame(robot.vx, robot.vy, robot.theta)
        u_r, v_r = to_frame(robot.vx_r, robot.vy_r, robot.theta)
        r = robot.yaw
        rigid = (-s.m * r * v, s.m * r * u, 0.0)
        added = (-s.yDotV * v_r * r, -s.xDotU * u_r * r, (s.xDotU - s.yDotV) * u_r * v_r)
        drag = (-(s.xU + s.xUU * abs(u_r)) * u_r, -(s.yV + s.yVV * abs(v_r)) * v_r, -(s.nR + s.nRR * abs(r)) * r)
        tau = (robot.left + robot.right, 0.0, (robot.left - robot.right) * s.breadth / 2)
        mass = (s.m - s.xDotU, s.m - s.yDotV, s.Izz - s.nDotR)
        force = [tau[i] - rigid[i] - added[i] - drag[i] for i in range(3)]
        u_r, v_r, robot.yaw = (old + s.dt * force[i] / mass[i] for i, old in enumerate((u_r, v_r, r)))
        robot.vx_r, robot.vy_r = to_frame(u_r, v_r, -robot.theta)

    def perceive(self, draws=None):
        """What each active robot sees; draws[i][j] are robot i's of object j, obstacles first."""
        for i, robot in enumerate(self.robots):
            robot.objects, robot.detected = [], 0
            if robot.deactivated:
                continue
            for j, other in enumerate([*self.obstacles, *self.robots]):
                if other is robot or getattr(other, "deactivated", False):
                    continue
                noise = (0.0,) * 5 if draws is None else draws[i][j]
                self.look_at(robot, other, noise)
            robot.objects.sort(key=lambda one: math.hypot(one[0], one[1]) - one[4] - robot.r)
            robot.objects = robot.objects[:self.s.max_obj_num]
            if robot.distance() <= self.s.goal_dis:
                robot.reach_goal = True

    def look_at(self, robot, other, noise):
        dx, dy = other.x - robot.x, other.y - robot.y
        x, y = to_frame(dx + noise[0], dy + noise[1], robot.theta)
        vx, vy = to_frame(other.vx + noise[2], other.vy + noise[3], robot.theta)
        radius = self.s.r_mean_ratio * other.r + (1 - self.s.r_mean_ratio) * other.r * noise[4] / math.pi
        if math.hypot(x, y) > self.s.detection_range + radius:
            return
        robot.detected += 1
        robot.objects.append([x, y, vx, vy, radius])
        if math.hypot(dx, dy) - other.r - robot.r <= 0:
            robot.collision = True

    def own(self, robot):
        goal = to_frame(robot.goal[0] - robot.x, robot.goal[1] - robot.y, robot.theta)
        speed = to_frame(robot.vx, robot.vy, robot.theta)
        return [*goal, *speed, robot.ground_yaw, robot.left, robot.right]

    def step(self, changes, draws=None):
        """Move all, then look; returns (reward, info, phi) of each robot."""
        before = [robot.distance() for robot in self.robots]
        acted = [not robot.deactivated for robot in self.robots]
        for robot, change in zip(self.robots, changes, strict=True):
            if not robot.deactivated:
                self.move(robot, change)
        self.perceive(draws)
        found = [self.judge(robot, old) if one else (0.0, "deactivated after collision" if robot.collision else
                                                     "deactivated after reaching goal", 0.0)
                 for robot, old, one in zip(self.robots, before, acted, strict=True)]
        for robot in self.robots:
            robot.deactivated = robot.deactivated or robot.collision or robot.reach_goal
        self.steps += 1
        return found

    def judge(self, robot, before):
        phi = self.rule_angle(robot)
        reward = self.s.timestep_penalty + before - robot.distance() + self.s.COLREGs_penalty * phi
        if self.steps >= self.s.max_steps:
            return reward, "too long episode", phi
        if robot.collision:
            return reward + self.s.collision_penalty, "collision", phi
        if robot.reach_goal:
            return reward + self.s.goal_reward, "reach goal", phi
        return reward, "normal", phi

    def rule_angle(self, robot):
        """The angle of the first object in a zone whose angle is positive."""
        u, v = self.own(robot)[2:4]
        if math.hypot(u, v) < 0.5:
            return 0.0
        for x, y, vx, vy, radius in robot.objects:
            if math.hypot(vx, vy) < 0.5 or not in_zone(x, y, vx, vy, u, v):
                continue
            phi = tangent_angle(x, y, radius, robot.r, u, v)
            if phi > 0:
                return phi
        return 0.0


def in_zone(x, y, vx, vy, u, v):
    """Whether the ego at the origin is in a zone of an object at x, y, seen in the object's frame."""
    heading = math.atan2(vy, vx)
    px, py = to_frame(-x, -y, heading)
    angle = math.atan2(*reversed(to_frame(u, v, heading)))
    if 0 <= px <= 17 and abs(py) <= 4.5 and abs(angle) > 3 * math.pi / 4:
        return True
    beyond = py + 7 > -(7 / 12) * (px - 12)
    return (-9 <= px <= 12 and -17 <= py <= 0 and not beyond and math.pi / 4 <= angle <= 3 * math.pi / 4)


def tangent_angle(x, y, radius, own_radius, u, v):
    d, edge = math.hypot(x, y), radius + 1
    if d < edge:
        return 0.0
    passing = math.atan2(y, x) + math.asin(edge / d) + math.atan2(own_radius, math.sqrt(d * d - edge * edge))
    return wrap(wrap(passing) - math.atan2(v, u))


def wrap(angle):
    return (angle + math.pi) % TURN - math.pi


def to_frame(x, y, theta):
    """A vector of the world in a frame turned by theta."""
    return math.cos(theta) * x + math.sin(theta) * y, -math.sin(theta) * x + math.cos(theta) * y
