"""The JSON schema of a file of settings, with which editors complete and check it.

    python -m utils.settings.schema > configs/schema.json
    python -m utils.settings.schema --import=my_module > my_schema.json

With `--import` the schema also has the algorithms that the module registers, and their settings. A file names its
schema in the key "$schema", which the programs skip.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

from utils.display import say
from utils.errors import ConfigError
from utils.settings.algorithms import defaults_of
from utils.settings.fields import all_settings
from utils.settings.imports import import_modules, split_modules
from utils.settings.json_files import SCHEMA, SECTIONS, settings_of
from utils.settings.kernels import PATTERN
from utils.settings.resolve import choices_of
from utils.settings.setting import Setting
from utils.settings.values import DEVICE, MOST_NUMBERS, MOST_SEEDS

# Text of a list of integers, by whether each is at least 1.
INTEGERS = {False: r"^ *[+-]?[0-9]+ *(, *[+-]?[0-9]+ *)*$", True: r"^ *0*[1-9][0-9]* *(, *0*[1-9][0-9]* *)*$"}
PATTERNS = {"device": DEVICE, "kernels": PATTERN}           # by the setting's form
TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}


def schema() -> dict[str, Any]:
    """The schema of a file of settings, flat or in sections."""
    definitions = {name: setting_schema(name) for name in all_settings()}
    return head("Settings of train.py") | settings_without({}) | {"$defs": definitions}


def head(title: str) -> dict[str, Any]:
    """How every schema here begins."""
    return {SCHEMA: "https://json-schema.org/draft/2020-12/schema", "title": title}


def settings_without(left_out: Collection[str]) -> dict[str, Any]:
    """The schema of an object of settings, flat or in sections, without some settings."""
    properties: dict[str, Any] = {SCHEMA: {"type": "string"}}
    properties |= {name: {"$ref": f"#/$defs/{name}"} for name in all_settings() if name not in left_out}
    for section in SECTIONS:
        found = _section(section, left_out)
        # `env` is both a setting and a section.
        properties[section] = {"anyOf": [properties[section], found]} if section in properties else found
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _section(section: str, left_out: Collection[str]) -> dict[str, Any]:
    return {"description": f"settings of the section {section}", "type": "object", "additionalProperties": False,
            "properties": {name: {"$ref": f"#/$defs/{name}"} for name in settings_of(section) if name not in left_out}}


def setting_schema(name: str) -> dict[str, Any]:
    """The schema of a setting's value; null stands for its default."""
    setting, choices = all_settings()[name], choices_of(name)
    found: dict[str, Any] = {"description": _description(setting)}
    if setting.default is not None:
        found["default"] = setting.default
    if choices:
        return found | {"enum": [*choices, None]}
    if setting.type == tuple[int, ...]:
        pattern = {} if setting.form == "seeds" else {"pattern": INTEGERS[setting.low == 1]}
        text = {"type": ["string", "null"]} | pattern
        return found | {"anyOf": [_list_of_integers(setting), text]}
    if setting.type is dict:
        return found | {"type": ["object", "string", "null"]}
    found |= {"type": [TYPES[setting.type], "null"]} | _range(setting)
    return found | ({"pattern": f"^({PATTERNS[setting.form]})$"} if setting.form in PATTERNS else {})


def _list_of_integers(setting: Setting) -> dict[str, Any]:
    if setting.form == "seeds":
        return {"type": "array", "items": {"type": "integer"} | _range(all_settings()["seed"]), "minItems": 1,
                "maxItems": MOST_SEEDS, "uniqueItems": True}
    return {"type": "array", "items": {"type": "integer"} | _range(setting), "minItems": 1, "maxItems": MOST_NUMBERS}


def _range(setting: Setting) -> dict[str, Any]:
    limits = {"minimum": setting.low, "maximum": setting.high, "exclusiveMinimum": setting.above}
    return {keyword: limit for keyword, limit in limits.items() if limit is not None}


def _description(setting: Setting) -> str:
    """The help, and the algorithms' defaults."""
    by_algorithm = [f"{alg} {json.dumps(value)}" for alg, value in defaults_of(setting.name).items()
                    if value is not None]
    return setting.help + (f" (default: {', '.join(by_algorithm)})" if by_algorithm else "")


def main(argv: Sequence[str]) -> int:
    """Print the schema; returns 0, or 2 for a wrong argument."""
    return print_schema(schema, argv)


def print_schema(make: Callable[[], dict[str, Any]], argv: Sequence[str]) -> int:
    """Import the modules that `--import` names, and print the schema that `make` returns; the exit code."""
    try:
        modules, others = split_modules(argv)
        import_modules(modules)
    except ConfigError as error:
        print(f"schema: {error}", file=sys.stderr)
        return 2
    if others:
        print(f"schema: got {' '.join(others)!r}, expected --import=MODULE or no argument", file=sys.stderr)
        return 2
    say(json.dumps(make(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
