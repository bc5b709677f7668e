"""`algorithm.tf.convert`, the converter of checkpoints, by its published name: python -m utils.tf_checkpoint."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("algorithm.tf.convert"), name)


if __name__ == "__main__":
    sys.exit(importlib.import_module("algorithm.tf.convert").main())
