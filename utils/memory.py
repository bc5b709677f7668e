"""Free memory, so that a run that does not fit is refused before it starts."""

from __future__ import annotations

from pathlib import Path

import torch

from utils.errors import ConfigError
from utils.text import human_bytes

WORKER_BYTES = 40_000_000       # private, measured: HalfCheetah-v4 33 MB, Assault 38 MB; resident 67 and 85 MB


def available_bytes(device: torch.device) -> int | None:
    """Return the free memory of a device, of the GPU or of machine and container; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [_meminfo_available(), _cgroup_available()]
    return min((limit for limit in limits if limit is not None), default=None)


def check_workers(num_envs: int, replay_bytes: int) -> None:
    """Check that the processes of several environments fit in memory; a single environment needs no process.

    Args:
        replay_bytes: the part of the same memory that replay needs.
    Raises:
        ConfigError: they do not; the message names a number that fits.
    """
    available, needed = available_bytes(torch.device("cpu")), num_envs * WORKER_BYTES
    if num_envs > 1 and available is not None and needed + replay_bytes > available:
        fits = max(1, int((available - replay_bytes) // WORKER_BYTES))
        raise ConfigError(f"num_envs: {num_envs} environments, a process each, need about {human_bytes(needed)} beside "
                          f"the replay's {human_bytes(replay_bytes)}, and {human_bytes(available)} are free; "
                          f"--num_envs={fits} would fit")


def _meminfo_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def _cgroup_available(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the free memory of a container (control groups, version 2); None without a limit.

    Cached files count as used there, but are dropped when memory is needed.
    """
    try:
        limit, used = (int((root / f"memory.{name}").read_text()) for name in ("max", "current"))
        stat = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        return limit - used + int(stat["active_file"]) + int(stat["inactive_file"])
    except (OSError, ValueError, KeyError):
        return None
