"""What the player of Arena sees: 32 numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from envs.arena import rules
from envs.arena.games import COOLDOWN, HP, PHASE, POS, STEP, UNUSED, VEL, Games, tables
from envs.arena.hits import FAR, squared_distances
from envs.arena.moves import length
from envs.arena.rules import SHOTS

SIZE = 32
# The groups of the dictionary form: name -> (first, behind the last, lowest value of its space).
GROUPS = {"player_state": (0, 7, -1.0), "mission_progress": (7, 10, 0.0), "combat_targets": (10, 27, -1.0),
          "spatial_awareness": (27, 31, 0.0), "enemy_count": (31, 32, 0.0)}


def observe(games: Games, shot_distances: Tensor) -> Tensor:
    """Return the observations (N, 32), float32, given the squared distances of the enemies' shots, (48, N)."""
    place = games.player[POS] / tables(games.player.device).field               # (2, N)
    rows = [place, (games.player[VEL] / rules.MAX_SPEED).clamp(-1, 1), *status(games), *targets(games, shot_distances),
            torch.stack([place[0], 1 - place[0], place[1], 1 - place[1]]),
            number(games.enemies)[None] / rules.ENEMIES]
    return torch.cat(rows).T.contiguous()


def number(things: Tensor) -> Tensor:
    """Return how many of things (R, K, N) are there, (N,) float32."""
    return things[HP].clamp(max=1).sum(0)


def status(games: Games) -> list[Tensor]:
    """Return rotation, HP, cooldown, phase, living spawners and time left, one row each."""
    phase = games.counts[PHASE]
    living = number(games.spawners)
    turn = (games.rotation / (2 * torch.pi)).float()
    return [torch.stack([turn, games.player[HP] / rules.PLAYER_HP, games.player[COOLDOWN] / rules.RELOAD,
                         phase / rules.PHASES, living / (phase + 1), 1 - games.counts[STEP] / rules.LIMIT])]


def targets(games: Games, shot_distances: Tensor) -> list[Tensor]:
    """Return the two nearest enemies and spawners, and the nearest shot of an enemy."""
    found = torch.cat([nearest_two(games.player, games.enemies), nearest_two(games.player, games.spawners),
                       nearest_shot(games.shots[:, SHOTS:UNUSED], shot_distances)], 1)                  # (4, 5, N)
    there = found[3] < FAR
    distance, angle = seen(games, found, there)
    hp = found[HP] * there / rules.SPAWNER_HP
    danger = (shot_distances < rules.DANGER**2).sum(0, dtype=torch.float32).div_(5).clamp_(max=1)
    there = there.float()
    return [torch.stack([distance[0], angle[0], there[0], distance[1], angle[1], there[1],
                         distance[2], angle[2], there[2], hp[2], distance[3], angle[3], there[3], hp[3],
                         distance[4], angle[4], danger])]


def nearest_two(player: Tensor, things: Tensor) -> Tensor:
    """Return x, y, HP and squared distance of the two nearest of things (R, K, N): (4, 2, N)."""
    distances = squared_distances(player, things)
    first, place = distances.min(0, keepdim=True)                               # (1, N)
    order = torch.arange(len(distances), device=place.device)[:, None]
    second, other = torch.where(order == place, torch.inf, distances).min(0, keepdim=True)
    places = torch.cat([place, other])
    return torch.cat([things[:HP + 1].gather(1, places.expand(HP + 1, -1, -1)), torch.cat([first, second])[None]])


def nearest_shot(shots: Tensor, distances: Tensor) -> Tensor:
    """Return x, y, life and squared distance of the nearest shot, (4, 1, N), given the squared distances (48, N).

    Of equally near ones, the one in the last place. (A minimum with its index is slow over so many places.)
    """
    least = distances.amin(0, keepdim=True)
    order = torch.arange(len(distances), dtype=torch.float32, device=distances.device)[:, None]
    place = (distances.clone().eq_(least) * order).amax(0, keepdim=True).long()
    return torch.cat([shots[:HP + 1].gather(1, place.expand(HP + 1, -1, -1)), least[None]])


def seen(games: Games, found: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Return distance / diagonal, and the angle from the player's rotation, 0.5 straight ahead; absent 1 and 0.5."""
    apart = found[POS] - games.player[POS, None]
    angle = (torch.atan2(apart[1], apart[0]) - games.rotation.float()) / (2 * torch.pi) + 0.5
    distance = torch.where(there, length(apart) / rules.DIAGONAL, 1.0)
    return distance, torch.where(there, angle - angle.floor(), 0.5)
