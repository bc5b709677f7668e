"""What moves in a step of Arena: the player, the enemies and the shots; and who shoots."""

from __future__ import annotations

import torch
from torch import Tensor

from envs.arena import rules
from envs.arena.games import COOLDOWN, HP, LIFE, POS, SPEED, STEP, UNUSED, VEL, Games, tables
from envs.arena.rules import ENEMIES, ENEMY_SHOTS, SHOTS


def move_player(games: Games, acts: Tensor, style: int) -> None:
    """Move the player by his action, (N,) int64, and let his gun cool down."""
    (steer if style == 1 else walk)(games, acts)
    games.player[POS] += games.player[VEL]
    keep_inside(games.player[POS], rules.PLAYER_RADIUS)
    games.player[COOLDOWN].sub_(1).clamp_(min=0)


def steer(games: Games, acts: Tensor) -> None:
    """Style 1: v = 0.97 (v + 0.3 thrust (cos r, sin r)), at most 6 long."""
    turn = (acts == 3).to(games.rotation.dtype) - (acts == 2).to(games.rotation.dtype)
    games.rotation.add_(turn, alpha=rules.TURN).remainder_(2 * torch.pi)
    thrust = (acts == 1) * heading(games) * rules.THRUST
    velocity = games.player[VEL].add_(thrust.float()).mul_(rules.FRICTION)
    speed = length(velocity)
    velocity.copy_(torch.where(speed > rules.MAX_SPEED, velocity / speed * rules.MAX_SPEED, velocity))


def walk(games: Games, acts: Tensor) -> None:
    """Style 2: 5 pixels in one of four directions, which the player then faces."""
    constants = tables(acts.device)
    games.player[VEL] = constants.walks[:, acts]
    still = (acts == 0) | (acts == rules.SHOOT[2])
    games.rotation.copy_(torch.where(still, games.rotation, constants.faces[acts]))


def heading(games: Games) -> Tensor:
    """Return the direction of the player, (2, N), in the dtype of his rotation."""
    return torch.stack([games.rotation.cos(), games.rotation.sin()])


def move_enemies(games: Games) -> Tensor:
    """Move the enemies straight at the player.

    Returns:
        The unit vectors to him from where they are then, (2, 8, N), in the dtype of his rotation.
    """
    places = games.enemies[POS]
    places.add_(towards(games.player[POS], places) * games.enemies[SPEED])
    keep_inside(places, rules.ENEMY_RADIUS)
    games.enemies[COOLDOWN].sub_(1).clamp_(min=0)
    return towards(games.player[POS].to(games.rotation.dtype), places)


def towards(player: Tensor, places: Tensor) -> Tensor:
    """Return the unit vectors from places (2, K, N) to the player (2, N); 0 where he stands there."""
    apart = player[:, None] - places
    return apart / length(apart).clamp(min=1e-12)


def length(vectors: Tensor) -> Tensor:
    """Return the Euclidean length of vectors (2, ...)."""
    return (vectors[0].square() + vectors[1].square()).sqrt()


def keep_inside(places: Tensor, radius: float) -> None:
    """Clamp places (2, ..., N) to the field, less a radius."""
    places[0].clamp_(radius, rules.WIDTH - radius)
    places[1].clamp_(radius, rules.HEIGHT - radius)


def shoot(games: Games, acts: Tensor, style: int, aims: Tensor, fire: Tensor) -> None:
    """Let the player shoot, then the enemies, one after another.

    Args:
        aims: (2, 8, N), the directions in which the enemies shoot.
        fire: (8, N), U(0, 1); an enemy shoots if it is below 0.3.
    """
    by_player = (acts == rules.SHOOT[style]) & (games.player[COOLDOWN] == 0)
    by_enemies = (fire < rules.FIRE) & (games.enemies[COOLDOWN] == 0) & (games.enemies[HP] > 0)
    games.player[COOLDOWN].add_(by_player, alpha=rules.RELOAD)
    games.enemies[COOLDOWN].add_(by_enemies, alpha=rules.ENEMY_RELOAD)
    fires = torch.cat([by_player[None], by_enemies])                            # (9, N)
    places, numbers = next_places(games, fires)
    new = new_shots(games, torch.cat([heading(games)[:, None], aims], 1))
    games.shots.scatter_(1, places.expand(len(new), -1, -1), new)
    games.shots[LIFE, UNUSED] = 0
    games.fired.add_(numbers)


def next_places(games: Games, fires: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of new shots, (9, N), UNUSED where `fires` is false, and how many there are, (2, N)."""
    until = fires[1:].cumsum(0)                                                 # (8, N)
    by_player = games.fired[:1] % SHOTS
    by_enemies = (games.fired[1] + until - 1) % ENEMY_SHOTS + SHOTS
    places = torch.where(fires, torch.cat([by_player, by_enemies]), UNUSED)
    return places, torch.stack([fires[0].long(), until[-1]])


def new_shots(games: Games, aims: Tensor) -> Tensor:
    """Return the shots of the player and of the enemies, if they shoot, (6, 9, N)."""
    origins = torch.cat([games.player[POS, None], games.enemies[POS]], 1)
    order = torch.arange(1 + ENEMIES, dtype=torch.float32, device=aims.device)[:, None]
    born = (1 + ENEMIES) * games.counts[STEP] + order
    life = torch.full_like(born, rules.SHOT_LIFE)
    return torch.cat([origins, torch.stack([life, born]), (rules.SHOT_SPEED * aims).float()])


def move_shots(games: Games) -> None:
    """Move the shots; those that have left the field, or have moved 120 times, are gone."""
    places, life = games.shots[POS], games.shots[LIFE]
    places += games.shots[VEL]
    field = tables(places.device).field[:, None]                                # (2, 1, 1)
    inside = places == torch.minimum(places, field).clamp(min=0)
    life.sub_(1).clamp_(min=0).mul_(inside[0] & inside[1])
