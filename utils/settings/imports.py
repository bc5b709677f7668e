"""Modules that `--import` imports: they register algorithms, decompositions and environments.

Only a command line may name a module, because importing it runs its code.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

from utils.errors import ConfigError
from utils.installed import HERE

HELP = ("import this module first; it may register algorithms, decompositions and environments of your own; it is "
        "found in the current directory as well; may be given several times")


def add_import(parser: argparse.ArgumentParser) -> None:
    """The flag `--import`, whose modules are `modules`."""
    parser.add_argument("--import", action="append", dest="modules", metavar="MODULE", help=HELP, default=[])


def named_modules(argv: Sequence[str]) -> list[str]:
    """The modules that `--import` names on a command line; the other flags are not parsed yet."""
    return split_modules(argv)[0]


def split_modules(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the modules that `--import` names, the other words of the command line)."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_import(parser)
    try:
        given, others = parser.parse_known_args(argv)
        return given.modules, others
    except argparse.ArgumentError:
        raise ConfigError("--import: expected one argument") from None


def import_modules(names: Iterable[str]) -> None:
    """Import modules, in this order.

    Raises:
        ConfigError: there is no such module, or importing it raised an error.
    """
    for name in names:
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name) or name.endswith(".py"):
            raise ConfigError(f"import: got {name!r}, expected a module's name, such as my_rewards for my_rewards.py")
        search_here()
        check_first(name)
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            check_first(error.name or "")
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):       # a module that it imports
                raise _failed(name, error) from None
            raise ConfigError(f"import: there is no module {error.name!r}, neither installed nor in "
                              f"{os.getcwd()}") from None
        except (Exception, SystemExit) as error:        # its code may raise anything
            if isinstance(error, ImportError):
                check_first(error.name or "")
            raise _failed(name, error) from None


def search_here() -> None:
    """Find modules in the current directory as well, after all other places."""
    here = os.getcwd()
    if not {here, ""} & set(sys.path):
        sys.path.append(here)
        importlib.invalidate_caches()


def check_first(name: str) -> None:
    """Check that another module or package does not come before one of the current directory.

    Raises:
        ConfigError: one does; the message says which.
    """
    top, here = name.partition(".")[0], Path.cwd()
    own = [path for path in (here / f"{top}.py", here / top) if path.exists()]
    found = _place(top) if top and own else None
    if found is None or found.is_relative_to(here) or found.resolve() in [path.resolve() for path in own]:
        return
    ours = f", or `pip install {HERE}` and `rrd`, whose modules have names of their own" * (found.parent == HERE)
    raise ConfigError(f"import: {name!r} was not read from {here}, because the module {top!r} that comes first on the "
                      f"path is {found}; rename yours{ours}")


def _place(top: str) -> Path | None:
    """The file of a module, or the folder of a package; None if there is none, or it is built in."""
    try:
        spec = getattr(sys.modules.get(top), "__spec__", None) or importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    place = folder or (spec.origin if spec and spec.has_location else None)
    return Path(place).resolve() if place else None


def _failed(name: str, error: BaseException) -> ConfigError:
    """The error in one line: what was raised, and where."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    last = traceback.extract_tb(error.__traceback__)[-1]
    inside = not (isinstance(error, SyntaxError) or "importlib" in last.filename)       # a SyntaxError says where
    place = f" ({os.path.basename(last.filename)}, line {last.lineno})" if inside else ""
    return ConfigError(f"import: {name!r} cannot be imported: {reason}{place}")
