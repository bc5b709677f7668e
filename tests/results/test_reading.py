"""What is read of a run beside its curve: how it ended, and of which task it is."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from results import reading

# How a run ended ----------------------------------------------------------------------------------------------------

class Simulator(Exception):
    """An error of a user's package."""


def _with_note() -> Exception:
    error = ValueError("lost")
    error.add_note("see chapter 7")
    return error


ERRORS = {
    "one line": (RuntimeError("lost"), "RuntimeError: lost"),
    "several lines": (RuntimeError("lost the arm\n  see the manual,\nchapter 7"), "RuntimeError: lost the arm"),
    "an empty first line": (RuntimeError("\nlost\nsee the manual"), "RuntimeError: lost"),
    "no message": (KeyboardInterrupt(), "KeyboardInterrupt"),
    "a note": (_with_note(), "ValueError: lost"),
    "a package's": (Simulator("lost"), f"{__name__}.Simulator: lost"),
    "a traceback in the message": (RuntimeError("in process 2:\nTraceback (most recent call last):\n  x\nOSError: no"),
                                   "RuntimeError: in process 2:"),
    "syntax": (SyntaxError("invalid", ("x.py", 3, 4, "a b c\n")), "SyntaxError: invalid"),
    "a group": (ExceptionGroup("two failed", [OSError("a\nb"), OSError("c")]),
                "ExceptionGroup: two failed (2 sub-exceptions)"),
}


def _kept(error: BaseException, cause: BaseException | None = None) -> None:
    try:
        try:
            raise cause or error
        except BaseException:
            if cause is None:
                raise
            raise error from cause
    except BaseException as raised:
        Path("error.txt").write_text("".join(traceback.format_exception(raised)))


@pytest.mark.parametrize(("error", "told"), ERRORS.values(), ids=ERRORS)
def test_an_error_is_told_by_its_type_and_first_line(error, told):
    _kept(error)
    assert reading.last_error(Path()) == told
    _kept(error, OSError("the cause\nof it"))
    assert reading.last_error(Path()) == told


def test_a_file_without_a_traceback_gives_its_first_line():
    Path("error.txt").write_text("one\ntwo\n")
    assert reading.last_error(Path()) == "one"
    Path("error.txt").write_text("")
    assert reading.last_error(Path()) == ""
