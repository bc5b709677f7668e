"""What moves in a step of Arena: the player, the enemies and the shots; and who shoots."""

from __future__ import annotations

import torch
from torch import Tensor

from envs.arena import rules
from envs.arena.games import COOLDOWN, HP, LIFE, POS, SPEED, STEP, UNUSED, VEL, Games, tables
from envs.arena.rules import ENEMIES, ENEMY_SHOTS, SHOTS
from envs.arena.sparse import pairs

TINY = 1e-12


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
    thrust = (acts == 1) * direction(games.rotation) * rules.THRUST
    velocity = games.player[VEL].add_(thrust.float()).mul_(rules.FRICTION)
    speed = length(velocity)
    velocity.copy_(torch.where(speed > rules.MAX_SPEED, velocity / speed * rules.MAX_SPEED, velocity))


def walk(games: Games, acts: Tensor) -> None:
    """Style 2: 5 pixels in one of four directions, which the player then faces."""
    constants = tables(acts.device)
    games.player[VEL] = constants.walks[:, acts]
    still = (acts == 0) | (acts == rules.SHOOT[2])
    games.rotation.copy_(torch.where(still, games.rotation, constants.faces[acts]))


def direction(rotation: Tensor) -> Tensor:
    """Return the unit vectors of rotations (N,), (2, N)."""
    return torch.stack([rotation.cos(), rotation.sin()])


def move_enemies(games: Games) -> None:
    """Move the enemies straight at the player, and let their guns cool down."""
    places = games.enemies[POS]
    apart = games.player[POS, None] - places
    places.add_(apart / length(apart).clamp(min=TINY) * games.enemies[SPEED])
    keep_inside(places, rules.ENEMY_RADIUS)
    games.enemies[COOLDOWN].sub_(1).clamp_(min=0)


def length(vectors: Tensor) -> Tensor:
    """Return the Euclidean length of vectors (2, ...)."""
    return (vectors[0].square() + vectors[1].square()).sqrt()


def keep_inside(places: Tensor, radius: float) -> None:
    """Clamp places (2, ..., N) to the field, less a radius."""
    places[0].clamp_(radius, rules.WIDTH - radius)
    places[1].clamp_(radius, rules.HEIGHT - radius)


def shoot(games: Games, acts: Tensor, style: int, fire: Tensor) -> None:
    """Let the player shoot, then the enemies, one after another.

    Args:
        fire: (8, N), U(0, 1); an enemy shoots if it is below 0.3.
    """
    by_player = (acts == rules.SHOOT[style]) & (games.player[COOLDOWN] == 0)
    by_enemies = (games.enemies[COOLDOWN] == 0) & (fire < rules.FIRE) & (games.enemies[HP] > 0)
    games.player[COOLDOWN].add_(by_player, alpha=rules.RELOAD)
    games.enemies[COOLDOWN].add_(by_enemies, alpha=rules.ENEMY_RELOAD)
    fires = torch.cat([by_player[None], by_enemies])                            # (9, N)
    places = next_places(games.fired, fires)
    shooter, game = pairs(fires)                                                # (M,) each
    games.shots[:, places[shooter, game], game] = new_shots(games, shooter, game)
    games.shots[LIFE, UNUSED] = 0


def next_places(fired: Tensor, fires: Tensor) -> Tensor:
    """Return the places of new shots, (9, N), UNUSED where `fires` is false, and count them in `fired`."""
    until = fires[1:].cumsum(0)                                                 # (8, N)
    by_enemies = (fired[1] + until - 1) % ENEMY_SHOTS + SHOTS
    places = torch.where(fires, torch.cat([fired[:1] % SHOTS, by_enemies]), UNUSED)
    fired.add_(torch.stack([fires[0], until[-1]]))
    return places


def new_shots(games: Games, shooter: Tensor, game: Tensor) -> Tensor:
    """Return the shots of shooters (M,), 0 the player, then the enemies, in games (M,): (6, M)."""
    enemy = (shooter - 1).clamp(min=0)
    by_player = shooter == 0
    player, rotation = games.player[POS, game], games.rotation[game]
    origin = torch.where(by_player, player, games.enemies[POS, enemy, game])
    apart = player.to(rotation.dtype) - origin
    aim = torch.where(by_player, direction(rotation), apart / length(apart).clamp(min=TINY))
    born = (1 + ENEMIES) * games.counts[STEP, game] + shooter
    life = torch.full_like(born, rules.SHOT_LIFE)
    return torch.cat([origin, torch.stack([life, born]), (rules.SHOT_SPEED * aim).float()])


def move_shots(games: Games) -> None:
    """Move the shots; those that have left the field, or have moved 120 times, are gone."""
    places, life = games.shots[POS], games.shots[LIFE]
    places.add_(games.shots[VEL])
    beyond = (places[0] - places[0].clamp(0, rules.WIDTH)).abs_()
    beyond.add_((places[1] - places[1].clamp(0, rules.HEIGHT)).abs_())
    life.sub_(1).clamp_(min=0).mul_(1 - beyond.sign_())
