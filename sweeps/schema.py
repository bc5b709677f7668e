"""The JSON schema of a suite of sweep.py, by which editors complete and check it.

    python -m sweeps.schema > configs/suite.schema.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from sweeps.suite import LONGEST, RESERVED
from utils.settings.fields import FIELDS
from utils.settings.json_files import SCHEMA
from utils.settings.schema import head, print_schema, setting_schema, settings_without


def suite_schema() -> dict[str, Any]:
    """The schema of a suite: common settings, environments, and runs by name."""
    definitions = {"settings": settings_without(RESERVED)} | {
        name: setting_schema(name) for name in FIELDS if name not in RESERVED}
    settings, name = {"$ref": "#/$defs/settings"}, {"minLength": 1, "maxLength": LONGEST}
    return head("A suite of sweep.py") | {
        "type": "object",
        "required": ["env", "runs"],
        "properties": {
            SCHEMA: {"type": "string"},
            "common": settings | {"description": "settings of every run, unless it has its own"},
            "env": {"description": "environments, each of which every run is made on", "type": "array",
                    "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": True},
            "runs": {"description": "settings by the name that figures show", "type": "object", "minProperties": 1,
                     "propertyNames": name, "additionalProperties": settings},
        },
        "additionalProperties": False,
        "$defs": definitions,
    }


def main(argv: Sequence[str]) -> int:
    """Print the schema; returns 0, or 2 for an unexpected argument."""
    return print_schema(suite_schema, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
