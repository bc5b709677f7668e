"""The rules of Arena as numbers: pixels, steps, hit points (HP), radians; y points downwards, angle 0 to the right."""

from __future__ import annotations

import math

WIDTH, HEIGHT = 1600.0, 1280.0
CENTRE = (WIDTH / 2, HEIGHT / 2)
DIAGONAL = math.hypot(WIDTH, HEIGHT)
LIMIT = 3000                                            # steps of an episode

# Places of a game. Each spawner holds its interval of at least 90 steps and each enemy fires at most twice in the 120
# steps that a shot lives, so that 48 shots of enemies suffice; the player has at most 12.
ENEMIES, SPAWNERS, SHOTS, ENEMY_SHOTS = 8, 5, 16, 48

PLAYER_RADIUS, PLAYER_HP, HEAL, RELOAD = 15.0, 150.0, 75.0, 10.0
THRUST, TURN, FRICTION, MAX_SPEED, WALK = 0.3, math.radians(5), 0.97, 6.0, 5.0
ENEMY_RADIUS, ENEMY_HP, ENEMY_SPEED, ENEMY_RELOAD, FIRE = 12.0, 10.0, 2.0, 60.0, 0.3
SPAWNER_RADIUS, SPAWNER_HP, INTERVAL = 25.0, 100, 120
SHOT_RADIUS, SHOT_SPEED, SHOT_LIFE, DAMAGE = 3.0, 8.0, 120.0, 10.0
DANGER = 150.0                                          # shots of enemies that are nearer are counted

# A new enemy stands 37 + U(5, 50) from its spawner and at least 150 from every other one; after 5 tries, 42.
TRIES, NEAREST_SPAWN, FALLBACK, APART = 5, 37.0, 42.0, 150.0
SPAWN_LOW, SPAWN_HIGH, JITTER = 5.0, 50.0, 30.0

PHASES = 5
PHASE_SPEED, PHASE_INTERVAL = (1.0, 0.9, 0.8, 0.7, 0.75), (1.0, 0.9, 0.85, 0.8, 0.75)
_TOP, _LEFT, _RIGHT = (800, 200), (200, 640), (1400, 640)
_CORNERS = ((200, 200), (1400, 200), (200, 1080), (1400, 1080))
SPAWNER_PLACES = ((_TOP,), (_LEFT, _RIGHT), (_TOP, _CORNERS[2], _CORNERS[3]), _CORNERS, (*_CORNERS, CENTRE))

SURVIVAL, HIT_ENEMY, KILL_ENEMY, HIT_SPAWNER, KILL_SPAWNER = 0.01, 2.0, 5.0, 10.0, 75.0
QUICK_KILL, QUICK_STEPS, PHASE_REWARD, HURT, DEATH = 50.0, 500.0, 100.0, -2.0, -100.0
SHAPING, SHAPING_CLIP, ENEMY_WORTH, LOSS_WORTH = 0.01, 0.2, 5.0, 0.8

# Actions by style: how many, and which one shoots. Style 1: nothing, thrust, left turn, right turn. Style 2: nothing,
# up, down, left, right.
ACTIONS, SHOOT = {1: 5, 2: 6}, {1: 4, 2: 5}
WALKS = ((0, 0, 0, -1, 1, 0), (0, -1, 1, 0, 0, 0))      # x, y by action of style 2
FACES = (0.0, -math.pi / 2, math.pi / 2, math.pi, 0.0, 0.0)

# Stages of the curriculum by number, 0 for none: spawn interval, enemies at once, spawner HP, enemy speed, shaping,
# penalty of damage, all as factors.
STAGES = ((1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
          (2.5, 0.3, 0.4, 0.2, 4.0, 0.3), (2.0, 0.5, 0.5, 0.85, 3.0, 0.6), (1.8, 0.6, 0.65, 0.9, 2.5, 0.9),
          (1.4, 0.75, 0.8, 0.95, 1.8, 1.2), (1.15, 0.85, 0.9, 1.0, 1.0, 1.3), (1.0, 1.0, 1.0, 1.0, 0.5, 1.0))


def stage_numbers(stage: int) -> tuple[float, ...]:
    """Return what a stage makes of the rules.

    Returns:
        Enemies at once, spawner HP, enemy speed, shaping, penalty of damage, and the spawners' interval in phases 1-5.
    """
    interval, enemies, hp, speed, shaping, penalty = STAGES[stage]
    return (int(ENEMIES * enemies), int(SPAWNER_HP * hp), ENEMY_SPEED * speed, shaping, penalty,
            *(int(INTERVAL * (phase * interval)) for phase in PHASE_INTERVAL))
