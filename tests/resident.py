"""The memory of this process, in bytes, and what can be given back of it; Linux alone says it."""

from __future__ import annotations

import ctypes
import gc
import resource
from pathlib import Path

LINUX = Path("/proc/self/statm").is_file()


def resident_bytes() -> int:
    """What the process holds now, with what it has freed and not given back."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def give_back() -> int:
    """Collect garbage, and give what is free in the heap back to the system; return what is still held.

    A heap in which small objects lie between freed arrays does not shrink by itself.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)              # glibc's
    if trim:
        trim(0)
    return resident_bytes()


def peak_bytes() -> int:
    """The most that the process has held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
