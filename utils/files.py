"""Write files atomically and durably, so that they survive a power failure; read files of unknown origin safely."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from utils.text import human_bytes


class SaveError(OSError):
    """A file cannot be written. The message is one line: the path, the bytes needed, the bytes free."""


def write_file(path: Path, data: bytes) -> None:
    """Write, flush, fsync, rename, fsync the directory; until the rename an older file of that name is unchanged.

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


def sync(path: Path) -> None:
    """Make the contents of a file, or the names in a directory, durable, if the system is POSIX."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def saving(path: Path, needed: int) -> Iterator[None]:
    """Turn an OSError inside the block into a SaveError with the bytes needed and the bytes free at `path`."""
    try:
        yield
    except SaveError:
        raise
    except OSError as error:
        need = f"{human_bytes(needed)} needed, " if needed else ""
        raise SaveError(f"cannot write {path}: {error.strerror or error}; {need}{_free(path)} free there") from error


def _free(path: Path) -> str:
    place = next((one for one in (path, *path.parents) if one.exists()), Path.cwd())
    try:
        return human_bytes(shutil.disk_usage(place).free)
    except OSError:
        return "an unknown number of bytes"


def read_file(path: str | Path, most: int | None = None) -> bytes:
    """Read a regular file once, so that the bytes that are checked are the bytes that are used.

    A pipe or a device is refused, because it may have no end or block forever.

    Args:
        most: the largest size in bytes.
    Raises:
        OSError: the file cannot be read, is too long, or is no regular file.
        ValueError: the path contains a null character.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if most is not None and status.st_size > most:
            raise OSError(errno.EFBIG, f"{status.st_size} bytes, expected at most {most}", str(path))
        return file.read(status.st_size)


def _without_waiting(path: str, flags: int) -> int:
    """Open without blocking, also a pipe without a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
