"""Who is hit in a step of Arena: circles that overlap, in the order of creation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.arena import rules
from envs.arena.games import HP, LIFE, POS, Games
from envs.arena.rules import ENEMIES, ENEMY_SHOTS, SHOTS, SPAWNERS


@dataclass
class Hits:
    """What happened in a step, each (N,) float32: numbers of hits and of kills, and HP.

    Attributes:
        enemies, spawners: hits by the player's shots.
        spawners_killed: kills.
        contacts: enemies that have touched the player and are dead.
        hurt: shots and enemies that have hit the player.
        dealt, taken: HP.
    """

    enemies: Tensor
    spawners: Tensor
    spawners_killed: Tensor
    contacts: Tensor
    hurt: Tensor
    dealt: Tensor
    taken: Tensor


def collide(games: Games) -> Hits:
    """Let the player's shots hit, then the enemies' shots, then the enemies themselves."""
    enemies, spawners, killed, dealt = hit_targets(games)
    games.player[HP].add_(killed, alpha=rules.HEAL).clamp_(max=rules.PLAYER_HP)
    before = games.player[HP].clone()
    shots = hit_player(games, games.shots[:, SHOTS:SHOTS + ENEMY_SHOTS], rules.SHOT_RADIUS, games.fired[1])
    contacts = hit_player(games, games.enemies, rules.ENEMY_RADIUS, torch.zeros_like(games.fired[1]))
    return Hits(enemies, spawners, killed, contacts, shots + contacts, dealt, before - games.player[HP])


def hit_targets(games: Games) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Let the player's shots hit, the oldest shot first: the oldest enemy that it touches, else the first spawner.

    An enemy is dead after one hit, a spawner after ceil(HP / 10). All shots rank the targets in one order, and all
    targets the shots by age; so giving each target in turn its oldest shots is the same as giving each shot in turn
    its first target (the stable matching is unique), and there are fewer targets.

    Returns: hits of enemies, hits of spawners, spawners killed, HP taken; each (N,).
    """
    age = (torch.arange(SHOTS, device=games.fired.device)[:, None] - games.fired[0]) % SHOTS        # (16, N); 0: oldest
    touching = as_bits(touched(games), age)                                     # (13, N) int32; bit k: shot of age k
    free = torch.full_like(touching[0], 2**SHOTS - 1)
    at_enemies, at_spawners = [], []
    for bits in touching[:ENEMIES]:
        at_enemies.append(lowest_bit(bits & free))
        free = free ^ at_enemies[-1]
    for j, bits in enumerate(touching[ENEMIES:]):
        at_spawners.append(lowest_bits(bits & free, (games.spawners[HP, j] / rules.DAMAGE).ceil()))
        free = free ^ at_spawners[-1]
    games.shots[LIFE, :SHOTS].mul_(free >> age & 1)
    return wound(games, torch.stack(at_enemies) != 0, count_bits(torch.stack(at_spawners)))


def touched(games: Games) -> Tensor:
    """Return which of the player's shots touch which enemies and spawners, (8 + 5, 16, N) bool."""
    shots = games.shots[:, :SHOTS]
    targets = torch.cat([games.enemies[:HP + 1], games.spawners[:HP + 1]], 1)[:, :, None]           # (3, 13, 1, N)
    apart = targets[POS] - shots[POS, None]                                     # (2, 13, 16, N)
    reach = apart.new_tensor([rules.ENEMY_RADIUS] * ENEMIES + [rules.SPAWNER_RADIUS] * SPAWNERS) + rules.SHOT_RADIUS
    near = apart[0].square() + apart[1].square() < reach.square()[:, None, None]
    return near & (targets[HP] > 0) & (shots[LIFE] > 0)


def as_bits(touches: Tensor, age: Tensor) -> Tensor:
    """Return the shots that touch each target as bits by age: (13, 16, N), (16, N) -> (13, N) int32."""
    return torch.where(touches, 1 << age.int(), 0).sum(1, dtype=torch.int32)


def lowest_bit(bits: Tensor) -> Tensor:
    """Return the lowest bit alone; 0 of 0."""
    return bits & -bits


def lowest_bits(bits: Tensor, most: Tensor) -> Tensor:
    """Return the lowest `most` bits that are set, (N,) int32."""
    place = torch.arange(SHOTS, dtype=torch.int32, device=bits.device)[:, None]
    bit = bits >> place & 1                                                     # (16, N)
    return ((bit * (bit.cumsum(0) <= most)) << place).sum(0, dtype=torch.int32)


def count_bits(bits: Tensor) -> Tensor:
    """Return how many of the lowest 16 bits are set, as float32."""
    place = torch.arange(SHOTS, dtype=torch.int32, device=bits.device)
    return (bits[..., None] >> place & 1).sum(-1, dtype=torch.float32)


def wound(games: Games, killed: Tensor, spawner_hits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take HP from the enemies that are `killed`, (8, N) bool, and from spawners, (5, N) hits; see `hit_targets`."""
    before = games.spawners[HP].clone()
    after = games.spawners[HP].sub_(spawner_hits, alpha=rules.DAMAGE).clamp_(min=0)
    dealt = (before - after).sum(0) + (games.enemies[HP] * killed).sum(0)
    games.enemies[HP].mul_(~killed)
    return killed.sum(0).float(), spawner_hits.sum(0), ((before > 0) & (after == 0)).sum(0).float(), dealt


def hit_player(games: Games, things: Tensor, radius: float, begun: Tensor) -> Tensor:
    """Let shots or enemies (R, K, N) hit the player, in turn while he lives; they are gone then.

    Args:
        begun: (N,), how many things have ever taken a place: the oldest is in place `begun` modulo K.
    Returns: the number of hits, (N,).
    """
    apart = things[POS] - games.player[POS, None]
    touches = (apart[0].square() + apart[1].square() < (radius + rules.PLAYER_RADIUS)**2) & (things[HP] > 0)
    hits = touches & (turn_of(touches, begun) <= (games.player[HP] / rules.DAMAGE).ceil())
    things[HP].mul_(~hits)
    count = hits.sum(0).float()
    games.player[HP].sub_(count, alpha=rules.DAMAGE).clamp_(min=0)
    return count


def turn_of(touches: Tensor, begun: Tensor) -> Tensor:
    """Return which one each is of those that touch, from 1, counted from place `begun` modulo K round to that place."""
    count = touches.cumsum(0)                                                   # (K, N)
    younger = torch.arange(len(touches), device=begun.device)[:, None] < begun % len(touches)
    return count - (touches & younger).sum(0) + younger * count[-1]
