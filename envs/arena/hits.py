"""Who is hit in a step of Arena: circles that overlap, in the order of creation."""

from __future__ import annotations

import torch
from torch import Tensor

from envs.arena import rules
from envs.arena.games import HP, LIFE, POS, UNUSED, Games
from envs.arena.rules import ENEMIES, SHOTS, SPAWNERS
from envs.arena.sparse import on_rows

# Rows of a tally: hits by the player's shots, spawners killed, enemies that have touched the player and are dead, all
# that has hit him, HP taken from others and from him.
ENEMY_HITS, SPAWNER_HITS, SPAWNERS_KILLED, CONTACTS, HURTS, HP_DEALT, HP_TAKEN = range(7)
ROWS_OF_TALLY = 7
FAR = 1e12                                              # squared distance of what is not there, at least


def collide(games: Games) -> tuple[Tensor, Tensor]:
    """Let the player's shots hit, then the enemies' shots, then the enemies themselves.

    Returns:
        The tally, (7, N), and the squared distances of the enemies' shots from the player after that, (48, N).
    """
    tally = torch.zeros(ROWS_OF_TALLY, games.counts.shape[-1], dtype=torch.float32, device=games.counts.device)
    on_rows(touches_target(games), hit_targets, (games.shots[:, :SHOTS], games.enemies, games.spawners, tally),
            games.fired[:1])
    hp = games.player[HP]
    hp.add_(tally[SPAWNERS_KILLED], alpha=rules.HEAL).clamp_(max=rules.PLAYER_HP)
    shots = games.shots[:, SHOTS:UNUSED]
    distances = squared_distances(games.player, shots)
    touches = reach(distances, rules.SHOT_RADIUS) | reach(squared_distances(games.player, games.enemies),
                                                          rules.ENEMY_RADIUS)
    on_rows(touches, hurt_player, (games.player, shots, games.enemies, distances, tally), games.fired[1:])
    return tally, distances


def squared_distances(player: Tensor, things: Tensor) -> Tensor:
    """Return the squared distances of things (R, K, N) from the player, at least FAR of what is not there, (K, N)."""
    x, y = things[0] - player[0], things[1] - player[1]
    missing = 1 - things[HP].clamp(max=1)
    return x.mul_(x).addcmul_(y, y).add_(missing, alpha=FAR)


def reach(distances: Tensor, radius: float) -> Tensor:
    """Return the games in which a circle is so near that it touches the player, (N,) bool."""
    return distances.amin(0) < (radius + rules.PLAYER_RADIUS)**2


def touches_target(games: Games) -> Tensor:
    """Return the games in which a shot of the player touches an enemy or a spawner, (N,) bool."""
    shots = games.shots[:, :SHOTS]
    missing = 1 - shots[LIFE].clamp(max=1)
    return (between(games.enemies, shots, missing, rules.ENEMY_RADIUS) |
            between(games.spawners, shots, missing, rules.SPAWNER_RADIUS))


def between(targets: Tensor, shots: Tensor, missing: Tensor, radius: float) -> Tensor:
    """Return the games in which a shot (R, 16, N) that is not `missing` touches a target (R, K, N), (N,) bool."""
    x, y = targets[0, :, None] - shots[0], targets[1, :, None] - shots[1]
    nearest = x.mul_(x).addcmul_(y, y).add_(missing, alpha=FAR).amin(1)         # (K, N)
    return (nearest - (radius + rules.SHOT_RADIUS)**2 * targets[HP].clamp(max=1)).amin(0) < 0


