"""Format text for messages: one line, printable, with units, with the nearest name."""

from __future__ import annotations

import difflib
import re


def printable(text: str) -> str:
    """The text with control characters escaped, so that it is one line and does not control a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(value: object) -> str:
    """The text of an error or another value, with runs of white space as single spaces."""
    return " ".join(str(value).split())


def shown(name: str) -> str:
    """A name, in quotes if it holds anything but letters, digits, `-` and `_`."""
    return name if re.fullmatch(r"[-\w]+", name) else repr(name)


def did_you_mean(name: str, known) -> str:
    """`; did you mean X?` for the nearest known name, or ""; upper and lower case are equal."""
    lowered = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f"; did you mean {lowered[near[0]]}?" if near else ""


def human_bytes(count: float) -> str:
    """A number of bytes with a unit: 1234567 -> '1.23 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
