"""The JSON schema of a file of settings, with which editors complete and check it.

    python -m utils.settings.schema > configs/schema.json

A file says where its schema is in the key "$schema", which the programs pass over.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

from utils.display import say
from utils.settings.fields import ALGORITHMS, DECOMPOSITIONS, FIELDS, Width
from utils.settings.json_files import SCHEMA, SECTIONS
from utils.settings.resolve import DEVICE, MOST_LAYERS, MOST_SEEDS, WIDEST, choices_of, field_type

TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}


def schema() -> dict[str, Any]:
    """Of a file of settings, flat or in sections."""
    definitions = {name: setting_schema(name) for name in FIELDS}
    return head("Settings of train.py") | settings_without({}) | {"$defs": definitions}


def head(title: str) -> dict[str, Any]:
    return {SCHEMA: "https://json-schema.org/draft/2020-12/schema", "title": title}


def settings_without(left_out: Collection[str]) -> dict[str, Any]:
    """An object of settings, flat or in sections."""
    properties: dict[str, Any] = {SCHEMA: {"type": "string"}}
    properties |= {name: {"$ref": f"#/$defs/{name}"} for name in FIELDS if name not in left_out}
    for section in SECTIONS:
        found = _section(section, left_out)
        # `env` is a setting or a section, by what follows.
        properties[section] = {"anyOf": [properties[section], found]} if section in properties else found
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _section(section: str, left_out: Collection[str]) -> dict[str, Any]:
    return {"description": f"settings of the section {section}", "type": "object", "additionalProperties": False,
            "properties": {name: {"$ref": f"#/$defs/{name}"} for name in SECTIONS[section] if name not in left_out}}


def setting_schema(name: str) -> dict[str, Any]:
    """What a setting may be; null stands for its default."""
    field, choices = FIELDS[name], choices_of(name)
    found: dict[str, Any] = {"description": _description(name)}
    if field.default is not None:
        found["default"] = field.default
    if name == "seeds":
        return found | {"anyOf": [_list_of_seeds(), {"type": ["string", "null"]}]}
    if field_type(name) == tuple[Width, ...]:
        return found | {"anyOf": [_list_of_widths(), {"type": ["string", "null"], "pattern": WIDTHS}]}
    if choices:
        return found | {"enum": [*choices, None]}
    found |= {"type": [TYPES[field_type(name)], "null"]} | _range(name)
    return found | ({"pattern": f"^({DEVICE})$"} if name in ("device", "buffer_device") else {})


def _list_of_seeds() -> dict[str, Any]:
    return {"type": "array", "items": {"type": "integer"} | _range("seed"), "minItems": 1, "maxItems": MOST_SEEDS,
            "uniqueItems": True}


WIDTHS = r"^ *0*[1-9][0-9]* *(, *0*[1-9][0-9]* *)*$"


def _list_of_widths() -> dict[str, Any]:
    return {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": WIDEST}, "minItems": 1,
            "maxItems": MOST_LAYERS}


def _range(name: str) -> dict[str, Any]:
    keywords = {"low": "minimum", "high": "maximum", "above": "exclusiveMinimum"}
    limits = FIELDS[name].metadata
    return {keyword: limits[limit] for limit, keyword in keywords.items() if limits[limit] is not None}


def _description(name: str) -> str:
    """The help, and the defaults that the algorithms have."""
    by_algorithm = [f"{alg} {json.dumps(defaults[name])}"
                    for alg, defaults in (ALGORITHMS | DECOMPOSITIONS).items() if name in defaults]
    return FIELDS[name].metadata["help"] + (f" (default: {', '.join(by_algorithm)})" if by_algorithm else "")


def main(argv: Sequence[str]) -> int:
    """Print the schema; returns 0, or 2 if there is an argument."""
    return print_schema(schema, argv)


def print_schema(make: Callable[[], dict[str, Any]], argv: Sequence[str]) -> int:
    """Print the schema that `make` returns; the exit code."""
    if argv:
        print(f"schema: got {' '.join(argv)!r}, expected no argument", file=sys.stderr)
        return 2
    say(json.dumps(make(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
