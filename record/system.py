"""Describe what a result depends on besides its settings: command, versions, machine, code."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from utils.cores import count_cores, load, processor
from utils.installed import DISTRIBUTION, HERE, ROOT

PACKAGES = ("torch", "tensorflow", "numpy", "gymnasium", "mujoco", "ale-py", "opencv-python-headless", "safetensors",
            "tensorboardX", "rich", DISTRIBUTION)


def crowded() -> str | None:
    """Return a note if other programs keep the cores busy that PyTorch's threads could use."""
    busy, cores = load(), count_cores()
    if torch.get_num_threads() == 1 or busy < 0.75 * cores:
        return None
    return f"note: load {busy:.1f} on {cores} cores: other programs use them, and training takes longer"


def describe_system(device: str) -> dict[str, Any]:
    """Return command, versions, machine and code, for run.json."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_clean": _git("status", "--porcelain") == "",
        "versions": {name: _version(name) for name in PACKAGES},
    }


def differences(then: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, value then, value now) for all differences that may change a run's numbers."""
    for name in ("python", "processor", "threads", "device", "eval_env"):
        if then.get(name) != now.get(name):
            yield name, then.get(name), now.get(name)
    if _code(then) != _code(now):
        yield "code", _code(then)[:10], _code(now)[:10]
    for name in ("torch", "numpy", "gymnasium", "mujoco", "ale-py", "opencv-python-headless"):
        was = then.get("versions", {}).get(name)
        if was != now["versions"][name]:
            yield name, was, now["versions"][name]


def _code(facts: dict[str, Any]) -> str:
    """The commit of a clone; the version of a wheel, which knows no commit."""
    return facts.get("git_commit") or facts.get("versions", {}).get(DISTRIBUTION) or "unknown"


@functools.cache                                        # each is a file to parse, and many runs may be of one process
def _version(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):            # TensorFlow's build without CUDA
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def _git(*command: str) -> str | None:
    """The output of git in this project's own repository; None in a wheel, and where there is no such repository.

    A wheel, or a copy of the sources, may lie within the repository of another project, whose commit says nothing here.
    """
    top = None if ROOT else _run_git("rev-parse", "--show-toplevel")
    return _run_git(*command) if top and Path(top).resolve() == HERE else None


def _run_git(*command: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(HERE), *command], capture_output=True, text=True, timeout=10,
                              check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
