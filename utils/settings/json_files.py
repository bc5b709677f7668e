"""JSON files of settings, flat or in sections.

A JSON file may group them, `{"policy": {"pi_lr": 1e-4}}`, or name them flat, or do both.

Which setting belongs where follows from its group in `--help`. `env` is a setting, too: where a file says
`"env": "Ant-v4"` it is that one, where it says `"env": {...}` it is the section, in which the setting is called `env`
as everywhere.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from utils.errors import ConfigError
from utils.files import read_file
from utils.settings.fields import FIELDS
from utils.settings.resolve import coerce
from utils.text import did_you_mean, shown

MOST_BYTES = 2**20                              # of a settings file; a real one has two thousand


def read_json(path: str | Path) -> dict[str, Any]:
    """The settings in a JSON file by name, which may stand there in sections; see `flatten`."""
    settings = flatten(read_object(path))
    for name, value in settings.items():
        if value is not None:
            coerce(name, value)                 # a wrong value is wrong even where a flag wins
    return settings


def read_object(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file, which names nothing twice.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        data = read_file(path, MOST_BYTES)
    except (OSError, ValueError) as error:              # ValueError: a null character in the name
        raise ConfigError(f"config: cannot read {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None
    try:
        settings = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_no_duplicates)
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:       # not UTF-8, not JSON, a number of thousands of digits
        raise ConfigError(f"config: {str(path)!r} is not JSON: {error}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"config: {str(path)!r} holds a {type(settings).__name__}, expected an object of settings")
    return settings


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, times in Counter(name for name, _ in pairs).items():
        if times > 1:
            raise ConfigError(f"{shown(name)}: stands {times} times in the config file")
    return dict(pairs)


SCHEMA = "$schema"              # for editors; read by nobody here
_SECTION_OF_GROUP = {"run": "runtime", "environment and evaluation": "env", "Atari": "env", "learning": "algorithm",
                     "algorithm": "algorithm", "policy and critics": "policy",
                     "networks and optimisers": "policy"}


def section_of(name: str) -> str:
    """The section that a setting belongs to."""
    if name in ("alg", "basis_alg"):                    # in --help they are among the first
        return "algorithm"
    return _SECTION_OF_GROUP[FIELDS[name].metadata["section"].partition(" (")[0]]


SECTIONS = {section: [name for name in FIELDS if section_of(name) == section]
            for section in ("runtime", "env", "policy", "algorithm")}


def flatten(data: dict[str, Any]) -> dict[str, Any]:
    """The settings by name that a file holds, in sections or not.

    Raises:
        ConfigError: a name is unknown, stands in the wrong section, or twice.
    """
    settings: dict[str, Any] = {}
    for key, value in data.items():
        if key == SCHEMA:
            continue
        section = key if key in SECTIONS and (isinstance(value, dict) or key not in FIELDS) else None
        found = _settings_in(section, value) if section else {_known(key): value}
        for name in found:
            if name in settings:
                raise ConfigError(f"{name}: stands 2 times in the config file, once in a section")
        settings |= found
    return settings


def _settings_in(section: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ConfigError(f"{section}: got {values!r}, expected an object of settings, for it is a section")
    for name in values:
        place = f"{section}.{shown(name)}"
        if name not in FIELDS:
            hint = "; did you mean env?" if (section, name) == ("env", "id") else did_you_mean(name, FIELDS)
            raise ConfigError(f"{place}: unknown setting{hint}")
        if section_of(name) != section:
            raise ConfigError(f"{place}: not a setting of this section; it belongs to {section_of(name)}")
    return values


def _known(name: str) -> str:
    if name not in FIELDS:
        raise ConfigError(f"{shown(name)}: unknown setting{did_you_mean(name, [*FIELDS, *SECTIONS])}")
    return name
