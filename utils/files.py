"""Write files whole or not at all, safe against a power cut; read files of unknown origin."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from utils.text import human_bytes


class SaveError(OSError):
    """A file could not be written. The message is one line: its path, the bytes needed, and those that are free."""


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole: write, flush and fsync a temporary file, rename it, fsync the directory.

    Until the rename, an older file of that name is unchanged.

    Raises:
        SaveError: a step failed; the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with saving(path, len(data)):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file whole, as `write_file` does."""
    write_file(path, (json.dumps(value, indent=2) + "\n").encode())


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a directory, durable, if the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def saving(path: Path, needed: int) -> Iterator[None]:
    """Turn an OSError inside the block into a SaveError with the free space at `path`.

    Args:
        needed: bytes to be written; 0 if unknown.
    """
    try:
        yield
    except SaveError:
        raise
    except OSError as error:
        size = f"{human_bytes(needed)} needed, " if needed else ""
        raise SaveError(f"cannot write {path}: {error.strerror or error}; {size}{_free(path)} free there") from error


def _free(path: Path) -> str:
    place = next((one for one in (path, *path.parents) if one.exists()), Path.cwd())
    try:
        return human_bytes(shutil.disk_usage(place).free)
    except OSError:
        return "an unknown number of bytes"


def read_file(path: str | Path, most: int | None = None) -> bytes:
    """Return the bytes of a regular file, read once, so that the bytes used are those that were checked.

    A pipe or a device is refused, because it may never end, or never send anything.

    Args:
        most: the largest size in bytes; None: any.
    Raises:
        OSError: it cannot be read, is too large, or is no regular file.
        ValueError: its name contains a null character.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if most is not None and status.st_size > most:
            raise OSError(errno.EFBIG, f"{status.st_size} bytes, expected at most {most}", str(path))
        return file.read(status.st_size)


def _without_waiting(path: str, flags: int) -> int:
    """Open a pipe without waiting for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
