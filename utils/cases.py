"""Reference cases: `.npz` files of figures that another program computed, and commands that compute them again.

A case is an archive without pickles. `meta` in it is JSON text, and says by `kind` what the case is.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from utils.command import run_command
from utils.errors import ConfigError
from utils.files import read_file, write_file
from utils.settings.cli import Parser
from utils.text import one_line

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """The meta data of a case, its arrays by name, and the options of the command, such as a mode."""

    meta: dict[str, Any]
    arrays: Mapping[str, np.ndarray]
    options: Mapping[str, str] = field(default_factory=dict)

    def take(self, name: str, *shape: int | None) -> np.ndarray:
        """Return an array of numbers of this shape; None stands for any size.

        Raises:
            ConfigError: the case has none.
        """
        expected = f"expected numbers of shape ({', '.join('any' if n is None else str(n) for n in shape)})"
        array = self.arrays.get(name)
        if array is None:
            raise ConfigError(f"case: has no {name!r}, {expected}")
        fits = len(array.shape) == len(shape) and all(m in (None, n) for n, m in zip(array.shape, shape, strict=True))
        if not fits or array.dtype.kind not in "fiub":
            raise ConfigError(f"case: {name!r} is {array.dtype} of shape {array.shape}, {expected}")
        return array


def read_case(path: str | Path) -> Case:
    """Read a case.

    Raises:
        ConfigError: the file is none, or cannot be read.
    """
    try:
        with np.load(io.BytesIO(read_file(path)), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop("meta"))) if "meta" in arrays else {}
    except OSError as error:
        raise ConfigError(f"case: {str(path)!r} cannot be read: {error.strerror or one_line(error)}") from None
    except (ValueError, EOFError, AttributeError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        raise ConfigError(f"case: {str(path)!r} is no case, expected an .npz of arrays with `meta`, JSON") from None
    if not isinstance(meta, dict):
        raise ConfigError(f"case: {str(path)!r} has {type(meta).__name__} as meta, expected a JSON object")
    return Case(meta, arrays)


def replay_main(command: str, description: str, kinds: Mapping[str, Callable[[Case], Arrays]],
                argv: Sequence[str] | None = None, options: Mapping[str, Sequence[str]] | None = None) -> int:
    """Run a command `COMMAND CASE.npz --out OUT.npz`; return its exit code, 2 with one line for a file that is no case.

    Args:
        kinds: `meta["kind"]` -> what computes the arrays to be written.
        options: more flags, name -> choices, the first of which is the default; they are in `Case.options`.
    """
    return run_command(command, lambda: _replay(command, description, kinds, argv, options or {}))


def _replay(command: str, description: str, kinds: Mapping[str, Callable[[Case], Arrays]], argv: Sequence[str] | None,
            options: Mapping[str, Sequence[str]]) -> None:
    parser = Parser(prog=command, allow_abbrev=False, description=description)
    parser.add_argument("case", metavar="CASE.npz", help=f"a case of kind {', '.join(kinds)}")
    parser.add_argument("--out", required=True, metavar="OUT.npz", help="the file to write")
    for name, choices in options.items():
        parser.add_argument(f"--{name}", choices=choices, default=choices[0], help=f"default {choices[0]}")
    args = parser.parse_args(argv)
    case = replace(read_case(args.case), options={name: getattr(args, name) for name in options})
    replay = kinds.get(str(case.meta.get("kind")))
    if replay is None:
        raise ConfigError(f"case: got kind {case.meta.get('kind')!r}, expected {' or '.join(kinds)}")
    write_case(Path(args.out), replay(case))


def write_case(path: Path, arrays: Arrays) -> None:
    """Write arrays by name as an .npz."""
    data = io.BytesIO()
    np.savez(data, **arrays)
    write_file(path, data.getvalue())
