"""Files of frozen worlds: the published `eval_configs.json`, and a form of ours that says each thing once.

Ours is one object:

    {"format": "marinenav-worlds-1", "settings": {NAME: value}, "worlds": [
        {"robots": [{"start": [x, y], "goal": [x, y], "theta": 0, "velocity_r": [0, 0, 0], "thrust": [0, 0]}],
         "cores": [{"position": [x, y], "clockwise": true, "circulation": 9.42}],
         "obstacles": [{"position": [x, y], "radius": 1}]}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from envs.marinenav import published
from envs.marinenav.layout import Layout, joined, signed
from envs.marinenav.settings import DEFAULTS, LIMITS, Settings
from envs.task_settings import checked
from utils.errors import ConfigError
from utils.files import read_file, write_file
from utils.text import one_line

FORMAT = "marinenav-worlds-1"
LARGEST = 2 ** 28           # bytes of a file
UNSAID = ("worlds", "discrete", "noise", "max_steps", "num_robots", "num_cores", "num_obstacles")


def read_worlds(path: str | Path) -> tuple[Layout, dict[str, Any]]:
    """Return the worlds of a file of either form, in float64, and the settings that it holds.

    `num_robots`, `num_cores` and `num_obstacles` are the largest of its worlds.

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    try:
        content = json.loads(read_file(path, LARGEST).decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"worlds: cannot read {str(path)!r}: {error.strerror or one_line(error)}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"worlds: {str(path)!r} is not JSON: {one_line(error)}") from None
    ours = isinstance(content, Mapping) and content.get("format") == FORMAT
    if not ours and not isinstance(content, list):
        raise ConfigError(f"worlds: {str(path)!r} holds neither a list, as the published eval_configs.json, nor "
                          f"an object with format {FORMAT!r}")
    worlds = content.get("worlds") if ours else content
    if not isinstance(worlds, list) or not worlds:
        raise ConfigError(f"worlds: {str(path)!r} holds no worlds, expected a list of at least one")
    read = (lambda world: (_layout_of(world), content.get("settings", {}))) if ours else published.read_world
    layout, given = _joined([_numbered(number, read, world) for number, world in enumerate(worlds, 1)])
    return layout, checked("MarineNav", DEFAULTS, LIMITS, given) | dict(
        zip(("num_robots", "num_cores", "num_obstacles"), layout.sizes(), strict=True))


def _numbered(number: int, read: Any, world: Any) -> tuple[Layout, dict[str, Any]]:
    """Read one world; the message of an error says which."""
    try:
        return read(world)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
        missing = isinstance(error, KeyError)
        raise ConfigError(f"worlds: world {number}: "
                          f"{'missing ' if missing else ''}{one_line(error)}".removesuffix(".")) from None


def _joined(worlds: list[tuple[Layout, dict[str, Any]]]) -> tuple[Layout, dict[str, Any]]:
    first = worlds[0][1]
    for number, (_, given) in enumerate(worlds, 1):
        for name in first:
            if given.get(name) != first[name]:
                raise ConfigError(f"worlds: world {number} has {name} {given.get(name)}, world 1 has {first[name]}; "
                                  "expected the same in all worlds")
    return joined([layout for layout, _ in worlds]), first


def _layout_of(world: Mapping[str, Any]) -> Layout:
    robots, cores, obstacles = (list(world[kind]) for kind in ("robots", "cores", "obstacles"))
    strength = signed(published.numbers([one["circulation"] for one in cores], len(cores)),
                      published.numbers([one["clockwise"] for one in cores], len(cores)))
    columns = {name: [one[name] for one in robots] for name in ("start", "goal", "theta", "velocity_r", "thrust")}
    return published.build(**columns, cores=[one["position"] for one in cores], strength=strength,
                           obstacles=[one["position"] for one in obstacles],
                           radius=[one["radius"] for one in obstacles])


def write_worlds(path: str | Path, layout: Layout, settings: Settings, as_published: bool = False, seed: int = 0,
                 ) -> None:
    """Write worlds to a file of our form, or of the published one.

    Args:
        seed: what the published form says of it.
    """
    layout = layout.to(torch.float64, "cpu")
    worlds = [layout.take(torch.tensor([world])) for world in range(len(layout.start))]
    if as_published:
        content: Any = [published.world_content(world, settings, seed) for world in worlds]
    else:
        given = {name: value for name, value in vars(settings).items() if name not in UNSAID}
        content = {"format": FORMAT, "settings": given, "worlds": [_content(world) for world in worlds]}
    write_file(Path(path), json.dumps(content).encode())


def _content(world: Layout) -> dict[str, Any]:
    there, robots = world.strength[0] != 0, world.robot_exists[0]
    columns = {"start": world.start, "goal": world.goal, "theta": world.start_theta,
               "velocity_r": world.start_velocity_r, "thrust": world.start_thrust}
    cores = {"position": world.cores[0][there], "clockwise": world.strength[0][there] > 0,
             "circulation": world.strength[0][there].abs()}
    obstacles = {"position": world.obstacles[0][world.obstacle_exists[0]],
                 "radius": world.obstacle_radius[0][world.obstacle_exists[0]]}
    return {"robots": _rows({name: value[0][robots] for name, value in columns.items()}), "cores": _rows(cores),
            "obstacles": _rows(obstacles)}


def _rows(columns: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
    values = [column.tolist() for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
