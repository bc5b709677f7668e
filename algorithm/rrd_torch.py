"""`algorithm.decomposition.rrd` and its networks, by the name of the migration guide."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("algorithm.decomposition.rrd"), name)
