"""`algorithm.tf.convert`, the converter of checkpoints, by its published name: python -m utils.tf_checkpoint."""

import importlib
import sys
from typing import Any

import python_check  # noqa: F401 (first: it exits where Python is too old)


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("algorithm.tf.convert"), name)


if __name__ == "__main__":
    sys.exit(importlib.import_module("algorithm.tf.convert").main())
