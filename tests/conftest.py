import os

import pytest
import tiny_envs  # noqa: F401 (registers them)
import torch

torch.set_num_threads(1)            # small matrices, and nothing waits for a busy core
os.environ.setdefault("MUJOCO_GL", "disabled")


@pytest.fixture(autouse=True)
def _own_directory(tmp_path, monkeypatch):
    """Every test runs in an empty directory of its own, with no switch set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("USE_PYTORCH", raising=False)
