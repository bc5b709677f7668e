"""Types and checks of the flags of the benchmarks; imports no package that measures."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path

from utils.errors import ConfigError


def names_of(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """A parser for a list of these names; it returns them in their known order."""
    def names(text: str) -> tuple[str, ...]:
        given = [name.strip() for name in text.split(",")]
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"got {unknown[0]!r}, expected some of {','.join(known)}")
        return tuple(name for name in known if name in given)
    return names


def positive(text: str) -> int:
    """An integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected an integer of at least 1")
    return int(text)


def minutes(text: str) -> float:
    """A positive number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number of minutes above 0")
    return value


def check_writable(path: Path) -> None:
    """Raise ConfigError now, not after ten minutes, if the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out: cannot create {str(path.parent)!r}: {error.strerror}") from None
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"--out: cannot write {str(path)!r}")
