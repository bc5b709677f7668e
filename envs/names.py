"""Names of environments."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import gymnasium as gym

from envs.atari import game_id
from envs.registration import OWN
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
    """The environment that a name means: itself, a game, a task of ours, or -v4 for MuJoCo's -v2 and -v3.

    Gymnasium has dropped -v2 and -v3; -v4 is the same task on the present bindings. Only Ant observes something else:
    -v2 and -v3 include contact forces (111 numbers), which -v4 leaves out (27 numbers) by default.
    """
    if is_atari(name):
        return EnvName(game_id(name))
    if own := [id for id in OWN if id.rpartition("-v")[0] == name]:
        return EnvName(own[-1])
    match = re.fullmatch(r"(\w+)-v[23]", name)
    if match is None or match[1] not in MUJOCO:
        return EnvName(name)
    return EnvName(f"{match[1]}-v4", {"use_contact_forces": True} if match[1] == "Ant" else {})


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
    except gym.error.Error:                             # an id without a version: Gymnasium makes the newest one
        pass


def unknown_env(name: str) -> ConfigError:
    """The error for a name that is not registered; it suggests the nearest one."""
    hint = did_you_mean(name, [*gym.registry, *GAMES])
    return ConfigError(f"env: got {name!r}{hint or ', expected a registered Gymnasium id'}")
