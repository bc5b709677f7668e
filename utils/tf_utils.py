"""`algorithm.tf.layers` and `algorithm.tf.optimizers`, by their name in the original program."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    layers = importlib.import_module("algorithm.tf.layers")
    return getattr(layers if hasattr(layers, name) else importlib.import_module("algorithm.tf.optimizers"), name)
