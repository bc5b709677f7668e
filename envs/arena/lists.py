"""Games as lists: what lives, in the order of creation and without gaps, one game a row of every tensor.

The names and shapes are those of the reference cases: `player_pos` (N, 2), `enemy_pos` (N, 8, 2), `proj_life` (N, P),
and so on; `..._alive` marks what is there, the rest is 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from envs.arena import games as at
from envs.arena.games import BORN, COOLDOWN, HP, POS, UNUSED, VEL, Games
from envs.arena.rules import ENEMY_SHOTS, SHOTS
from utils.errors import ConfigError

COUNTS = {"step": at.STEP, "phase": at.PHASE, "phase_start_step": at.PHASE_START, "win_step": at.WIN_STEP,
          "enemies_destroyed": at.ENEMIES_DESTROYED, "spawners_destroyed": at.SPAWNERS_DESTROYED,
          "first_spawner_kill_step": at.FIRST_KILL}
BEFORE = {"prev_spawner_health": at.SPAWNER_BEFORE, "prev_player_health": at.PLAYER_BEFORE}
FIELDS = {"enemy": {"health": HP, "cooldown": COOLDOWN, "speed": at.SPEED},
          "spawner": {"health": HP, "cooldown": COOLDOWN, "interval": at.INTERVAL}}


def as_lists(games: Games) -> dict[str, Tensor]:
    """Return games as lists."""
    counts, player = games.counts, games.player
    lists = {"player_pos": player[POS].T, "player_vel": player[VEL].T, "player_rot": games.rotation,
             "player_health": player[HP], "player_cooldown": player[COOLDOWN].int(), "player_alive": player[HP] > 0,
             **{name: counts[row].int() for name, row in COUNTS.items()},
             **{name: counts[row] for name, row in BEFORE.items()},
             "win": counts[at.WIN_STEP] != at.NEVER, "episode_reward": games.episode_reward,
             **_living("enemy", games.enemies), **_living("spawner", games.spawners), **_shots(games.shots)}
    return {name: value.clone() for name, value in lists.items()}


def _living(kind: str, things: Tensor) -> dict[str, Tensor]:
    order = (things[HP] == 0).byte().argsort(dim=0, stable=True)
    alive, found = _ordered(things, order, things[HP] > 0)
    return {f"{kind}_alive": alive, f"{kind}_pos": found[POS].permute(2, 1, 0),
            **{f"{kind}_{name}": found[row].T if name == "speed" else found[row].T.int()
               for name, row in FIELDS[kind].items()}}


def _ordered(things: Tensor, order: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """Return who is there, (N, K), and things (R, K, N) in an order (K, N), 0 where nobody is there."""
    alive = alive.gather(0, order)
    return alive.T, things.gather(1, order.expand(len(things), -1, -1)) * alive


def _shots(shots: Tensor) -> dict[str, Tensor]:
    alive = shots[at.LIFE] > 0
    order = torch.where(alive, shots[BORN], torch.inf).argsort(dim=0, stable=True)[:UNUSED]
    there, found = _ordered(shots, order, alive)
    return {"proj_alive": there, "proj_pos": found[POS].permute(2, 1, 0), "proj_vel": found[VEL].permute(2, 1, 0),
            "proj_life": found[at.LIFE].T.int(), "proj_player": (order < SHOTS).T & there}


def from_lists(games: Games, lists: Mapping[str, Tensor]) -> None:
    """Set games to lists of as many games.

    Raises:
        ConfigError: there are more shots than places.
    """
    games.player[POS], games.player[VEL] = lists["player_pos"].T, lists["player_vel"].T
    games.player[HP] = lists["player_health"] * lists["player_alive"]
    games.player[COOLDOWN] = lists["player_cooldown"]
    games.rotation.copy_(lists["player_rot"])
    games.episode_reward.copy_(lists["episode_reward"])
    games.counts[at.DEALT:at.TAKEN + 1] = 0
    for name, row in {**COUNTS, **BEFORE}.items():
        games.counts[row] = lists[name]
    for kind, things in (("enemy", games.enemies), ("spawner", games.spawners)):
        things[POS] = lists[f"{kind}_pos"].permute(2, 1, 0)
        for name, row in FIELDS[kind].items():
            things[row] = (lists[f"{kind}_{name}"] * lists[f"{kind}_alive"]).T
    _set_shots(games, lists)


def _set_shots(games: Games, lists: Mapping[str, Tensor]) -> None:
    alive, by_player = lists["proj_alive"].T, lists["proj_player"].T            # (P, N)
    owners = torch.stack([alive & by_player, alive & ~by_player])               # (2, P, N)
    games.fired.copy_(owners.sum(1))
    if (games.fired.new_tensor([SHOTS, ENEMY_SHOTS]) < games.fired.T).any():
        raise ConfigError(f"proj_alive: got {games.fired.amax(1).tolist()} shots of the player and of the enemies, "
                          f"expected at most {SHOTS} and {ENEMY_SHOTS}")
    rank = owners.cumsum(1) - 1
    places = torch.where(owners[0], rank[0], torch.where(owners[1], SHOTS + rank[1], UNUSED))
    born = torch.arange(-len(places), 0, device=alive.device)[:, None].expand_as(places)
    life = torch.stack([lists["proj_life"].T, born])
    shots = torch.cat([lists["proj_pos"].permute(2, 1, 0), life, lists["proj_vel"].permute(2, 1, 0)])
    games.shots.zero_().scatter_(1, places.expand(len(shots), -1, -1), shots.float())
    games.shots[:, UNUSED] = 0
