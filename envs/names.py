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
    """The registered id and arguments that a name stands for."""

    id: str
    kwargs: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return self.id + "".join(f", {name}={value}" for name, value in self.kwargs.items())


def resolve_env(name: str) -> EnvName:
    """MuJoCo's -v2 and -v3 ids left Gymnasium; -v4 is the same task on today's bindings.

    Ant is the exception in width: -v2 and -v3 observed contact forces (111 numbers), which -v4 leaves out (27)
    unless asked.
    """
    if is_atari(name):
        return EnvName(game_id(name))
    match = re.fullmatch(r"(\w+)-v[23]", name)
    if match is None or match[1] not in MUJOCO:
        return EnvName(name)
    return EnvName(f"{match[1]}-v4", {"use_contact_forces": True} if match[1] == "Ant" else {})


def check_registered(name: str) -> None:
    """Raises ConfigError if there is no such environment; of `module:id` the module must have been imported.

    None is made, so that one which is there may still fail.
    """
    try:
        if not is_atari(name):
            gym.spec(resolve_env(name).id.rpartition(":")[2])
    except gym.error.UnregisteredEnv:
        raise unknown_env(name) from None
    except gym.error.Error:                             # of an id without its version Gymnasium makes the newest
        pass


def unknown_env(name: str) -> ConfigError:
    hint = did_you_mean(name, [*gym.registry, *GAMES])
    return ConfigError(f"env: got {name!r}{hint or ', expected a registered Gymnasium id'}")
