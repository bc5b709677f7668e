"""The JSON schema of a suite of sweep.py, by which editors complete and check it.

    python -m sweeps.schema > configs/suite.schema.json

With `--import=MODULE` the schema also has the algorithms that the module registers, and their settings.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from sweeps.search import SEARCH
from sweeps.suite import LONGEST, RESERVED
from utils.settings.fields import all_settings
from utils.settings.json_files import SCHEMA
from utils.settings.schema import head, print_schema, setting_schema, settings_without


def suite_schema() -> dict[str, Any]:
    """The schema of a suite: common settings, environments, and runs by name."""
    definitions = {"settings": settings_without(RESERVED)} | {
        name: setting_schema(name) for name in all_settings() if name not in RESERVED}
    settings, name = {"$ref": "#/$defs/settings"}, {"minLength": 1, "maxLength": LONGEST}
    return head("A suite of sweep.py") | {
        "type": "object",
        "required": ["env", "runs"],
        "properties": {
            SCHEMA: {"type": "string"},
            "common": settings | {"description": "settings of every run; those of the run itself win"},
            "env": {"description": "environments; every run is made on each of them", "type": "array",
                    "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": True},
            "runs": {"description": "settings of each run, by the name that figures show", "type": "object",
                     "minProperties": 1, "propertyNames": name, "additionalProperties": settings},
            SEARCH: {"description": "ranges of settings, for --search", "type": "object", "minProperties": 1,
                     "additionalProperties": {"anyOf": [range_schema(), {"type": "array", "minItems": 1}]}},
        },
        "additionalProperties": False,
        "$defs": definitions,
    }


def range_schema() -> dict[str, Any]:
    """The schema of all numbers between two."""
    return {"type": "object", "required": ["low", "high"], "additionalProperties": False,
            "properties": {"low": {"type": "number"}, "high": {"type": "number"},
                           "log": {"type": "boolean", "description": "whether its logarithm is uniform"}}}


def main(argv: Sequence[str]) -> int:
    """Print the schema; returns 0, or 2 for a wrong argument."""
    return print_schema(suite_schema, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
