"""A grid of trials: a file in the form of MarineNav's trainer in which values are lists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from utils.errors import ConfigError
from utils.settings.arena_flags import split
from utils.settings.cli import CONFIG_FLAGS, WORDS, flags_of, given_words
from utils.settings.imports import import_modules, named_modules
from utils.settings.json_files import read_object
from utils.settings.marinenav_form import expand, is_published, training_time, translated
from utils.settings.resolve import coerce

NO_NAME = ("seed", "save_dir")          # axes that the directories' names say anyway


class Grid(NamedTuple):
    """The settings of each trial by its name, modules that each imports first, and how many run at a time."""

    trials: dict[str, dict[str, Any]]
    modules: list[str]
    jobs: int


def read_grid(argv: Sequence[str]) -> Grid | None:
    """Return the grid that a command line of train.py names; None if it names one run, or none.

    All trials have one time in the names of their directories; what else they differ in is part of the names.

    Raises:
        ConfigError: a flag or the file is wrong, or two trials are the same.
    """
    if not any(word.partition("=")[0] in CONFIG_FLAGS or word.startswith("-C") for word in argv):
        return None
    modules = named_modules(argv)
    import_modules(modules)
    flags = flags_of(split(argv)[1])
    data = read_object(flags["config"]) if "resume" not in flags else {}
    if not is_published(data):
        return None
    trials = expand({**data, **given_words(flags)})
    if len(trials) == 1:
        return None
    others = {name: coerce(name, text) for name, text in flags.items() if name not in ("config", "seed", *WORDS)}
    if others.keys() & {"seeds", "run_dir"}:
        raise ConfigError("seeds, run_dir: not read with a grid, which has seeds and directories of its own; expected "
                          '"seed": [0, 1] and save_dir in the file')
    axes = [name for name in trials[0] if any(trial[name] != trials[0][name] for trial in trials)]
    now, found = training_time(), {}
    for trial in trials:
        name = ", ".join(f"{axis} {trial[axis]}" for axis in axes)
        if name in found:
            raise ConfigError(f"config: got two equal trials, {name or 'all of them'}; expected values that differ")
        found[name] = translated(trial, {}, lambda line: None, now, _suffix(trial, axes)) | others
    return Grid(found, modules, int(flags.get("num_procs", 1)))


def _suffix(trial: dict[str, Any], axes: list[str]) -> str:
    parts = [f"_{axis}={trial[axis]}" for axis in axes if axis not in NO_NAME]
    return re.sub(r"[^\w.+=-]+", "_", "".join(parts))
