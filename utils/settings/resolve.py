"""Settings checked, and filled in with the defaults of the algorithm and the environment."""

from __future__ import annotations

from typing import Any

from utils.errors import ConfigError
from utils.settings.algorithms import (
    ALGORITHMS,
    any_of,
    bases,
    decompositions,
    defaults_of,
    diagnosed,
    is_decomposition,
    names,
)
from utils.settings.fields import ATARI, FIELDS, REWS_SCALE, SCHEDULES, Config, all_settings, is_atari
from utils.settings.near import called_elsewhere
from utils.settings.setting import Setting
from utils.text import did_you_mean, shown


def resolve(given: dict[str, Any]) -> Config:
    """Check the given settings, and fill in the defaults of the algorithm and the environment.

    Args:
        given: settings by name, as parsed from JSON or flags. None counts as not given.
    Raises:
        ConfigError: an unknown name (with the nearest known one), a wrong type or range, a setting that
            the chosen algorithm does not read, or a combination that cannot work.
    """
    values = {name: coerce(name, value) for name, value in given.items() if value is not None}
    defaults = environment_defaults(values) | algorithm_defaults(values)
    known = all_settings()
    for name in values:
        if known[name].default is None and known[name].belongs != "run" and not reads(name, defaults):
            read = [one for one in known if reads(one, defaults)]
            raise ConfigError(f"{name}: not a setting of {_algorithm_name(values)}; it belongs to {_readers(name)}"
                              + called_elsewhere(name, read))
    config = _build(defaults | values)
    _check_together(config)
    return config


def _build(values: dict[str, Any]) -> Config:
    own = tuple((name, value) for name, value in values.items() if name not in FIELDS)
    return Config(own=tuple(sorted(own)), **{name: value for name, value in values.items() if name in FIELDS})


def reads(name: str, defaults: dict[str, Any]) -> bool:
    """Whether the algorithm of these defaults reads a setting that not every algorithm reads."""
    return name in defaults or all_settings()[name].beside in defaults


def environment_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The defaults of the kind of environment that `values` chooses."""
    if not is_atari(values.get("env", Config.env)):
        return {}
    return ATARI | (dict(rews_scale=REWS_SCALE) if values.get("env_type") == "normal" else {})


def algorithm_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The defaults of the algorithm that `values` chooses, by the original's rules."""
    defaults = _defaults_of(values)
    return SCHEDULES[values.get("lr_schedule", defaults.get("lr_schedule", "constant"))] | defaults


def _defaults_of(values: dict[str, Any]) -> dict[str, Any]:
    alg, env = values.get("alg", Config.alg), values.get("env", Config.env)
    if not is_decomposition(alg):
        return _basis_defaults("alg", alg, values, names())
    basis = _basis(values)
    defaults = {"basis_alg": basis} | _basis_defaults("basis_alg", basis, values, bases())
    defaults |= ALGORITHMS[alg].defaults_over(basis, env)
    if "rrd_batch_size" in defaults:                    # at least one sub-sequence, however long
        defaults["rrd_batch_size"] = max(defaults["rrd_batch_size"], values.get("rrd_sample_size", 0))
    return defaults


def _basis(values: dict[str, Any]) -> str:
    return values.get("basis_alg", "dqn" if is_atari(values.get("env", Config.env)) else "sac")


def _basis_defaults(field: str, name: str, values: dict[str, Any], allowed: list[str]) -> dict[str, Any]:
    if name not in bases():
        raise unknown_algorithm(field, name, allowed)
    return ALGORITHMS[name].defaults_with(values.get("optimizer"))


def unknown_algorithm(field: str, name: str, allowed: list[str]) -> ConfigError:
    """The error of a setting that names no algorithm of the table."""
    return ConfigError(f"{field}: got {name!r}{did_you_mean(name, allowed)}, expected one of {', '.join(allowed)}, "
                       "or one of your own, which --import=MODULE brings")


