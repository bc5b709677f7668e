"""The Atari games, and what differs in their settings."""

from __future__ import annotations

from typing import Any

# Settings that only the Atari games read, and their defaults of common ones; the original's.
ATARI: dict[str, Any] = dict(sticky=False, noop=30, frames=4, test_eps=0.001, epochs=10, cycles=20, iterations=500,
                             test_rollouts=5, test_timesteps=27000, warmup=30000)
REWS_SCALE = 1.0

GAMES = (
    "Adventure", "AirRaid", "Alien", "Amidar", "Assault", "Asterix", "Asteroids", "Atlantis", "BankHeist",
    "BattleZone", "BeamRider", "Berzerk", "Bowling", "Boxing", "Breakout", "Carnival", "Centipede",
    "ChopperCommand", "CrazyClimber", "Defender", "DemonAttack", "DoubleDunk", "ElevatorAction", "Enduro",
    "FishingDerby", "Freeway", "Frostbite", "Gopher", "Gravitar", "Hero", "IceHockey", "Jamesbond",
    "JourneyEscape", "Kangaroo", "Krull", "KungFuMaster", "MontezumaRevenge", "MsPacman", "NameThisGame",
    "Phoenix", "Pitfall", "Pong", "Pooyan", "PrivateEye", "Qbert", "Riverraid", "RoadRunner", "Robotank",
    "Seaquest", "Skiing", "Solaris", "SpaceInvaders", "StarGunner", "Tennis", "TimePilot", "Tutankham", "UpNDown",
    "Venture", "VideoPinball", "WizardOfWor", "YarsRevenge", "Zaxxon",
)


def is_atari(env: str) -> bool:
    """Whether an environment's name is a game's: `Assault`, as the original called it, or `ALE/Assault-v5`."""
    return env.startswith("ALE/") or env in GAMES
