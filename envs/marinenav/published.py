"""The published form of frozen worlds, `eval_configs.json`: a list of worlds, each with every constant of each robot.

Robots of different constants, and constants that this world has not, are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from envs.marinenav import world
from envs.marinenav.layout import Layout, signed
from envs.marinenav.settings import Settings

# Published name -> our setting.
ENV = {"width": "width", "height": "height", "r": "core_r", "v_rel_max": "v_rel_max", "p": "p", "v_range": "v_range",
       "obs_r_range": "obs_r_range", "clear_r": "clear_r", "timestep_penalty": "timestep_penalty",
       "COLREGs_penalty": "COLREGs_penalty", "collision_penalty": "collision_penalty", "goal_reward": "goal_reward"}
ROBOT = {"dt": "dt", "N": "substeps", "length": "length", "width": "breadth", "goal_dis": "goal_dis",
         "min_thrust": "min_thrust", "max_thrust": "max_thrust", "left_thrust_change": "thrust_change",
         **{name: name for name in ("m", "Izz", "xDotU", "yDotV", "nDotR", "xU", "xUU", "yV", "yVV", "nR", "nRR")}}
PERCEPTION = {"range": "detection_range", "max_obj_num": "max_obj_num", "pos_std": "pos_std", "vel_std": "vel_std",
              "r_kappa": "r_kappa", "r_mean_ratio": "r_mean_ratio"}
# What this world has not, and the only value it may have.
FIXED = {"power_coefficient": 1.0, "init_left_pos": 0.0, "init_right_pos": 0.0,
         **dict.fromkeys(("yDotR", "nDotV", "yR", "yRV", "yVR", "yRR", "nV", "nVV", "nRV", "nVR"), 0.0)}
UNUSED = {"angular_speed_max": math.pi / 2, "angular_speed_penalty": -1.0}


def read_world(content: Mapping[str, Any]) -> tuple[Layout, dict[str, Any]]:
    """Return one world, and the settings that it says.

    Raises:
        KeyError, TypeError, ValueError: it is not of this form.
    """
    env, robots = content["env"], content["robots"]
    count = env["num_robots"]
    if type(count) is not int or count < 1:
        raise ValueError(f"num_robots: got {count!r}, expected an integer above 0")
    given = {ours: env[name] for name, ours in ENV.items() if name in env}
    given |= {ours: _common(robots, name, count) for name, ours in ROBOT.items() if name in robots}
    sensor = robots.get("perception", {})
    given |= {ours: _common(sensor, name, count) for name, ours in PERCEPTION.items() if name in sensor}
    _refuse_others(robots, sensor, given, count)
    cores, obstacles = env["cores"], env["obstacles"]
    gamma = cores["Gamma"]
    columns = {name: robots[key][:count] for name, key in
               (("start", "start"), ("goal", "goal"), ("theta", "init_theta"), ("velocity_r", "init_velocity_r"))}
    thrust = list(zip(robots["init_left_thrust"][:count], robots["init_right_thrust"][:count], strict=True))
    return build(**columns, thrust=thrust, cores=cores["positions"],
                 strength=signed(numbers(gamma, len(gamma)), numbers(cores["clockwise"], len(gamma))),
                 obstacles=obstacles["positions"], radius=obstacles["r"], robots=count), given


def _common(robots: Mapping[str, Any], name: str, count: int) -> Any:
    values = robots[name][:count]
    if len(values) < count:
        raise ValueError(f"{name}: got {len(values)} values, expected one for each of {count} robots")
    if any(value != values[0] for value in values):
        raise ValueError(f"{name}: got {values}, expected the same for all robots")
    return values[0]


def _refuse_others(robots: Mapping[str, Any], sensor: Mapping[str, Any], given: Mapping[str, Any], count: int) -> None:
    """Refuse what the settings cannot say."""
    known = Settings()
    radius = 0.5 * math.hypot(given.get("length", known.length), given.get("breadth", known.breadth))
    expected = FIXED | {"r": radius, "detect_r": radius}
    for name in expected.keys() & robots.keys():
        if not math.isclose(_common(robots, name, count), expected[name], rel_tol=1e-6, abs_tol=1e-12):
            raise ValueError(f"{name}: got {_common(robots, name, count)}, expected {expected[name]:g}")
    if "angle" in sensor and _common(sensor, "angle", count) < 2 * math.pi - 1e-6:
        raise ValueError(f"angle: got {_common(sensor, 'angle', count)}, expected 2 pi: robots look all around")
    if "right_thrust_change" in robots and _common(robots, "right_thrust_change", count) != given.get("thrust_change"):
        raise ValueError("right_thrust_change: got other values than left_thrust_change, expected the same")


def numbers(values: Any, *shape: int) -> Tensor:
    """Return finite numbers of this shape in float64; an empty list has any shape of size 0.

    Raises:
        ValueError: they are not.
    """
    tensor = torch.tensor(values, dtype=torch.float64)
    if not tensor.numel() and 0 in shape:
        return tensor.new_zeros(shape)
    if tensor.shape != shape or not tensor.isfinite().all():
        raise ValueError(f"got numbers of shape {list(tensor.shape)}, expected finite ones of shape {list(shape)}")
    return tensor


def build(*, start: Sequence, goal: Sequence, theta: Sequence, velocity_r: Sequence, thrust: Sequence, cores: Sequence,
          strength: Tensor, obstacles: Sequence, radius: Sequence, robots: int | None = None) -> Layout:
    """Return the layout of one world, in float64.

    Raises:
        ValueError: the lists do not fit each other.
    """
    r, c, o = len(start) if robots is None else robots, len(strength), len(radius)
    yes = torch.ones(max(r, o), dtype=torch.bool)
    one = Layout(start=numbers(start, r, 2), goal=numbers(goal, r, 2), start_theta=numbers(theta, r),
                 start_velocity_r=numbers(velocity_r, r, 3), start_thrust=numbers(thrust, r, 2), robot_exists=yes[:r],
                 cores=numbers(cores, c, 2), strength=strength, obstacles=numbers(obstacles, o, 2),
                 obstacle_radius=numbers(radius, o), obstacle_exists=yes[:o])
    return Layout(**{name: value.unsqueeze(0) for name, value in one.tensors().items()})


def world_content(layout: Layout, settings: Settings, seed: int) -> dict[str, Any]:
    """Return one world in the published form; its first observations are those without noise."""
    robots = layout.robot_exists[0]
    there, stones = layout.strength[0] != 0, layout.obstacle_exists[0]
    env = {"seed": seed, "is_eval_env": True} | {name: _plain(getattr(settings, ours)) for name, ours in ENV.items()}
    env |= UNUSED | {"num_robots": int(robots.sum())}
    env["cores"] = {"positions": layout.cores[0][there].tolist(),
                    "clockwise": (layout.strength[0][there] > 0).int().tolist(),
                    "Gamma": layout.strength[0][there].abs().tolist()}
    env["obstacles"] = {"positions": layout.obstacles[0][stones].tolist(),
                        "r": layout.obstacle_radius[0][stones].tolist()}
    return {"env": env, "robots": _robots_content(layout, robots, settings)}


def _robots_content(layout: Layout, robots: Tensor, settings: Settings) -> dict[str, Any]:
    count = int(robots.sum())

    def each(values: Mapping[str, Any]) -> dict[str, list]:
        return {name: [_plain(value)] * count for name, value in values.items()}
    content = each({name: getattr(settings, ours) for name, ours in ROBOT.items()} | FIXED)
    content |= each({"r": settings.robot_r, "detect_r": settings.robot_r,
                     "right_thrust_change": settings.thrust_change})
    content["perception"] = each({name: getattr(settings, ours) for name, ours in PERCEPTION.items()}
                                 | {"angle": 2 * math.pi})
    for name, value in (("start", layout.start), ("goal", layout.goal), ("init_theta", layout.start_theta),
                        ("init_velocity_r", layout.start_velocity_r), ("init_left_thrust", layout.start_thrust[..., 0]),
                        ("init_right_thrust", layout.start_thrust[..., 1])):
        content[name] = value[0][robots].tolist()
    return content | _histories(layout, robots, settings)


def _histories(layout: Layout, robots: Tensor, settings: Settings) -> dict[str, list]:
    state, view = world.observe(world.begin(layout, settings, with_current=False), layout, None, settings)
    observed = [[[own.tolist(), objects[seen].tolist()]] for own, objects, seen in
                zip(view.own[0][robots], view.sight.objects[0][robots], view.sight.seen[0][robots], strict=True)]
    still = torch.zeros_like(state.thrust)
    path = torch.cat([state.pose, state.velocity_r, state.velocity, still, state.thrust], -1)[0][robots]
    return {"observation_history": observed, "action_history": [[] for _ in observed],
            "trajectory": path.unsqueeze(1).tolist()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
