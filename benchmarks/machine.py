"""The machine on which the figures of a benchmark were measured."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

import torch

from record.system import crowded, describe_system
from utils.cores import count_cores
from utils.precision import bf16_unit

PEERS = ("stable-baselines3", "sbx-rl", "jax")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, memory, GPU, versions and commit: the facts of `run.json`, and more."""
    facts = describe_system(str(device))
    facts["versions"] |= {name: _version(name) for name in PEERS}
    return facts | {"cores_usable": usable_cores(), "memory_bytes": _memory(), "gpu": _gpu(), "load": _load(),
                    "crowded": crowded(), "bf16": bf16_unit() or None}


def usable_cores() -> float:
    """The cores that this process may use by its affinity and its container's quota (control groups, version 2)."""
    cores = count_cores()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(cores, int(quota) / int(period))
    except (OSError, ValueError):                       # no such file, or "max"
        return cores


def headline(facts: dict[str, Any]) -> str:
    """Describe the machine in one line."""
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("torch", "numpy", *PEERS)
                         if facts["versions"][name])
    memory = f", {facts['memory_bytes'] / 1e9:.0f} GB" if facts["memory_bytes"] else ""
    return (f"{facts['processor']}, {facts['cores_usable']:g} of {facts['cores']} cores, {facts['threads']} threads"
            f"{memory}{', ' + facts['gpu'] if facts['gpu'] else ''}; on {facts['device']}; Python {facts['python']}, "
            f"{versions}; commit {(facts['git_commit'] or 'unknown')[:10]}{'' if facts['git_clean'] else ', changed'}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
