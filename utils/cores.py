"""The processor, and how many of its cores this process may use; imports the standard library alone."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def count_cores() -> int:
    """The cores that affinity and the quotas of control groups allow, at least 1.

    A quota is processor time by time: a container with two of 64 cores sees all 64, and threads beyond two only take
    turns. A quota of 1.5 cores counts as 2, since a second thread is useful half of the time.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(-int(-quota // 1) for quota in quotas())]))


def load() -> float:
    """Return how many processes wanted a core in the last minute, on average; 0 where the system does not count."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def processor() -> str:
    """Return the model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def quotas(root: Path = CGROUPS, own: Path = OWN) -> Iterator[float]:
    """The quotas of this process's control groups and of those above them, in cores; none where there is no limit.

    Args:
        root: where the groups are mounted, in version 2 (`cpu.max`) or 1 (`cpu/cpu.cfs_quota_us`).
        own: the file that names the groups of this process, a line `number:controllers:path` each.
    """
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = [root / "cpu", root / "cpu,cpuacct"] if controllers else [root]
        for mount in mounts:
            # in a container the path may be that of the host, which does not exist there, but its root does
            group = mount / path.strip("/")
            for place in (group, *group.parents):
                if place == mount or mount in place.parents:
                    yield from _quota(place)


def _quota(group: Path) -> Iterator[float]:
    words = _read(group / "cpu.max").split() or [_read(group / f"cpu.cfs_{name}_us").strip()
                                                 for name in ("quota", "period")]
    if len(words) == 2 and all(word.isdigit() and int(word) for word in words):     # "max" and -1 are no limit
        yield int(words[0]) / int(words[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
