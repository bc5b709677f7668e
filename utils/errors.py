"""Errors that a program reports in one line."""

from __future__ import annotations

from utils.text import printable


class ConfigError(ValueError):
    """A setting is wrong. The message is one line: the field, what it got, what is expected."""

    def __init__(self, message: str):
        super().__init__(printable(message))


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or not one of this agent's or run's; told in one line, whatever it holds."""

    def __init__(self, message: str):
        super().__init__(printable(message[:2000]))


class NotFiniteError(ArithmeticError):
    """A NaN or an infinity where a number must be; one line that names what, and when."""
