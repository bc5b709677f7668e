"""The TensorFlow 1 checkpoint of the reference cases, read and converted once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tf_checkpoints import ORIGINAL, convert


@pytest.fixture(scope="session")
def tensorflow():
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="session")
def original(tensorflow) -> dict[str, np.ndarray]:
    """The arrays of the TensorFlow 1 checkpoint, read by TensorFlow alone."""
    reader = tensorflow.train.load_checkpoint(str(ORIGINAL))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.fixture(scope="session")
def model(tensorflow, tmp_path_factory) -> Path:
    """The TensorFlow 1 checkpoint, converted."""
    return convert(ORIGINAL, tmp_path_factory.mktemp("converted") / "model")
