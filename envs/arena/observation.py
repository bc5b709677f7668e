"""What the player of Arena sees: 32 numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from envs.arena import rules
from envs.arena.games import COOLDOWN, HP, PHASE, POS, STEP, VEL, Games, tables
from envs.arena.moves import length
from envs.arena.rules import ENEMY_SHOTS, SHOTS

SIZE = 32
# The groups of the dictionary form: name -> (first, behind the last, lowest value of its space).
GROUPS = {"player_state": (0, 7, -1.0), "mission_progress": (7, 10, 0.0), "combat_targets": (10, 27, -1.0),
          "spatial_awareness": (27, 31, 0.0), "enemy_count": (31, 32, 0.0)}


def observe(games: Games) -> Tensor:
    """Return the observations (N, 32), float32."""
    place = games.player[POS] / tables(games.player.device).field               # (2, N)
    rows = [place, (games.player[VEL] / rules.MAX_SPEED).clamp(-1, 1), *status(games), *targets(games),
            torch.stack([place[0], 1 - place[0], place[1], 1 - place[1]]),
            (games.enemies[HP] > 0).sum(0, keepdim=True) / rules.ENEMIES]
    return torch.cat(rows).T.contiguous()


def status(games: Games) -> list[Tensor]:
    """Return rotation, HP, cooldown, phase, living spawners and time left, one row each."""
    phase = games.counts[PHASE]
    living = (games.spawners[HP] > 0).sum(0)
    turn = (games.rotation / (2 * torch.pi)).float()
    return [torch.stack([turn, games.player[HP] / rules.PLAYER_HP, games.player[COOLDOWN] / rules.RELOAD,
                         phase / rules.PHASES, living / (phase + 1), 1 - games.counts[STEP] / rules.LIMIT])]


def targets(games: Games) -> list[Tensor]:
    """Return the two nearest enemies and spawners, and the nearest shot of an enemy."""
    shots = games.shots[:, SHOTS:SHOTS + ENEMY_SHOTS]
    enemies, spawners, near_shots = (squared_distance(games, things) for things in (games.enemies, games.spawners, shots))
    found = torch.cat([nearest(games.enemies, enemies, 2), nearest(games.spawners, spawners, 2),
                       nearest(shots, near_shots, 1)], 1)                       # (4, 5, N)
    there = found[3].isfinite()
    distance, angle = seen(games, found, there)
    hp = torch.where(there, found[HP], 0.0) / rules.SPAWNER_HP
    danger = ((near_shots < rules.DANGER**2).sum(0) / 5).clamp(max=1)
    there = there.float()
    return [torch.stack([distance[0], angle[0], there[0], distance[1], angle[1], there[1],
                         distance[2], angle[2], there[2], hp[2], distance[3], angle[3], there[3], hp[3],
                         distance[4], angle[4], danger])]


def squared_distance(games: Games, things: Tensor) -> Tensor:
    """Return the squared distances of things (R, K, N) from the player, inf of those that are not there, (K, N)."""
    apart = things[POS] - games.player[POS, None]
    return torch.where(things[HP] > 0, apart[0].square() + apart[1].square(), torch.inf)


def nearest(things: Tensor, distance: Tensor, count: int) -> Tensor:
    """Return x, y, HP and squared distance of the nearest things, the oldest of equally near ones: (4, count, N)."""
    found = []
    for _ in range(count):
        least, place = distance.min(0, keepdim=True)                            # (1, N)
        found.append(torch.cat([things[:HP + 1].gather(1, place.expand(HP + 1, 1, -1)), least[None]]))
        distance = distance.scatter(0, place, torch.inf)
    return torch.cat(found, 1)


def seen(games: Games, found: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Return distance / diagonal, and the angle from the player's rotation, 0.5 straight ahead; absent 1 and 0.5."""
    apart = found[POS] - games.player[POS, None]
    angle = (torch.atan2(apart[1], apart[0]) - games.rotation.float()) / (2 * torch.pi) + 0.5
    distance = torch.where(there, length(apart) / rules.DIAGONAL, 1.0)
    return distance, torch.where(there, angle - angle.floor(), 0.5)
