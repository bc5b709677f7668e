"""Settings checked, and filled in with the defaults of the algorithm and the environment."""

from __future__ import annotations

import math
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
    is_on_policy,
    names,
)
from utils.settings.effects import no_effect, without_effect
from utils.settings.fields import DERIVED, FIELDS, Config, all_settings
from utils.settings.games import ATARI, REWS_SCALE, is_atari
from utils.settings.near import called_elsewhere
from utils.settings.policies import POLICIES
from utils.settings.setting import SCHEDULES, Setting
from utils.text import did_you_mean, shown


def resolve(given: dict[str, Any]) -> Config:
    """Check the given settings, and fill in the defaults of the algorithm and the environment.

    Args:
        given: settings by name, as parsed from JSON or flags. None counts as not given.
    Raises:
        ConfigError: an unknown name (with the nearest known one), a wrong type or range, a setting that
            the chosen algorithm does not read, one that has no effect beside the others, or a combination that cannot
            work.
    """
    values, defaults = _with_defaults(given)
    config = _build(defaults | values)
    _check_together(config)
    for name in without_effect(config, values, defaults):
        raise no_effect(name, config)
    return config


def effective(given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings less those that have no effect beside the others, which `resolve` refuses.

    Older records, and tables of settings that flags may change, have some.

    Raises:
        ConfigError: as `resolve`, of a name or value.
    """
    values, defaults = _with_defaults(given)
    idle = without_effect(_build(defaults | values), values, defaults)
    return {name: value for name, value in given.items() if name not in idle}


def _with_defaults(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the checked settings, and the defaults of the algorithm and the environment."""
    values = {name: coerce(name, value) for name, value in given.items() if value is not None}
    if not values.get("env_kwargs", True):              # no arguments are none given
        del values["env_kwargs"]
    defaults = environment_defaults(values) | algorithm_defaults(values)
    known = all_settings()
    for name in values:
        if known[name].default is None and known[name].belongs not in ("run", "env") and not reads(name, defaults):
            read = [one for one in known if reads(one, defaults)]
            raise ConfigError(f"{name}: not a setting of {_algorithm_name(values)}; it belongs to {_readers(name)}"
                              + called_elsewhere(name, read))
    if is_on_policy(basis_of(values)):
        defaults |= _rollout_defaults(values, defaults)
    return values, defaults


def basis_of(values: dict[str, Any]) -> str:
    """The algorithm that learns the policy: the basis of a decomposition, else `alg` itself."""
    alg = values.get("alg", Config.alg)
    return _basis(values) if is_decomposition(alg) else alg


def _rollout_defaults(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """What follows, on policy, from the length of a rollout, the environments, the epochs and the batch.

    Raises:
        ConfigError: one of them is given, or the batch is larger than the rollout.
    """
    for name in (name for name in DERIVED if name in values):
        raise ConfigError(f"{name}: not a setting of {_algorithm_name(values)}, where it follows from rollout_steps, "
                          "num_envs, n_epochs and batch_size")
    chosen = defaults | values
    steps = chosen["rollout_steps"] * chosen.get("num_envs", Config.num_envs)
    if values.get("batch_size", 0) > steps:
        raise ConfigError(f"batch_size: got {values['batch_size']}, expected at most rollout_steps * num_envs "
                          f"({steps})")
    batch = values.get("batch_size") or min(chosen["batch_size"] or steps, steps)
    pictures = {"policy": "conv"} if is_atari(values.get("env", Config.env)) else {}
    cycle = defaults.get("iterations", Config.iterations) * Config.timesteps        # about as many steps as off policy
    return {"timesteps": steps, "batch_size": batch, "train_batches": chosen["n_epochs"] * math.ceil(steps / batch),
            "iterations": max(1, round(cycle / steps)), **pictures}


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
    clips = values.get("env_type") == "normal" and not values.get("reward_every")
    return ATARI | (dict(rews_scale=REWS_SCALE) if clips else {})


def algorithm_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The defaults of the algorithm that `values` chooses, by the original's rules."""
    defaults = _defaults_of(values)
    return SCHEDULES[values.get("lr_schedule") or defaults.get("lr_schedule") or "constant"] | defaults


def _defaults_of(values: dict[str, Any]) -> dict[str, Any]:
    alg, env = values.get("alg", Config.alg), values.get("env", Config.env)
    if not is_decomposition(alg):
        return _basis_defaults("alg", alg, values, names())
    basis = _basis(values)
    defaults = {"basis_alg": basis} | _basis_defaults("basis_alg", basis, values, bases())
    own = ALGORITHMS[alg].defaults_over(basis, env)
    if is_on_policy(basis):                             # its batches are those of the basis, which has no targets
        own = {"fit_updates": None} | {name: own[name] for name in own if name not in OFF_POLICY}
    defaults |= own
    if "rrd_batch_size" in defaults:                    # at least one sub-sequence, however long
        defaults["rrd_batch_size"] = max(defaults["rrd_batch_size"], values.get("rrd_sample_size", 0))
    return defaults


# The settings of a decomposition that it does not read over an on-policy basis.
OFF_POLICY = ("batch_size", "polyak", "fit_every", "credit_steps")


def _basis(values: dict[str, Any]) -> str:
    return values.get("basis_alg", "dqn" if is_atari(values.get("env", Config.env)) else "sac")


def _basis_defaults(field: str, name: str, values: dict[str, Any], allowed: list[str]) -> dict[str, Any]:
    if name not in bases():
        raise unknown_algorithm(field, name, allowed)
    return ALGORITHMS[name].defaults_with(values.get("optimizer"))


def unknown_algorithm(field: str, name: str, allowed: list[str]) -> ConfigError:
    """The error of a setting that names no algorithm of the table."""
    return ConfigError(f"{field}: got {name!r}{did_you_mean(name, allowed)}, expected one of {', '.join(allowed)}, "
                       "or one of your own with --import=MODULE")


def not_diagnosed(alg: str, otherwise: str, another: str) -> str:
    """Why the rewards of an algorithm are not diagnosed, and what is expected instead.

    Args:
        otherwise: another expected value, such as "0, or ".
        another: the text before the names of algorithms that are diagnosed, such as "--alg=".
    """
    return f"{alg} learns no reward; expected {otherwise}{another}{any_of(diagnosed())}"


# Arguments of `gymnasium.make` that are chosen otherwise.
CHOSEN = {"id": "--env", "max_episode_steps": "--test_timesteps", "disable_env_checker": "nothing: it is off"}


def _check_together(config: Config) -> None:
    for name in ("env_kwargs", "eval_env_kwargs"):
        for argument in CHOSEN.keys() & (getattr(config, name) or {}).keys():
            raise ConfigError(f"{name}: got {argument}, expected {CHOSEN[argument]}")
    for name in ("object_dims", "object_sizes"):
        if (numbers := getattr(config, name)) is not None and len(numbers) != 2:
            raise ConfigError(f"{name}: got {numbers}, expected two numbers: of the boat itself, and of each object")
    if config.v_min is not None and config.v_min >= config.v_max:
        raise ConfigError(f"v_min: got {config.v_min}, expected less than v_max ({config.v_max})")
    if config.diagnose_every and config.alg not in diagnosed():
        raise ConfigError(f"diagnose_every: got {config.diagnose_every}, but "
                          f"{not_diagnosed(config.alg, '0, or ', '--alg=')}")
    if config.rrd_bias_correction and config.rrd_sample_size == 1:
        raise ConfigError("rrd_sample_size: got 1 with rrd_bias_correction, expected at least 2 "
                          "(the variance of one step is not defined)")
    if config.rrd_sample_size and config.rrd_batch_size and config.rrd_batch_size < config.rrd_sample_size:
        raise ConfigError(f"rrd_batch_size: got {config.rrd_batch_size}, expected at least "
                          f"rrd_sample_size ({config.rrd_sample_size}): one sub-sequence")
    _check_policy(config)
    if config.group_size and config.num_envs % config.group_size:
        raise ConfigError(f"num_envs: got {config.num_envs}, expected a multiple of group_size ({config.group_size}), "
                          "such as --num_envs=64")
    if config.lr_schedule == "exponential" and config.lr_end == 0:
        raise ConfigError("lr_end: got 0 with --lr_schedule=exponential, expected a fraction above 0")


def _check_policy(config: Config) -> None:
    if config.policy is not None and config.policy not in POLICIES:
        raise ConfigError(f"policy: got {config.policy!r}{did_you_mean(config.policy, POLICIES)}, expected one of "
                          f"{', '.join(POLICIES)}, or one of your own, which --import=MODULE brings")
    if config.on_policy and config.engine == "cudagraph" and config.timesteps % config.batch_size:
        raise ConfigError(f"batch_size: got {config.batch_size} with --engine=cudagraph, expected a divisor of "
                          f"rollout_steps * num_envs ({config.timesteps}): all minibatches must be of one size")


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
    if name == "policy":
        return list(POLICIES)
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
