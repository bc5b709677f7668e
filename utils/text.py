"""Text for people: one line, printable, with units, with the nearest name."""

from __future__ import annotations

import difflib
import re


def printable(text: str) -> str:
    """The text in one line that no terminal obeys: control characters are spelt out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(told: object) -> str:
    """What an error, or anything else, says, with its line breaks and indents as single spaces."""
    return " ".join(str(told).split())


def shown(name: str) -> str:
    """A name as it is, in quotes where that would mislead the eye."""
    return name if re.fullmatch(r"[-\w]+", name) else repr(name)


def did_you_mean(name: str, known) -> str:
    """`; did you mean X?` for the nearest known name, whatever its case, or nothing."""
    lowered = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f"; did you mean {lowered[near[0]]}?" if near else ""


def human_bytes(count: float) -> str:
    """1234567 -> '1.23 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
