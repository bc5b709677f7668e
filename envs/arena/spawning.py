"""How the spawners of Arena bring enemies, one spawner after another."""

from __future__ import annotations

import torch
from torch import Tensor

from envs.arena import rules
from envs.arena.games import (
    CAP,
    COOLDOWN,
    HP,
    INTERVAL,
    NEW_SPEED,
    PHASE,
    POS,
    SPEED,
    Draws,
    Games,
    tables,
)
from envs.arena.moves import keep_inside
from envs.arena.rules import ENEMIES, SPAWNERS, TRIES


def spawn(games: Games, draws: Draws) -> None:
    """Let each spawner whose time has come bring an enemy, while there are fewer than the stage allows."""
    cooldown = games.spawners[COOLDOWN].sub_(1).clamp_(min=0)
    due = (games.spawners[HP] > 0) & (cooldown == 0)
    sites = spawn_sites(games, draws)
    table = torch.cat([games.enemies, new_enemies(games)], 1)                   # (5, 8 + 5, N)
    count = (games.enemies[HP] > 0).sum(0)
    for j in range(SPAWNERS):
        brings = due[j] & (count < games.modifiers[CAP])
        table[POS, ENEMIES + j] = free_site(sites[:, j], table[:, :ENEMIES + j])
        table[HP, ENEMIES + j] = rules.ENEMY_HP * brings
        cooldown[j] += brings * games.spawners[INTERVAL, j]
        count += brings
    games.enemies.copy_(closed_up(table))


def spawn_sites(games: Games, draws: Draws) -> Tensor:
    """Return where each spawner's tries and its fallback would put an enemy, (2, 5, 6, N)."""
    turn = 2 * torch.pi * draws.angle
    fallback = torch.full_like(draws.distance[:, :1], rules.FALLBACK)
    distance = torch.cat([rules.NEAREST_SPAWN + draws.distance, fallback], 1)
    sites = (games.spawners[POS, :, None] + distance * torch.stack([turn.cos(), turn.sin()])).float()
    keep_inside(sites, rules.ENEMY_RADIUS)
    return sites


def new_enemies(games: Games) -> Tensor:
    """Return an enemy of each spawner, (5, 5, N), without place and HP."""
    enemies = torch.zeros_like(games.spawners)
    phase = games.counts[PHASE].long().clamp(max=rules.PHASES - 1)
    enemies[SPEED] = games.modifiers[NEW_SPEED] * tables(phase.device).speeds[phase]
    return enemies


def free_site(sites: Tensor, enemies: Tensor) -> Tensor:
    """Return the first of the tries that is 150 from all enemies, else the fallback: (2, 6, N) -> (2, N)."""
    apart = sites[:, :TRIES, None] - enemies[POS, None]                         # (2, 5, K, N)
    close = (apart[0].square() + apart[1].square() < rules.APART**2) & (enemies[HP] > 0)
    failed = close.any(1).int().cumprod(0).sum(0)                               # (N,)
    return sites.gather(1, failed.expand(2, 1, -1))[:, 0]


def closed_up(table: Tensor) -> Tensor:
    """Return the enemies of (5, 13, N) in order and without gaps, (5, 8, N)."""
    rank = (table[HP] > 0).cumsum(0)                                            # (13, N)
    wanted = torch.arange(ENEMIES, device=rank.device)[:, None, None]
    source = (rank <= wanted).sum(1)                                            # (8, N); 13: no such enemy
    moved = table.gather(1, source.clamp(max=len(rank) - 1).expand(len(table), -1, -1))
    moved[HP].mul_(source < len(rank))
    return moved
