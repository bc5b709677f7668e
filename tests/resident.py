"""The memory of this process, in bytes; Linux alone says it."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from pathlib import Path


def resident_bytes() -> int:
    """What the process holds now, after garbage was collected and free memory given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_bytes() -> int:
    """The most that it has held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
