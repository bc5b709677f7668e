"""Values of settings, read from Python, from JSON or from the text of a flag."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from utils.settings.kernels import EXPECTED, parse_kernels

DEVICE = r"auto|cpu|mps|cuda(:[0-9]{1,3})?"
MOST_SEEDS = 1000
MOST_NUMBERS = 100              # of a list of integers


def parse_int(value: Any) -> int:
    """An integer; `1e6` and 5.0 are integers, True is not."""
    if isinstance(value, bool):
        _refuse()
    if hasattr(value, "__index__"):
        return value.__index__()
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+", value):
        return int(value)
    number = float(value)                       # 1e6 is a number of steps
    return int(number) if number == int(number) else _refuse()


def parse_float(value: Any) -> float:
    """A finite number; True is none."""
    if isinstance(value, bool) or not math.isfinite(float(value)):
        _refuse()
    return float(value)


def parse_bool(value: Any) -> bool:
    """True or False, also NumPy's, or a word for one of them."""
    if type(value).__name__ in ("bool", "bool_"):       # bool_: NumPy's
        return bool(value)
    words = {"true": True, "yes": True, "t": True, "y": True, "1": True,
             "false": False, "no": False, "f": False, "n": False, "0": False}
    return words[value.lower()] if isinstance(value, str) and value.lower() in words else _refuse()


def parse_str(value: Any) -> str:
    """Text, unchanged."""
    return value if isinstance(value, str) else _refuse()


def parse_device(value: Any) -> str:
    """The name of a device."""
    return value if isinstance(value, str) and re.fullmatch(DEVICE, value) else _refuse()


def parse_integers(value: Any) -> tuple[int, ...]:
    """Integers, at least one: `256,128` or a list."""
    numbers = [_digits(part) for part in value.split(",", MOST_NUMBERS)] if isinstance(value, str) else value
    if not isinstance(numbers, (list, tuple)) or not 0 < len(numbers) <= MOST_NUMBERS:
        _refuse()
    return tuple(parse_int(_number(one)) for one in numbers)


def parse_seeds(value: Any) -> tuple[int, ...]:
    """Seeds, each once: `0,1,2`, `0-4` or a list."""
    if isinstance(value, str):
        seeds = [seed for part in value.split(",", MOST_SEEDS) for seed in _parse_range(part)]
    elif isinstance(value, (list, tuple)):
        seeds = [parse_int(_number(seed)) for seed in value]
    else:
        _refuse()
    if not 0 < len(seeds) <= MOST_SEEDS or len(set(seeds)) < len(seeds):
        _refuse()
    return tuple(seeds) if all(0 <= seed < 2**63 for seed in seeds) else _refuse()


def parse_object(value: Any) -> dict[str, Any]:
    """An object of JSON, as text or as a dict of JSON values."""
    if not isinstance(value, (str, dict)):
        _refuse()
    text = value if isinstance(value, str) else json.dumps(value, allow_nan=False)
    found = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=lambda name: _refuse())
    return found if isinstance(found, dict) else _refuse()


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(pairs) if len(dict(pairs)) == len(pairs) else _refuse()


def as_text(value: Any) -> str:
    """A value as the text of a flag."""
    if isinstance(value, dict):
        return json.dumps(value)
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _digits(text: str) -> int:
    """An integer of a list that is text; no `1e6` there."""
    return int(text) if re.fullmatch(r" *[+-]?[0-9]+ *", text) else _refuse()


def _number(value: Any) -> Any:
    """An item of a list, which must not be text."""
    return value if not isinstance(value, str) else _refuse()


def _parse_range(text: str) -> range:
    """'3' or '0-4', both ends included."""
    match = re.fullmatch(r" *([0-9]+) *(?:- *([0-9]+) *)?", text) or _refuse()
    first, last = int(match[1]), int(match[2] or match[1])
    return range(first, last + 1) if first <= last < first + MOST_SEEDS else _refuse()


def _refuse() -> NoReturn:
    raise ValueError


# By the type of a setting or, where it has one, by its form: (how a value is read, what is expected).
KINDS: dict[Any, tuple[Callable[[Any], Any], str]] = {
    int: (parse_int, "an integer"),
    float: (parse_float, "a finite number"),
    bool: (parse_bool, "True or False"),
    str: (parse_str, "a string"),
    tuple[int, ...]: (parse_integers, f"at least 1 and at most {MOST_NUMBERS} integers, such as 256,256"),
    dict: (parse_object, 'an object of JSON, such as {"size": 5}'),
    "device": (parse_device, "cpu, cuda, cuda:N, mps or auto"),
    "kernels": (parse_kernels, EXPECTED),
    "seeds": (parse_seeds, f"at most {MOST_SEEDS} seeds, each once and at least 0, such as 0,1,2 or 0-4"),
}
