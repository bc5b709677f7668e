"""How the spawners of Arena bring enemies, one spawner after another."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from envs.arena import rules
from envs.arena.games import CAP, COOLDOWN, HP, INTERVAL, NEW_SPEED, PHASE, POS, SPEED, Games, tables
from envs.arena.luck import Luck
from envs.arena.moves import keep_inside
from envs.arena.rules import ENEMIES, SPAWNERS, TRIES
from envs.arena.sparse import on_rows


def spawn(games: Games, luck: Luck) -> None:
    """Let each spawner whose time has come bring an enemy, while there are fewer than the stage allows."""
    cooldown = games.spawners[COOLDOWN].sub_(1).clamp_(min=0)
    due = (cooldown == 0) & (games.spawners[HP] > 0)
    on_rows(due.any(0), partial(bring, luck), (games.enemies, games.spawners), (games.counts, games.modifiers))


def bring(luck: Luck, index: Tensor | None, enemies: Tensor, spawners: Tensor, counts: Tensor,
          modifiers: Tensor) -> None:
    """Bring the enemies of the spawners that are due, and close up the list of enemies."""
    due = (spawners[COOLDOWN] == 0) & (spawners[HP] > 0)
    sites = spawn_sites(spawners, *luck.tries(index, enemies.shape[-1]))
    table = torch.cat([enemies, new_enemies(spawners, counts[PHASE], modifiers[NEW_SPEED])], 1)     # (5, 8 + 5, N)
    count = (enemies[HP] > 0).sum(0)
    for j in range(SPAWNERS):
        brings = due[j] & (count < modifiers[CAP])
        table[POS, ENEMIES + j] = free_site(sites[:, j], table[:, :ENEMIES + j])
        table[HP, ENEMIES + j] = brings * table.new_tensor(rules.ENEMY_HP)
        spawners[COOLDOWN, j] += brings * spawners[INTERVAL, j]
        count += brings
    enemies.copy_(closed_up(table))


def spawn_sites(spawners: Tensor, angle: Tensor, distance: Tensor) -> Tensor:
    """Return where each spawner's tries and its fallback would put an enemy, (2, 5, 6, N)."""
    fallback = torch.full_like(distance[:, :1], rules.FALLBACK)
    distance = torch.cat([rules.NEAREST_SPAWN + distance, fallback], 1)
    turn = 2 * torch.pi * angle
    sites = (spawners[POS, :, None] + distance * torch.stack([turn.cos(), turn.sin()])).float()
    keep_inside(sites, rules.ENEMY_RADIUS)
    return sites


def new_enemies(spawners: Tensor, phase: Tensor, speed: Tensor) -> Tensor:
    """Return an enemy of each spawner, (5, 5, N), without place and HP."""
    enemies = torch.zeros_like(spawners)
    enemies[SPEED] = speed * tables(phase.device).speeds[phase.long().clamp(max=rules.PHASES - 1)]
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
