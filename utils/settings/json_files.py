"""JSON files of settings, flat or in sections.

A JSON file may group settings, `{"policy": {"pi_lr": 1e-4}}`, or name them flat, or do both.

The section of a setting is that of its group (`utils.settings.setting.GROUPS`). `env` is a setting and a section:
`"env": "Ant-v4"` is the setting, `"env": {...}` the section, in which the setting is called `env` as well.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from utils.errors import ConfigError
from utils.files import read_file
from utils.settings import marinenav_form
from utils.settings.algorithms import bases, names
from utils.settings.fields import all_settings
from utils.settings.forms import is_published, path_of, translated
from utils.settings.resolve import coerce, unknown_algorithm, unknown_setting
from utils.text import shown

MOST_BYTES = 2**20                              # of a settings file; a real one has two thousand
SCHEMA = "$schema"              # for editors; the programs skip it
NO_FORM = "agent_type: read with a file of the form of MarineNav's trainer alone; expected --alg"
SECTIONS = ("runtime", "env", "policy", "algorithm")


def read_json(path: str | Path, note: Callable[[str], Any] = lambda line: None,
              given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings in a JSON file by name, flat, in sections (see `flatten`) or in EmbodiChain's or MarineNav's form.

    Args:
        note: called with a line for what a file of another form says and that is not used.
        given: values by the published names of MarineNav's form, which win over a file of it.
    """
    data = read_object(path)
    if is_suite(data):
        command = shlex.join(["python", "sweep.py", str(path)])
        raise ConfigError(f"config: {str(path)!r} is a suite of runs; `{command}` runs it")
    settings = _translated(data, path, note, given or {})
    for name, value in settings.items():
        if value is not None:
            coerce(name, value)                 # a wrong value is wrong even where a flag wins
    return settings


def _translated(data: dict[str, Any], path: str | Path, note: Callable[[str], Any], given: Mapping[str, Any],
                ) -> dict[str, Any]:
    """The settings of a file, by the form that it is in."""
    if marinenav_form.is_published(data):
        return marinenav_form.translated(data, given, note)
    if "agent_type" in given:
        raise ConfigError(NO_FORM)
    if is_published(data):
        return translated(data, lambda other: read_object(path_of(other, path)), note)
    return flatten(data)


def is_suite(data: dict[str, Any]) -> bool:
    """Whether the object of a file is a suite of sweep.py."""
    return isinstance(data.get("runs"), dict) and "runs" not in all_settings()


def read_object(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file, in which no key occurs twice.

    Raises:
        ConfigError: the file cannot be read, or holds no such object.
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
            raise ConfigError(f"{shown(name)}: got {times} values in the file, expected one")
    return dict(pairs)


def section_of(name: str) -> str:
    """The section that a setting belongs to."""
    return all_settings()[name].group.section


def settings_of(section: str) -> list[str]:
    """The names of the settings in a section."""
    return [name for name, setting in all_settings().items() if setting.group.section == section]


def flatten(data: dict[str, Any]) -> dict[str, Any]:
    """The settings by name in the object of a file, in sections or not.

    Raises:
        ConfigError: a name is unknown, in the wrong section, or given twice.
    """
    known, settings = all_settings(), {}
    for key, value in data.items():
        if key == SCHEMA:
            continue
        section = key if key in SECTIONS and (isinstance(value, dict) or key not in known) else None
        if section is None and key not in known:
            raise _unknown(shown(key), key, [*known, *SECTIONS], data)
        found = _settings_in(section, value, data) if section else {key: value}
        for name in found:
            if name in settings:
                raise ConfigError(f"{name}: got 2 values in the file, one in a section, expected one")
        settings |= found
    return settings


def _settings_in(section: str, values: Any, data: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ConfigError(f"{section}: got {values!r}, expected an object of settings, because it is a section")
    known = all_settings()
    for name in values:
        place = f"{section}.{shown(name)}"
        if name not in known:
            raise _unknown(place, name, known, data)
        if section_of(name) != section:
            raise ConfigError(f"{place}: not a setting of this section; it belongs to {section_of(name)}")
    return values


def _unknown(place: str, name: str, known: Iterable[str], data: dict[str, Any]) -> ConfigError:
    """The error of an unknown setting; if the file's algorithm is unknown as well, that is the cause."""
    section = data.get("algorithm")
    chosen = data | (section if isinstance(section, dict) else {})
    for field, allowed in (("alg", names()), ("basis_alg", bases())):
        if isinstance(chosen.get(field), str) and chosen[field] not in allowed:
            return unknown_algorithm(field, chosen[field], allowed)
    return unknown_setting(place, name, known)
