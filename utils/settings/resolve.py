"""Settings checked, and filled in with the defaults of the algorithm and the environment."""

from __future__ import annotations

import math
import re
from typing import Any, get_args, get_type_hints

from utils.errors import ConfigError
from utils.settings.fields import (
    ALGORITHMS,
    ATARI,
    DECOMPOSITIONS,
    DIAGNOSED,
    DISCRETE,
    FIELDS,
    OPTIMIZERS,
    OVER_DQN,
    REWS_SCALE,
    Config,
    is_atari,
)
from utils.text import did_you_mean, shown


def resolve(given: dict[str, Any]) -> Config:
    """Check the given settings, fill in the algorithm's defaults, and check what only makes sense together.

    Args:
        given: settings by name, as parsed from JSON or flags. None counts as not given.
    Raises:
        ConfigError: an unknown name (with the nearest known one), a wrong type or range, a setting that
            the chosen algorithm does not read, or a combination that cannot work.
    """
    values = {name: coerce(name, value) for name, value in given.items() if value is not None}
    defaults = environment_defaults(values) | algorithm_defaults(values)
    for name in values:
        if FIELDS[name].default is None and name not in ("total_timesteps", "seeds", *defaults):
            raise ConfigError(f"{name}: not a setting of {_algorithm_name(values)}; it belongs to {_readers(name)}")
    config = Config(**(defaults | values))
    _check_together(config)
    return config


def environment_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The defaults of the kind of environment that `values` chooses."""
    if not is_atari(values.get("env", Config.env)):
        return {}
    return ATARI | (dict(rews_scale=REWS_SCALE) if values.get("env_type") == "normal" else {})


def algorithm_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The defaults of the algorithm that `values` chooses, by the original's rules."""
    alg = values.get("alg", Config.alg)
    if alg not in DECOMPOSITIONS:
        return _basis_defaults("alg", alg, values, [*ALGORITHMS, *DECOMPOSITIONS])
    basis = _basis(values)
    defaults = {"basis_alg": basis} | _basis_defaults("basis_alg", basis, values, list(ALGORITHMS))
    defaults |= OVER_DQN.get(alg, DECOMPOSITIONS[alg]) if basis in DISCRETE else DECOMPOSITIONS[alg]
    if "rrd_batch_size" in defaults:                    # at least one sub-sequence, however long
        defaults["rrd_batch_size"] = max(defaults["rrd_batch_size"], values.get("rrd_sample_size", 0))
    # IRCR is steadier on Humanoid with a fixed temperature; so the original.
    if alg == "ircr" and basis == "sac" and re.match(r"Humanoid-v\d", values.get("env", Config.env)):
        defaults |= dict(alpha_lr=0.0, alpha_init=0.1)
    return defaults


def _basis(values: dict[str, Any]) -> str:
    return values.get("basis_alg", "dqn" if is_atari(values.get("env", Config.env)) else "sac")


def _basis_defaults(field: str, name: str, values: dict[str, Any], allowed: list[str]) -> dict[str, Any]:
    if name not in ALGORITHMS:
        raise ConfigError(f"{field}: got {name!r}{did_you_mean(name, allowed)}, expected one of {_names(allowed)}, or "
                          "one of your own, which --import=MODULE brings")
    defaults = ALGORITHMS[name]
    optimizer = values.get("optimizer", defaults.get("optimizer"))
    return defaults | OPTIMIZERS[optimizer] if "optimizer" in defaults else defaults


def not_diagnosed(alg: str, otherwise: str, another: str) -> str:
    """Why the rewards of an algorithm are not diagnosed, and what helps.

    Args:
        otherwise: what helps as well, such as "0, or ".
        another: what stands before the names of algorithms that are diagnosed, such as "--alg=".
    """
    return f"{alg} learns no reward; expected {otherwise}{another}{', '.join(DIAGNOSED[:-1])} or {DIAGNOSED[-1]}"


def _check_together(config: Config) -> None:
    if config.diagnose_every and config.alg not in DIAGNOSED:
        raise ConfigError(f"diagnose_every: got {config.diagnose_every}, but "
                          f"{not_diagnosed(config.alg, '0, or ', '--alg=')}")
    if config.rrd_bias_correction and config.rrd_sample_size == 1:
        raise ConfigError("rrd_sample_size: got 1 with rrd_bias_correction, expected at least 2 "
                          "(the variance of one step is not defined)")
    if config.rrd_sample_size and config.rrd_batch_size and config.rrd_batch_size < config.rrd_sample_size:
        raise ConfigError(f"rrd_batch_size: got {config.rrd_batch_size}, expected at least "
                          f"rrd_sample_size ({config.rrd_sample_size}): one sub-sequence")


def check_reads(config: Any, *names: str) -> None:
    """A ConfigError if one of these is no setting of the algorithm, for what it is built of, which reads them."""
    for name in (name for name in names if getattr(config, name, None) is None):
        raise ConfigError(f"{name}: not a setting of {config.alg}, but what it is built of reads it; expected it among "
                          f"the defaults that {config.alg} is registered with")


