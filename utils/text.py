"""Format text for messages: one line, printable, with units, with the nearest name."""

from __future__ import annotations

import difflib
import re
from itertools import takewhile


def printable(text: str) -> str:
    """The text with control characters escaped, so that it is one line and does not control a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(value: object) -> str:
    """The text of an error or another value, with runs of white space as single spaces."""
    return " ".join(str(value).split())


_LINKS = ("The above exception was the direct cause of the following exception:",
          "During handling of the above exception, another exception occurred:")
_HEAD = re.compile(r"(Exception Group )?Traceback( \(most recent call last\):)?")


def error_of(text: str) -> str:
    """The type of the error in a traceback's text, with the first line of its message; "" if the text names none.

    Of chained errors it is the last one. Notes and further lines of the message stand below that line in the text.
    """
    lines = text.splitlines()
    last = max((i + 1 for i, line in enumerate(lines) if line in _LINKS), default=0)
    plain = [re.sub(r"^ +[+|] ", "", line) for line in lines[last:]]            # exception groups are drawn with bars
    head = next((i + 1 for i, line in enumerate(plain) if _HEAD.fullmatch(line)), 0)
    frames = len(list(takewhile(lambda line: not line.strip() or line[0].isspace(), plain[head:])))
    error, *message = [line.strip() for line in plain[head + frames:] if line.strip()] or [""]
    is_bare = re.fullmatch(r"[\w.]+:", error)           # a message that begins with an empty line
    return printable(f"{error} {message[0]}" if is_bare and message else error)


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
