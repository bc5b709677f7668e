"""One setting: its name, type, default, range and help, and what it belongs to."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import KW_ONLY, dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

from utils.errors import ConfigError
from utils.settings.values import KINDS


@dataclass(frozen=True)
class Group:
    """A group of settings.

    heading: of the group in `--help`.
    section: of a JSON file.
    note: what `--help` adds to the heading.
    read_by_agent: whether agents and replays read these settings, or only the program that runs them.
    per_algorithm: whether an algorithm may have a default of its own for them.
    """

    heading: str
    section: str
    read_by_agent: bool = False
    per_algorithm: bool = False
    note: str = ""


_DEPENDS = " (defaults depend on --alg and --basis_alg)"
GROUPS = {
    "choice": Group("run", "algorithm", read_by_agent=True),
    "compute": Group("run", "runtime", read_by_agent=True),
    "run": Group("run", "runtime"),
    "env": Group("environment and evaluation", "env"),
    "atari": Group("Atari", "env"),
    "learning": Group("learning", "algorithm", read_by_agent=True, per_algorithm=True),
    "algorithm": Group("algorithm", "algorithm", read_by_agent=True, per_algorithm=True, note=_DEPENDS),
    "policy": Group("policy and critics", "policy", read_by_agent=True, per_algorithm=True, note=_DEPENDS),
    "networks": Group("networks and optimisers", "policy", read_by_agent=True, per_algorithm=True),
}

# The settings that each schedule of the learning rates reads, with their defaults.
SCHEDULES: dict[str, dict[str, float]] = {
    "constant": {},
    "linear": dict(lr_end=0.0, lr_warmup=0.0),
    "cosine": dict(lr_end=0.0, lr_warmup=0.0),
    "exponential": dict(lr_end=0.01),
}


@dataclass(frozen=True)
class Setting:
    """A setting, built in or of a registered algorithm.

    name: a word of letters, digits and underscores; the flag is `--name`.
    type: int, float, bool, str, tuple[int, ...] or, of a built-in one, dict: an object of JSON.
    default: for every algorithm; None: the setting is read only where an algorithm has a default for it.
    help: one sentence, in the units of the setting.
    low, high, above: the range, low <= value <= high and value > above; of a tuple, the range of each number.
    choices: the words that a text may be.
    belongs: a key of `GROUPS`.
    form: "device", "kernels" or "seeds": text with a syntax of its own.
    beside: a setting whose readers read this one as well; None is then a value, the one of the algorithm's authors.
    """

    name: str
    type: Any
    default: Any = None
    _: KW_ONLY
    help: str = ""
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[str, ...] | None = None
    belongs: str = "algorithm"
    form: str = ""
    beside: str | None = None

    @property
    def group(self) -> Group:
        """The group that it belongs to."""
        return GROUPS[self.belongs]

    def checked(self, value: Any) -> Any:
        """The value in this setting's type.

        Raises:
            ConfigError: it has another type, or is out of range.
        """
        parse, expected = KINDS[self.form or self.type]
        try:
            parsed = parse(value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise ConfigError(f"{self.name}: got {value!r}, expected {expected}") from None
        if not all(map(self._within, parsed if isinstance(parsed, tuple) else (parsed,))):
            raise ConfigError(f"{self.name}: got {parsed!r}, expected {self._range(expected)}")
        return parsed

    def _within(self, value: Any) -> bool:
        return ((self.low is None or value >= self.low)
                and (self.high is None or value <= self.high)
                and (not isinstance(value, int) or value < 2**63)
                and (self.above is None or value > self.above)
                and (self.choices is None or value in self.choices))

    def _range(self, expected: str) -> str:
        if self.choices:
            return "one of " + ", ".join(self.choices)
        integers = self.type is not float
        limits = [f"at least {self.low}" if self.low is not None else "",
                  f"above {self.above}" if self.above is not None else "",
                  f"at most {self.high}" if self.high is not None else "below 2**63" if integers else ""]
        each = ", each " if self.type == tuple[int, ...] else " "
        return f"{expected}{each}" + " and ".join(limit for limit in limits if limit)


def setting(default, help, *, low=None, high=None, above=None, choices=None, belongs="run", form="", beside=None):
    """A field of `Config` that is a setting; see `Setting`."""
    metadata = dict(help=help, low=low, high=high, above=above, choices=choices, belongs=belongs, form=form,
                    beside=beside)
    return dataclasses.field(default=default, metadata=metadata)


of_choice = functools.partial(setting, belongs="choice")
of_compute = functools.partial(setting, belongs="compute")
of_env = functools.partial(setting, belongs="env")
of_atari = functools.partial(setting, None, belongs="atari")
of_learning = functools.partial(setting, belongs="learning")
# The default depends on the algorithm (see `utils.settings.algorithms.ALGORITHMS`); None where it is not read.
of_algorithm = functools.partial(setting, None, belongs="algorithm")
of_policy = functools.partial(setting, None, belongs="policy")
of_networks = functools.partial(setting, None, belongs="networks")
of_widths = functools.partial(of_networks, low=1, high=1_000_000)


def fields_of(config: type) -> dict[str, Setting]:
    """The settings among the fields of a dataclass, by name; those that its base has come last."""
    hints, inherited = get_type_hints(config), get_type_hints(config.__base__)
    fields = sorted(dataclasses.fields(config), key=lambda field: field.name in inherited)
    return {field.name: Setting(field.name, _kind(hints[field.name]), field.default, **field.metadata)
            for field in fields if field.metadata}


def _kind(hint: Any) -> Any:
    """int of `int | None`, and so on."""
    return next(one for one in get_args(hint) if one is not NoneType) if isinstance(hint, UnionType) else hint
