"""Choices by measurement that later runs on this machine reuse, in one small file of the user's cache."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from utils.files import SaveError, write_json

try:
    import fcntl
except ImportError:                                     # not on Windows
    fcntl = None


VARIABLE, OFF = "RETURN_DECOMPOSITION_CACHE", "off"


def is_off() -> bool:
    """Whether nothing is to be measured or cached, as tests ask for: RETURN_DECOMPOSITION_CACHE=off."""
    return os.environ.get(VARIABLE) == OFF


def directory() -> Path:
    """Return the directory of the cache, RETURN_DECOMPOSITION_CACHE or by XDG's convention; it may not exist."""
    own, shared = os.environ.get(VARIABLE), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(shared or Path.home() / ".cache") / "return_decomposition"


def remembered(name: str, key: str, measure: Callable[[], str | None], fits: Callable[[str], bool],
               ) -> tuple[str | None, bool]:
    """Return the cached choice of a key, else measure and cache it; and whether it was cached.

    Processes that ask for the same key at once measure it once: the others wait. Where nothing can be written, each
    measures for itself.

    Args:
        name: of the file, without its suffix.
        measure: returns a choice, or None if there is none at present, which is not cached.
        fits: whether a cached value is one that this program could have measured.
    """
    with _locked(name) as path:
        known = _read(path)
        if isinstance(known.get(key), str) and fits(known[key]):
            return known[key], True
        found = measure()
        if path is not None and found is not None:
            with contextlib.suppress(SaveError):
                write_json(path, known | {key: found})
        return found, False


@contextlib.contextmanager
def _locked(name: str) -> Iterator[Path | None]:
    """Yield the file's path, which no other process has meanwhile; None if the directory cannot be written to."""
    try:
        directory().mkdir(parents=True, exist_ok=True)
        lock = open(directory() / f"{name}.lock", "w")
    except (OSError, RuntimeError):                     # RuntimeError: there is no home
        yield None
        return
    with lock:
        if fcntl is not None:
            with contextlib.suppress(OSError):          # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory() / f"{name}.json"


def _read(path: Path | None) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):                       # none yet, or damaged: it is written anew
        return {}
    return found if isinstance(found, dict) else {}
