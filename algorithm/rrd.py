"""`algorithm.tf.rrd`, the TensorFlow reference, by its name in the original program."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("algorithm.tf.rrd"), name)