def not_diagnosed(alg: str, otherwise: str, another: str) -> str:
    """Why the rewards of an algorithm are not diagnosed, and what helps.

    Args:
        otherwise: what helps as well, such as "0, or ".
        another: what stands before the names of algorithms that are diagnosed, such as "--alg=".
    """
    return f"{alg} learns no reward; expected {otherwise}{another}{any_of(diagnosed())}"


def _check_together(config: Config) -> None:
    if config.diagnose_every and config.alg not in diagnosed():
        raise ConfigError(f"diagnose_every: got {config.diagnose_every}, but "
                          f"{not_diagnosed(config.alg, '0, or ', '--alg=')}")
    if config.rrd_bias_correction and config.rrd_sample_size == 1:
        raise ConfigError("rrd_sample_size: got 1 with rrd_bias_correction, expected at least 2 "
                          "(the variance of one step is not defined)")
    if config.rrd_sample_size and config.rrd_batch_size and config.rrd_batch_size < config.rrd_sample_size:
        raise ConfigError(f"rrd_batch_size: got {config.rrd_batch_size}, expected at least "
                          f"rrd_sample_size ({config.rrd_sample_size}): one sub-sequence")
    if config.lr_schedule == "exponential" and config.lr_end == 0:
        raise ConfigError("lr_end: got 0 with --lr_schedule=exponential, expected a fraction above 0")


def check_reads(config: Any, *required: str) -> None:
    """Raise a ConfigError if the algorithm does not read one of these settings, but a part of it does."""
    for name in (name for name in required if getattr(config, name, None) is None):
        raise ConfigError(f"{name}: not a setting of {config.alg}, but a part of {config.alg} reads it; expected it "
                          f"among the defaults that {config.alg} is registered with")


def check_resolved(config: Config) -> None:
    """Raise a ConfigError if the Config was made by hand, so that the algorithm lacks settings or sizes."""
    defaults = algorithm_defaults(config.settings())
    for name in ("obs_dims", "acts_dims", "obs_scale", *(name for name in defaults if defaults[name] is not None)):
        if getattr(config, name, None) is None:
            raise ConfigError(f"{name}: missing in the Config; expected one that utils.settings.resolve.resolve gives, "
                              "with the sizes of utils.settings.sizes.with_sizes")


def coerce(name: str, value: Any) -> Any:
    """The value in the setting's type and range, from a Python value, a JSON value or a flag's text.

    Raises:
        ConfigError: the setting is unknown, or the value is wrong.
    """
    return find_setting(name).checked(value)


def find_setting(name: str) -> Setting:
    """The setting of this name; a ConfigError names the nearest if there is none."""
    known = all_settings()
    if name not in known:
        raise unknown_setting(shown(name), name, known)
    return known[name]


def unknown_setting(place: str, name: str, known) -> ConfigError:
    """The error of an unknown name: the nearest known one, or how an algorithm's own settings become known."""
    hint = called_elsewhere(name, known) or did_you_mean(name, known)
    own = "; the settings of an algorithm of your own need --import=MODULE"
    return ConfigError(f"{place}: unknown setting{hint or own}")


def choices_of(name: str) -> list[str] | None:
    """The words that a setting may be, if only some are allowed."""
    if name in ("alg", "basis_alg"):
        return names() if name == "alg" else bases()
    choices = all_settings()[name].choices
    return list(choices) if choices else None


def _readers(name: str) -> str:
    if name == "rews_scale":
        return "the Atari games with --env_type=normal"
    if name in ATARI:
        return "the Atari games"
    if by_schedule := [f"--lr_schedule={schedule}" for schedule, defaults in SCHEDULES.items() if name in defaults]:
        return ", ".join(by_schedule)
    name = all_settings()[name].beside or name
    by_optimizer = [f"{alg} with --optimizer={optimizer}" for alg in bases() if ALGORITHMS[alg].built_in
                    for optimizer, defaults in ALGORITHMS[alg].by_optimizer.items() if name in defaults]
    return ", ".join([*defaults_of(name), *by_optimizer] or decompositions())


def _algorithm_name(values: dict[str, Any]) -> str:
    alg = values.get("alg", Config.alg)
    return f"{alg} over {_basis(values)}" if is_decomposition(alg) else alg
