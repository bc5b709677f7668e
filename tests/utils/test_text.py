"""The error that a traceback's text names."""

from __future__ import annotations

import traceback

import pytest

from utils.text import error_of


def trace_of(function) -> str:
    """The text that Python prints for what the function raises."""
    try:
        function()
    except BaseException as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError("raised nothing")


def fail(error: BaseException, cause: BaseException | None = None):
    def run():
        raise error from cause
    return run


def noted(error: BaseException, note: str) -> BaseException:
    error.add_note(note)
    return error


def in_handling():
    try:
        raise KeyError("first")
    except KeyError:
        raise OSError(28, "No space left") from None


def while_handling():
    try:
        raise KeyError("first\nof two")
    except KeyError:
        raise ValueError("second\nof two")      # noqa: B904 (the other kind of chain)


@pytest.mark.parametrize(("function", "told"), [
    (fail(ValueError("no air")), "ValueError: no air"),
    (fail(RuntimeError("lost the simulator\n  see the manual,\nsection 2")), "RuntimeError: lost the simulator"),
    (fail(noted(ValueError("no air"), "a note\nof two lines")), "ValueError: no air"),
    (fail(RuntimeError("\n\n  indented\nmore")), "RuntimeError: indented"),
    (fail(KeyboardInterrupt()), "KeyboardInterrupt"),
    (fail(ValueError("outer"), OSError("inner\nline")), "ValueError: outer"),
    (fail(RuntimeError("worker died:\nTraceback (most recent call last):\nKeyError: 3")), "RuntimeError: worker died:"),
    (fail(ExceptionGroup("two", [ValueError("a\nb"), KeyError("c")])), "ExceptionGroup: two (2 sub-exceptions)"),
    (in_handling, "OSError: [Errno 28] No space left"), (while_handling, "ValueError: second"),
    (lambda: compile("a b", "x.py", "exec"), "SyntaxError: invalid syntax"),
    (fail(ValueError("\x1b[2J\nmore")), "ValueError: \\x1b[2J"),
], ids=lambda one: one if isinstance(one, str) else "")
def test_an_error_is_its_type_and_the_first_line_of_its_message(function, told):
    assert error_of(trace_of(function)) == told


@pytest.mark.parametrize(("text", "told"), [("", ""), ("\n \n", ""), ("Traceback (most recent call last):\n", ""),
                                            ("ValueError: no air\n", "ValueError: no air")])
def test_a_text_that_is_cut_is_read_as_far_as_it_goes(text, told):
    assert error_of(text) == told
