"""Names of environments."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from envs.atari import game_id
from envs.registration import OWN
from utils.errors import ConfigError
from utils.settings.games import GAMES, is_atari
from utils.text import did_you_mean

MUJOCO = ("Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "InvertedDoublePendulum", "InvertedPendulum",
          "Pusher", "Reacher", "Swimmer", "Walker2d")


@dataclass(frozen=True)
class EnvName:
    """The registered id and the arguments of the environment that a name means."""

    id: str
    kwargs: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return self.id + "".join(f", {name}={value}" for name, value in sorted(self.kwargs.items()))


def resolve_env(name: str, given: dict[str, Any] | None = None) -> EnvName:
    """The environment that a name means: itself, a game, its newest version, or -v4 for MuJoCo's -v2 and -v3.

    Args:
        given: arguments of the environment.

    Gymnasium has dropped -v2 and -v3; -v4 is the same task on the present bindings, but for two: Ant's -v2 and -v3
    include contact forces (111 numbers), which -v4 leaves out (27 numbers) by default, and Humanoid-v4 lacks the cost
    of contacts, see `missing_reward`.
    """
    given = given or {}
    if is_atari(name):
        return EnvName(game_id(name), given)
    if own := [id for id in OWN if id.rpartition("-v")[0] == name]:
        return EnvName(own[-1], given)
    match = re.fullmatch(r"(\w+)-v[23]", name)
    if match is None or match[1] not in MUJOCO:
        return EnvName(with_version(name), given)
    return EnvName(f"{match[1]}-v4", ({"use_contact_forces": True} if match[1] == "Ant" else {}) | given)


def missing_reward(name: str) -> str:
    """What the reward of an alias lacks that the version had which it names; "" if nothing."""
    if not re.fullmatch(r"Humanoid-v[23]", name):
        return ""
    return (f"{name} runs as Humanoid-v4, whose reward lacks the contact cost of {name}, "
            "min(0.5e-6 |cfrc_ext|^2, 10) a step; Humanoid-v5 has one, with other observations")


def without_module(name: str) -> str:
    """The id of `module:id`, under which it is registered; another name is returned unchanged."""
    return name.rpartition(":")[2]


def with_version(name: str) -> str:
    """An id without a version with its newest one, `HalfCheetah` -> `HalfCheetah-v5`; any other name as it is.

    Of `module:id` the module must have been imported.
    """
    plain = name.rpartition(":")[2]
    if plain in gym.registry or is_atari(name):
        return name
    versions = [spec.version for spec in gym.registry.values() if spec.id == f"{plain}-v{spec.version}"]
    return f"{name}-v{max(versions)}" if versions else name


def check_registered(name: str) -> None:
    """Check that an environment is registered; of `module:id`, the module must have been imported.

    The environment is not made, so making it may still fail.

    Raises:
        ConfigError: it is not registered.
    """
    try:
        if not is_atari(name):
            gym.spec(without_module(resolve_env(name).id))
    except gym.error.UnregisteredEnv:
        raise unknown_env(name) from None
    except gym.error.Error:                             # of an old version: making it says so
        pass


def unknown_env(name: str) -> ConfigError:
    """The error for a name that is not registered; it suggests the nearest one, and how one of the user's is found."""
    module, colon, plain = name.rpartition(":")
    hint = did_you_mean(plain, [*gym.registry, *GAMES]) or ", expected a registered Gymnasium id"
    own = f"the module {module} does not register it" if colon else \
        "--import=MODULE imports the module that registers one of your own"
    return ConfigError(f"env: got {name!r}{hint}; {own}")
