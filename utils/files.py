"""Reading files that somebody else may have made."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_file(path: str | Path, most: int | None = None) -> bytes:
    """The bytes of a regular file, read once, so that what was checked is what is used.

    A pipe or a device is refused: it may have no end, or never begin.

    Args:
        most: the most bytes that it may have.
    Raises:
        OSError: it cannot be read, is too long, or is no regular file.
        ValueError: a null character in its name.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if most is not None and status.st_size > most:
            raise OSError(errno.EFBIG, f"{status.st_size} bytes, wants at most {most}", str(path))
        return file.read(status.st_size)


def _without_waiting(path: str, flags: int) -> int:
    """Open a pipe at once, though nobody writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
