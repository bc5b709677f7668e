"""Settings of a registered algorithm: what is allowed, and which names are taken."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from utils.errors import ConfigError
from utils.settings.algorithms import ALGORITHMS
from utils.settings.fields import FIELDS, Config
from utils.settings.json_files import SECTIONS
from utils.settings.setting import GROUPS, Setting
from utils.settings.values import KINDS
from utils.text import one_line

# Flags that are no settings, and attributes that `create_agent` reads.
RESERVED = ("config", "resume", "import", "modules", "completion", "help", "cuda", "use_pytorch", *SECTIONS)
EXAMPLE = 'Setting("temperature_decay", float, 0.99, low=0, high=1, help="...")'


def checked_settings(algorithm: str, settings: Iterable[Setting], inherited: Mapping[str, Any]) -> list[Setting]:
    """The settings of an algorithm, with their defaults in their types.

    Args:
        algorithm: its name; registering it again may bring the same settings again.
        inherited: the defaults of the algorithm that it is like.
    Raises:
        ConfigError: a name is taken, or a type, default, range or help is missing or wrong.
    """
    if isinstance(settings, Setting) or not isinstance(settings, Iterable):
        raise ConfigError(f"settings: got {settings!r}, expected a list, such as [{EXAMPLE}]")
    checked: list[Setting] = []
    for one in settings:
        if not isinstance(one, Setting):
            raise ConfigError(f"settings: got {one!r}, expected {EXAMPLE}")
        _check_name(algorithm, one.name, [*inherited, *(other.name for other in checked)])
        checked.append(_checked(one))
    return checked


def _check_name(algorithm: str, name: Any, taken: Iterable[str]) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigError(f"settings: got the name {name!r}, expected a word of letters, digits and underscores")
    if name in FIELDS or name in RESERVED or hasattr(Config, name):
        raise ConfigError(f"settings: {name!r} is the name of a built-in setting, flag or section; expected another")
    others = [alg for alg, one in ALGORITHMS.items()
              if alg != algorithm and name in [own.name for own in one.settings]]
    if others:
        raise ConfigError(f"settings: {name!r} is a setting of {others[0]}; expected another name, or "
                          f"like={others[0]!r}")
    if name in taken:
        raise ConfigError(f"settings: {name!r} is named twice, expected each name once")


def _checked(one: Setting) -> Setting:
    _check_kind(one)
    if one.default is None:
        raise ConfigError(f"{one.name}: got no default, expected one, such as {EXAMPLE}")
    return replace(one, default=one.checked(one.default), help=one_line(one.help),
                   choices=None if one.choices is None else tuple(one.choices))


def _check_kind(one: Setting) -> None:
    types = [kind for kind in KINDS if not isinstance(kind, str) and kind is not dict]
    if one.type not in types:
        raise ConfigError(f"{one.name}: got the type {one.type!r}, expected int, float, bool, str or tuple[int, ...]")
    if not isinstance(one.help, str) or not one.help.strip():
        raise ConfigError(f"{one.name}: got no help, expected one sentence: help=\"...\"")
    if one.belongs not in GROUPS or not one.group.per_algorithm:
        some = ", ".join(name for name, group in GROUPS.items() if group.per_algorithm)
        raise ConfigError(f"{one.name}: got belongs={one.belongs!r}, expected one of {some}")
    _check_limits(one)


def _check_limits(one: Setting) -> None:
    limits = {"low": one.low, "high": one.high, "above": one.above}
    given = {name: value for name, value in limits.items() if value is not None}
    if given and one.type in (bool, str):
        raise ConfigError(f"{one.name}: got {', '.join(given)} for a {one.type.__name__}, expected no range")
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{one.name}: got {name}={value!r}, expected a number")
    if one.choices is not None and (one.type is not str or isinstance(one.choices, str) or not one.choices
                                    or not all(isinstance(word, str) and word for word in one.choices)):
        raise ConfigError(f"{one.name}: got choices={one.choices!r}, expected words, for a setting of the type str")
