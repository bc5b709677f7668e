"""The evaluations of a run as the published program keeps them: object arrays of lists, for its own viewer.

`evaluations.npz` and `trajectories/` of a run, see `docs/marinenav.md`, hold all of it but what the robots observed;
that is computed again from the places, without noise.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.marinenav import world
from envs.marinenav.files import read_worlds
from envs.marinenav.layout import ROBOTS, Layout
from envs.marinenav.settings import DEFAULTS, Settings
from utils.errors import CheckpointError
from utils.files import read_file

COLUMNS = ("rewards", "successes", "times", "energies")
LARGEST = 2**31


def published_evaluations(run: Path) -> dict[str, np.ndarray]:
    """Return the published arrays: `timesteps` [n], and by evaluation and world, [n, W], the others.

    `observations`, per robot: at its start and after each of its steps [own numbers, list of objects], later
    [None, None]; `actions` per robot, of its own steps; `trajectories` per robot, its start and its own steps, 13
    numbers each; `rewards`, `successes`, `times`, `energies`; `relations`, empty.

    Raises:
        CheckpointError: a file is missing or damaged.
        ConfigError: `eval_configs.json` is.
    """
    layout, given = read_worlds(run / "eval_configs.json")
    rules = Settings(**DEFAULTS | given)
    table = _arrays(run / "evaluations.npz")
    found: dict[str, Any] = {"timesteps": table["timesteps"], **{name: table[name] for name in COLUMNS}}
    shape = table["rewards"].shape
    lists = {name: np.empty(shape, object) for name in ("observations", "actions", "trajectories", "relations")}
    for n, steps in enumerate(table["timesteps"].tolist()):
        played = _arrays(run / "trajectories" / f"{steps}.npz")
        for w, (paths, acts) in enumerate(_worlds(played)):
            lists["actions"][n, w] = [one.tolist() for one in acts]
            lists["trajectories"][n, w] = [one.tolist() for one in paths]
            lists["observations"][n, w] = observations(layout.take(torch.tensor([w])), rules, paths)
            lists["relations"][n, w] = []
    return found | lists


def _worlds(played: dict[str, np.ndarray]) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Yield the places and the actions of the robots of each world."""
    first = start = 0
    for counts in played["steps"].tolist():
        paths, acts = [], []
        for count in (one for one in counts if one >= 0):
            paths.append(played["trajectories"][first:first + count + 1])
            acts.append(played["actions"][start:start + count])
            first, start = first + count + 1, start + count
        yield paths, acts


def observations(layout: Layout, rules: Settings, paths: Sequence[np.ndarray]) -> list[list[list[Any]]]:
    """Return what each robot of one world observed, without noise.

    Args:
        layout: of the one world, in float64.
        paths: per robot, its start and each of its own steps, (steps + 1, 13).
    """
    robots, times = len(paths), max(map(len, paths))
    held = [np.concatenate([path, np.repeat(path[-1:], times - len(path), 0)]) for path in paths]
    state = _state(torch.from_numpy(np.stack(held, 1)).double(), [len(path) for path in paths])
    once = Layout(**{name: tensor.expand(times, *tensor.shape[1:]) for name, tensor in layout.tensors().items()})
    places = {name: getattr(once, name)[:, :robots] for name in ROBOTS}
    _, view = world.observe(state, Layout(**once.tensors() | places), None, rules)
    own, objects, seen = view.own.tolist(), view.sight.objects, view.sight.seen
    return [[[own[t][r], objects[t, r][seen[t, r]].tolist()] if t < len(paths[r]) else [None, None]
             for t in range(times)] for r in range(robots)]


def _state(path: Tensor, lengths: list[int]) -> world.State:
    """The world at each time as one of many worlds; path: (times, robots, 13)."""
    still = torch.arange(len(path))[:, None] < torch.tensor(lengths)                            # takes part
    no = torch.zeros_like(still)
    return world.State(pose=path[..., :3], velocity_r=path[..., 3:6], velocity=path[..., 6:9], thrust=path[..., 11:],
                       collision=no, reach_goal=no, active=still, steps=torch.arange(len(path)))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(read_file(path, LARGEST)), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: damaged ({type(error).__name__}), expected an .npz of a run") from None
