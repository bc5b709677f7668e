"""The settings as a JSON schema, by which editors complete and check files of settings.

    python -m utils.schema > configs/schema.json

A file says where it is in the key "$schema", which train.py passes over.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from utils.config import (
    ALGORITHMS,
    DECOMPOSITIONS,
    DEVICE,
    FIELDS,
    MOST_SEEDS,
    choices_of,
    field_type,
)
from utils.sections import SCHEMA, SECTIONS

TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}


def schema() -> dict[str, Any]:
    """Of a file of settings, flat or in sections."""
    settings = {name: {"$ref": f"#/$defs/{name}"} for name in FIELDS}
    sections = {section: _section(section) for section in SECTIONS}
    # `env` is a setting or a section, by what follows.
    properties = {SCHEMA: {"type": "string"}} | settings | sections
    properties["env"] = {"anyOf": [settings["env"], sections["env"]]}
    return {
        SCHEMA: "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of train.py",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": {name: _setting(name) for name in FIELDS},
    }


def _section(section: str) -> dict[str, Any]:
    return {"description": f"settings of the section {section}", "type": "object", "additionalProperties": False,
            "properties": {name: {"$ref": f"#/$defs/{name}"} for name in SECTIONS[section]}}


def _setting(name: str) -> dict[str, Any]:
    """What a setting may be; null stands for its default."""
    field, choices = FIELDS[name], choices_of(name)
    found: dict[str, Any] = {"description": _description(name)}
    if field.default is not None:
        found["default"] = field.default
    if name == "seeds":
        return found | {"anyOf": [_list_of_seeds(), {"type": ["string", "null"]}]}
    if choices:
        return found | {"enum": [*choices, None]}
    found |= {"type": [TYPES[field_type(name)], "null"]} | _range(name)
    return found | ({"pattern": f"^({DEVICE})$"} if name in ("device", "buffer_device") else {})


def _list_of_seeds() -> dict[str, Any]:
    return {"type": "array", "items": {"type": "integer"} | _range("seed"), "minItems": 1, "maxItems": MOST_SEEDS,
            "uniqueItems": True}


def _range(name: str) -> dict[str, Any]:
    keywords = {"low": "minimum", "high": "maximum", "above": "exclusiveMinimum"}
    limits = FIELDS[name].metadata
    return {keyword: limits[limit] for limit, keyword in keywords.items() if limits[limit] is not None}


def _description(name: str) -> str:
    """The help, and the defaults that the algorithms have."""
    by_algorithm = [f"{alg} {json.dumps(defaults[name])}"
                    for alg, defaults in (ALGORITHMS | DECOMPOSITIONS).items() if name in defaults]
    return FIELDS[name].metadata["help"] + (f" (default: {', '.join(by_algorithm)})" if by_algorithm else "")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
