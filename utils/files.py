"""Files that are written whole or not at all, and are still there after a power cut; and reading those of others."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path


class SaveError(OSError):
    """Something could not be written; one line with its path, the bytes needed, and those that are free."""


def write_file(path: Path, data: bytes) -> None:
    """Write, flush, fsync, rename, fsync the directory: until the rename an older file of that name stays as it was.

    Raises:
        SaveError: one of them failed; the temporary file is gone.
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
    """Make what stands in a file, or the names in a directory, durable, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def saving(path: Path, needed: int) -> Iterator[None]:
    """What fails inside becomes a SaveError that tells how much room `path` has, and how many bytes are needed."""
    try:
        yield
    except SaveError:
        raise
    except OSError as error:
        from utils.text import human_bytes  # which imports PyTorch, and `--help` should not
        wants = f"{human_bytes(needed)} needed, " if needed else ""
        raise SaveError(f"cannot write {path}: {error.strerror or error}; {wants}{_free(path)} free there") from error


def _free(path: Path) -> str:
    place = next((one for one in (path, *path.parents) if one.exists()), Path.cwd())
    from utils.text import human_bytes
    try:
        return human_bytes(shutil.disk_usage(place).free)
    except OSError:
        return "an unknown number of bytes"


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
            raise OSError(errno.EFBIG, f"{status.st_size} bytes, expected at most {most}", str(path))
        return file.read(status.st_size)


def _without_waiting(path: str, flags: int) -> int:
    """Open a pipe at once, though nobody writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
