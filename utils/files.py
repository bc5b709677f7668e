"""Files that are written whole or not at all, and are still there after a power cut."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from utils.memory import human_bytes


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
        raise SaveError(f"cannot write {path}: {error.strerror or error}; {human_bytes(needed)} needed, "
                        f"{_free(path)} free there") from error


def _free(path: Path) -> str:
    place = next((one for one in (path, *path.parents) if one.exists()), Path.cwd())
    try:
        return human_bytes(shutil.disk_usage(place).free)
    except OSError:
        return "an unknown number of bytes"
