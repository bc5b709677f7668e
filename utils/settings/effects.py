"""Settings that are read only beside another one: given without it, they would have no effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from utils.errors import ConfigError
from utils.settings.algorithms import ALGORITHMS, any_of
from utils.settings.fields import Config
from utils.settings.policies import BUILT_IN
from utils.settings.values import as_text

# Each with the setting, and its values, that make it read; no values: any but none and 0.
READ_WITH: dict[str, tuple[str, tuple[Any, ...]]] = {
    "lstm_size": ("policy", ("recurrent",)),
    "lstm_layers": ("policy", ("recurrent",)),
    "encoder_size": ("policy", ("keyed",)),
    "shared_sizes": ("policy", ("actor_critic", "actor_only")),
    "shared_encoder": ("policy", ("conv", "recurrent", "keyed")),
    "features": ("encoder", ("plain",)),
    "object_dims": ("encoder", ("objects",)),
    "object_sizes": ("encoder", ("objects",)),
    "actor_gain": ("orthogonal", (True,)),
    "critic_gain": ("orthogonal", (True,)),
    "vf_clip_max": ("vf_clip_coef", ()),
    "kl_stop": ("target_kl", ()),
    "obs_clip": ("obs_normalization", (True,)),
    "obs_eps": ("obs_normalization", (True,)),
    "lr_decay": ("lr_schedule", ("exponential",)),
    "lr_start": ("lr_warmup", ()),
}


def without_effect(config: Config, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """Return the names of those given settings that differ from their defaults and are not read.

    None are of an algorithm or, if they depend on the policy, of a policy of a user's own, which may read anything.
    """
    if not ALGORITHMS[config.basis_alg or config.alg].built_in:
        return []
    return [name for name in READ_WITH
            if name in given and given[name] != defaults.get(name) and not _is_read(name, config)]


def _is_read(name: str, config: Config) -> bool:
    other, values = READ_WITH[name]
    value = getattr(config, other)
    own = other == "policy" and value not in BUILT_IN
    return own or (value in values if values else bool(value))


def no_effect(name: str, config: Config) -> ConfigError:
    """The error of a setting that `without_effect` names."""
    other, values = READ_WITH[name]
    beside = f"with --{other}={getattr(config, other)}" if values else f"without --{other}"
    expected = any_of(list(map(str, values))) if values else "X as well"
    return ConfigError(f"{name}: got {as_text(getattr(config, name))} {beside}, expected --{other}={expected}, which "
                       "reads it")
