"""Settings of a task: checked by their defaults, and written as tensors into the state of an environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from utils.errors import ConfigError
from utils.settings.values import parse_bool, parse_float, parse_int
from utils.text import did_you_mean

Value = bool | int | float | str | tuple                # a tuple: of bool, int or float
PARSED = {bool: parse_bool, int: parse_int, float: parse_float}
NOUNS = {bool: "true or false", int: "an integer", float: "a number", str: "text"}


def checked(task: str, defaults: Mapping[str, Value], limits: Mapping[str, tuple], changes: Mapping[str, Any],
            ) -> dict[str, Value]:
    """Return the changes as values of the types that the defaults have.

    Args:
        task: its name, for messages.
        limits: name -> (lowest, highest) of numbers; None: no limit.
    Raises:
        ConfigError: a setting is unknown, of another type, or beyond its limits.
    """
    return {name: _checked(task, name, defaults, limits.get(name, (None, None)), value)
            for name, value in changes.items()}


def _checked(task: str, name: str, defaults: Mapping[str, Value], limit: tuple, value: Any) -> Value:
    if name not in defaults:
        hint = did_you_mean(name, defaults) or f"; expected one of {', '.join(defaults) or 'none'}"
        raise ConfigError(f"env: {task} has no setting {name!r}{hint}")
    try:
        parsed = _parsed(value, defaults[name])
    except (TypeError, ValueError, KeyError, OverflowError):
        _refuse(task, name, value, _kind(defaults[name]))
    low, high = limit
    numbers = parsed if isinstance(parsed, tuple) else (parsed,)
    if any((low is not None and one < low) or (high is not None and one > high) for one in numbers):
        _refuse(task, name, value, f"at least {low}" if high is None else f"{low} to {high}")
    return parsed


def _parsed(value: Any, default: Value) -> Value:
    if isinstance(default, str):
        return value if isinstance(value, str) else _wrong()
    if not isinstance(default, tuple):
        return PARSED[type(default)](value)
    if not isinstance(value, (list, tuple)) or len(value) != len(default):
        _wrong()
    return tuple(_parsed(one, like) for one, like in zip(value, default, strict=True))


def _wrong() -> NoReturn:
    raise ValueError


def _kind(default: Value) -> str:
    return f"{len(default)} numbers" if isinstance(default, tuple) else NOUNS[type(default)]


def _refuse(task: str, name: str, value: Any, expected: str) -> NoReturn:
    raise ConfigError(f"env: {task}'s setting {name}: got {value!r}, expected {expected}") from None


def as_tensor(value: Value) -> Tensor:
    """Return a value as a tensor: numbers as float64, text as its bytes."""
    return torch.tensor(list(value.encode()) if isinstance(value, str) else value,
                        dtype=torch.uint8 if isinstance(value, str) else torch.float64)


def as_value(tensor: Tensor, default: Value) -> Value:
    """Return the value that `as_tensor` wrote, of the default's type."""
    if isinstance(default, str):
        return bytes(tensor.tolist()).decode()
    if isinstance(default, tuple):
        return tuple(type(like)(one) for one, like in zip(tensor.tolist(), default, strict=True))
    return type(default)(tensor.item())