def coerce(name: str, value: Any) -> Any:
    """The value in the field's type and range, from a Python value, a JSON value or a flag's text."""
    _check_name(name)
    kind = field_type(name)
    try:
        value = _PARSERS[kind](value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name}: got {value!r}, expected {_WANTS[kind]}") from None
    limits = FIELDS[name].metadata
    if not _within(value, limits):
        raise ConfigError(f"{name}: got {value!r}, expected {_range(kind, limits)}")
    if name in ("device", "buffer_device") and not re.fullmatch(DEVICE, value):
        raise ConfigError(f"{name}: got {value!r}, expected cpu, cuda, cuda:N or auto")
    return value


def _check_name(name: str) -> None:
    if name not in FIELDS:
        raise ConfigError(f"{shown(name)}: unknown setting{did_you_mean(name, FIELDS)}")


def choices_of(name: str) -> list[str] | None:
    """The words that a setting may be, where only some are."""
    if name in ("alg", "basis_alg"):
        return [*ALGORITHMS, *(DECOMPOSITIONS if name == "alg" else ())]
    choices = FIELDS[name].metadata["choices"]
    return list(choices) if choices else None


def field_type(name: str) -> type:
    """int for `int` and for `int | None`, and so on."""
    hint = _HINTS[name]
    return next((kind for kind in get_args(hint) if kind is not type(None)), hint)


def _parse_int(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    if hasattr(value, "__index__"):
        return value.__index__()
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+", value):
        return int(value)
    number = float(value)                       # 1e6 is a fine number of steps
    if number != int(number):
        raise ValueError
    return int(number)


def _parse_float(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError
    return float(value)


def _parse_bool(value: Any) -> bool:
    if type(value).__name__ in ("bool", "bool_"):       # bool_: NumPy's
        return bool(value)
    words = {"true": True, "yes": True, "t": True, "y": True, "1": True,
             "false": False, "no": False, "f": False, "n": False, "0": False}
    return words[value.lower()] if isinstance(value, str) and value.lower() in words else _refuse()


def _parse_str(value: Any) -> str:
    return value if isinstance(value, str) else _refuse()


def _parse_seeds(value: Any) -> tuple[int, ...]:
    if isinstance(value, str):
        seeds = [seed for part in value.split(",", MOST_SEEDS) for seed in _parse_range(part)]
    elif isinstance(value, (list, tuple)):
        seeds = [_parse_int(seed) if not isinstance(seed, str) else _refuse() for seed in value]
    else:
        _refuse()
    wrong = not seeds or len(seeds) > MOST_SEEDS or len(set(seeds)) < len(seeds)
    return _refuse() if wrong or not all(_within(seed, FIELDS["seed"].metadata) for seed in seeds) else tuple(seeds)


def _parse_range(text: str) -> range:
    """'3' or '0-4', both ends included."""
    match = re.fullmatch(r" *([0-9]+) *(?:- *([0-9]+) *)?", text) or _refuse()
    first, last = int(match[1]), int(match[2] or match[1])
    return range(first, last + 1) if first <= last < first + MOST_SEEDS else _refuse()


def _refuse():
    raise TypeError


DEVICE = r"auto|cpu|cuda(:[0-9]{1,3})?"
MOST_SEEDS = 1000
_PARSERS = {int: _parse_int, float: _parse_float, bool: _parse_bool, str: _parse_str, tuple[int, ...]: _parse_seeds}
_WANTS = {int: "an integer", float: "a finite number", bool: "True or False", str: "a string",
          tuple[int, ...]: f"at most {MOST_SEEDS} seeds, each once and at least 0, such as 0,1,2 or 0-4"}
_HINTS = get_type_hints(Config)


def _within(value: Any, limits) -> bool:
    return ((limits["low"] is None or value >= limits["low"])
            and (limits["high"] is None or value <= limits["high"])
            and (not isinstance(value, int) or value < 2**63)
            and (limits["above"] is None or value > limits["above"])
            and (limits["choices"] is None or value in limits["choices"]))


def _range(kind: type, limits) -> str:
    if limits["choices"]:
        return "one of " + _names(limits["choices"])
    parts = [f"at least {limits['low']}" if limits["low"] is not None else "",
             f"above {limits['above']}" if limits["above"] is not None else "",
             f"at most {limits['high']}" if limits["high"] is not None else "below 2**63" if kind is int else ""]
    return f"{_WANTS[kind]} " + " and ".join(part for part in parts if part)


def _names(names) -> str:
    return ", ".join(names)


def _readers(name: str) -> str:
    if name == "rews_scale":
        return "the Atari games with --env_type=normal"
    if name in ATARI:
        return "the Atari games"
    by_optimizer = {f"dqn with --optimizer={optimizer}": defaults for optimizer, defaults in OPTIMIZERS.items()}
    readers = [alg for alg, defaults in (ALGORITHMS | DECOMPOSITIONS | by_optimizer).items() if name in defaults]
    return _names(readers or DECOMPOSITIONS)


def _algorithm_name(values: dict[str, Any]) -> str:
    alg = values.get("alg", Config.alg)
    return f"{alg} over {_basis(values)}" if alg in DECOMPOSITIONS else alg
