"""The errors that a program reports in one line, without a traceback."""

from __future__ import annotations

from utils.text import printable

IN_USE = "in use by another process"            # in the error of a run's directory; a sweep recognises it


class ConfigError(ValueError):
    """A setting is invalid. The message is one line: `field: got X, expected Y`."""

    def __init__(self, message: str):
        super().__init__(printable(message))


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or of another agent or run. The message is one line, whatever it holds."""

    def __init__(self, message: str):
        super().__init__(printable(message[:2000]))


class SeedsError(RuntimeError):
    """Runs of one or more of several seeds failed; each failure was reported when it happened."""


class NotFiniteError(ArithmeticError):
    """A number is NaN or infinite. The message is one line: which number, and when."""


class EpisodeNotFiniteError(NotFiniteError):
    """An environment gave a number that is NaN or infinite."""