def hit_targets(index: Tensor | None, shots: Tensor, enemies: Tensor, spawners: Tensor, tally: Tensor,
                fired: Tensor) -> None:
    """Let the player's shots hit, the oldest shot first: the oldest enemy that it touches, else the first spawner.

    An enemy is dead after one hit, a spawner after ceil(HP / 10). All shots rank the targets in one order, and all
    targets the shots by age; so giving each target in turn its oldest shots is the same as giving each shot in turn
    its first target (the stable matching is unique), and there are fewer targets.
    """
    age = (torch.arange(SHOTS, device=fired.device)[:, None] - fired) % SHOTS   # (16, N); 0: the oldest
    touching = as_bits(touched(shots, enemies, spawners), age)                  # (13, N) int32; bit k: shot of age k
    free = torch.full_like(touching[0], 2**SHOTS - 1)
    hits = []
    for k, bits in enumerate(touching):
        most = None if k < ENEMIES else (spawners[HP, k - ENEMIES] / rules.DAMAGE).ceil()
        hits.append(lowest_bit(bits & free) if most is None else lowest_bits(bits & free, most))
        free = free ^ hits[-1]
    shots[LIFE].mul_(free >> age & 1)
    wound(enemies, spawners, count_bits(torch.stack(hits)), tally)


def touched(shots: Tensor, enemies: Tensor, spawners: Tensor) -> Tensor:
    """Return which of the player's shots touch which enemies and spawners, (8 + 5, 16, N) bool."""
    targets = torch.cat([enemies[:HP + 1], spawners[:HP + 1]], 1)[:, :, None]   # (3, 13, 1, N)
    apart = targets[POS] - shots[POS, None]                                     # (2, 13, 16, N)
    radii = apart.new_tensor([rules.ENEMY_RADIUS] * ENEMIES + [rules.SPAWNER_RADIUS] * SPAWNERS) + rules.SHOT_RADIUS
    near = apart[0].square() + apart[1].square() < radii.square()[:, None, None]
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


def wound(enemies: Tensor, spawners: Tensor, hits: Tensor, tally: Tensor) -> None:
    """Take the HP of `hits`, (8 + 5, N), from enemies and spawners."""
    hp = torch.cat([enemies[HP], spawners[HP]])                                 # (13, N)
    left = (hp - rules.DAMAGE * hits).clamp(min=0)
    enemies[HP], spawners[HP] = left[:ENEMIES], left[ENEMIES:]
    tally[ENEMY_HITS], tally[SPAWNER_HITS] = hits[:ENEMIES].sum(0), hits[ENEMIES:].sum(0)
    tally[SPAWNERS_KILLED] = ((hp > 0) & (left == 0))[ENEMIES:].sum(0)
    tally[HP_DEALT] = (hp - left).sum(0)


def hurt_player(index: Tensor | None, player: Tensor, shots: Tensor, enemies: Tensor, distances: Tensor, tally: Tensor,
                fired: Tensor) -> None:
    """Let the enemies' shots hit the player, then the enemies, each in turn while he lives; they are gone then."""
    before = player[HP].clone()
    by_shots = hit_player(player, shots, rules.SHOT_RADIUS, fired[0])
    tally[CONTACTS] = hit_player(player, enemies, rules.ENEMY_RADIUS, torch.zeros_like(fired[0]))
    tally[HURTS] = by_shots + tally[CONTACTS]
    tally[HP_TAKEN] = before - player[HP]
    distances.copy_(squared_distances(player, shots))


def hit_player(player: Tensor, things: Tensor, radius: float, begun: Tensor) -> Tensor:
    """Let things (R, K, N) hit the player; return the number of hits, (N,).

    Args:
        begun: (N,), how many things have ever taken a place: the oldest is in place `begun` modulo K.
    """
    touches = squared_distances(player, things) < (radius + rules.PLAYER_RADIUS)**2
    hits = touches & (turn_of(touches, begun) <= (player[HP] / rules.DAMAGE).ceil())
    things[HP].mul_(~hits)
    count = hits.sum(0)
    player[HP].sub_(count, alpha=rules.DAMAGE).clamp_(min=0)
    return count


def turn_of(touches: Tensor, begun: Tensor) -> Tensor:
    """Return which one each is of those that touch, from 1, counted from place `begun` modulo K round to that place."""
    count = touches.cumsum(0)                                                   # (K, N)
    younger = torch.arange(len(touches), device=begun.device)[:, None] < begun % len(touches)
    return count - (touches & younger).sum(0) + younger * count[-1]
