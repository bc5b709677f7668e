"""Names of environments."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import gymnasium as gym

from envs.atari import game_id
from utils.errors import ConfigError
from utils.settings.fields import GAMES, is_atari
from utils.text import did_you_mean

MUJOCO = ("Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "InvertedDoublePendulum", "InvertedPendulum",
          "Pusher", "Reacher", "Swimmer", "Walker2d")


@dataclass(frozen=True)
class EnvName:
    """The registered id and the arguments of the environment that a name means."""

    id: str
    kwargs: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return self.id + "".join(f", {name}={value}" for name, value in self.kwargs.items())


def resolve_env(name: str) -> EnvName:
    """The environment that a name means: itself, a game, its newest version, or -v4 for MuJoCo's -v2 and -v3.

    Gymnasium has dropped -v2 and -v3; -v4 is the same task on the present bindings. Only Ant observes something else:
    -v2 and -v3 include contact forces (111 numbers), which -v4 leaves out (27 numbers) by default.
    """
    if is_atari(name):
        return EnvName(game_id(name))
    match = re.fullmatch(r"(\w+)-v[23]", name)
    if match is None or match[1] not in MUJOCO:
        return EnvName(with_version(name))
    return EnvName(f"{match[1]}-v4", {"use_contact_forces": True} if match[1] == "Ant" else {})


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
            gym.spec(resolve_env(name).id.rpartition(":")[2])
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
