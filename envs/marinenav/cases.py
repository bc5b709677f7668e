"""What the commands of this room share: arrays in files, checked, and errors in one line."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from utils.errors import ConfigError
from utils.files import read_file, write_file
from utils.text import one_line, printable

Arrays = dict[str, np.ndarray]


def run_command(name: str, work: Callable[[], object]) -> int:
    """Run a command; return 0, 1 if a file cannot be written, 2 after one line about a wrong argument or file."""
    try:
        work()
    except ConfigError as error:
        return _complain(name, str(error), 2)
    except OSError as error:
        return _complain(name, str(error), 1)
    except KeyboardInterrupt:
        return _complain(name, "interrupted", 130)
    return 0


def _complain(name: str, line: str, code: int) -> int:
    print(f"{name}: {printable(line)}", file=sys.stderr)
    return code


def read_arrays(path: str) -> Arrays:
    """Return the arrays of an .npz file, without pickle.

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    try:
        with np.load(io.BytesIO(read_file(path)), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise ConfigError(f"case: cannot read {path}: {error.strerror or one_line(error)}") from None
    except (ValueError, AttributeError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        raise ConfigError(f"case: {path} is no .npz file of plain arrays: {one_line(error)}") from None


def write_arrays(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to an .npz file, whole or not at all.

    Raises:
        ConfigError: its directory does not exist.
        SaveError: the disk failed.
    """
    if not Path(path).absolute().parent.is_dir():
        raise ConfigError(f"out: got {path!r}, whose directory does not exist")
    if not path or Path(path).is_dir():
        raise ConfigError(f"out: got {path!r}, expected a file's name")
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    write_file(Path(path), data.getvalue())


class Shapes:
    """Takes arrays by name, and checks that they agree in the sizes that have one letter."""

    def __init__(self, arrays: Arrays):
        self.arrays, self.sizes = arrays, {}

    def take(self, name: str, shape: str, kinds: str = "fiu") -> np.ndarray:
        """Return an array of finite numbers.

        Args:
            shape: sizes with a space between, such as "T R 2"; each letter has one value in all arrays.
            kinds: the accepted `dtype.kind`.
        Raises:
            ConfigError: it is missing, or of another shape or type.
        """
        if name not in self.arrays:
            raise ConfigError(f"{name}: missing in the case")
        value, axes = self.arrays[name], shape.split()
        fits = value.ndim == len(axes) and all(self._fits(axis, size) for axis, size in
                                               zip(axes, value.shape, strict=True))
        if not fits or value.dtype.kind not in kinds or not np.isfinite(value).all():
            known = " ".join(str(self.sizes.get(axis, axis)) for axis in axes)
            raise ConfigError(f"{name}: got {value.dtype} of shape {list(value.shape)}, expected finite numbers of "
                              f"shape [{known}]")
        return value

    def _fits(self, axis: str, size: int) -> bool:
        return size == (int(axis) if axis.isdigit() else self.sizes.setdefault(axis, size))
