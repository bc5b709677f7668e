"""The state of N games: what lives has a place of fixed number, and N is the last dimension of every tensor.

Enemies and spawners stand in their places in the order of creation; free places may lie between them. The shots of the
player, and those of all enemies, go round their places: shot number k is in place k modulo the number of places.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import torch
from torch import Tensor

from envs.arena import rules
from envs.arena.luck import Luck
from envs.arena.rules import ENEMIES, ENEMY_SHOTS, SHOTS, SPAWNERS

# Rows of the first dimension. Who has no HP, and a shot without life, is not there: the place is free.
POS, HP, LIFE, VEL = slice(0, 2), 2, 2, slice(4, 6)
COOLDOWN, BORN = 3, 3                                   # BORN: shots are in order by it
SPEED, INTERVAL = 4, 4                                  # of an enemy; of a spawner
ROWS_OF_PLAYER, ROWS_OF_ENEMY, ROWS_OF_SPAWNER, ROWS_OF_SHOT = 6, 5, 5, 6
UNUSED = SHOTS + ENEMY_SHOTS                            # the place of shots that are not fired

(STEP, PHASE, PHASE_START, ENEMIES_DESTROYED, SPAWNERS_DESTROYED, FIRST_KILL, WIN_STEP, DEALT, TAKEN,
 SPAWNER_BEFORE, PLAYER_BEFORE) = range(11)             # rows of `counts`
NEVER = -1.0

# Rows of `modifiers`.
CAP, NEW_SPAWNER_HP, NEW_SPEED, SHAPING_SCALE, PENALTY, INTERVALS = 0, 1, 2, 3, 4, slice(5, 10)


@dataclass
class Games:
    """N games.

    Attributes:
        player: (6, N), rows POS, HP, COOLDOWN, VEL.
        rotation: (N,), in float64 where the device has it: it is added up over an episode.
        enemies: (5, 8, N), rows POS, HP, COOLDOWN, SPEED.
        spawners: (5, 5, N), rows POS, HP, COOLDOWN, INTERVAL.
        shots: (6, 65, N), rows POS, LIFE, BORN, VEL; 16 places of the player, 48 of the enemies, 1 that stays free.
        fired: (2, N) int64, how many shots the player and the enemies have fired.
        counts: (11, N), rows STEP to PLAYER_BEFORE; the last two are the HP of all spawners, and the player's, after
            the last step, NaN if the shaping has nothing to compare with.
        episode_reward: (N,), in the dtype of `rotation`.
        modifiers: (10, N), the stage's numbers, rows CAP to INTERVALS.
    """

    player: Tensor
    rotation: Tensor
    enemies: Tensor
    spawners: Tensor
    shots: Tensor
    fired: Tensor
    counts: Tensor
    episode_reward: Tensor
    modifiers: Tensor


NAMES = tuple(field.name for field in fields(Games))[:-1]             # what changes in a step


def modifiers(stages: Tensor) -> Tensor:
    """Return the modifiers (10, N) of stages (N,) int64, 0 to 6."""
    table = torch.tensor([rules.stage_numbers(stage) for stage in range(len(rules.STAGES))], dtype=torch.float32)
    return table.to(stages.device)[stages].T.contiguous()


def new_games(luck: Luck, modifiers: Tensor, index: Tensor | None = None) -> Games:
    """Return games at their start.

    Args:
        index: (N,), the numbers of the games, None for all.
    """
    count, device = modifiers.shape[-1], modifiers.device
    exact = torch.float32 if device.type == "mps" else torch.float64      # which MPS lacks

    def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(*shape, count, dtype=dtype, device=device)
    games = Games(zeros(ROWS_OF_PLAYER), zeros(dtype=exact), zeros(ROWS_OF_ENEMY, ENEMIES),
                  zeros(ROWS_OF_SPAWNER, SPAWNERS), zeros(ROWS_OF_SHOT, UNUSED + 1), zeros(2, dtype=torch.int64),
                  zeros(11), zeros(dtype=exact), modifiers)
    games.player[0], games.player[1], games.player[HP] = *rules.CENTRE, rules.PLAYER_HP
    games.counts[FIRST_KILL:WIN_STEP + 1] = NEVER
    everywhere = torch.ones_like(games.rotation, dtype=torch.bool)
    start_phase(luck, index, games.spawners, games.enemies, games.counts, modifiers, everywhere)
    return games


@dataclass
class Tables:
    """Constants as tensors.

    Attributes:
        places: (2, 5, 5), where spawners stand: x or y, spawner, phase.
        walks: (2, 6), velocities by action of style 2.
        faces: (6,), rotations by action of style 2.
        field: (2, 1), width and height.
        speeds: (5,), the enemies' speed by phase, as a factor.
    """

    places: Tensor
    walks: Tensor
    faces: Tensor
    field: Tensor
    speeds: Tensor


@cache
def tables(device: torch.device) -> Tables:
    """Return the constants on a device."""
    filled = [[*places, *((0, 0),) * (SPAWNERS - len(places))] for places in rules.SPAWNER_PLACES]
    places, walks, faces, field, speeds = (
        torch.tensor(values, dtype=torch.float32, device=device) for values in
        (filled, rules.WALKS, rules.FACES, (rules.WIDTH, rules.HEIGHT), rules.PHASE_SPEED))
    return Tables(places.permute(2, 1, 0), rules.WALK * walks, faces, field[:, None], speeds)


def start_phase(luck: Luck, index: Tensor | None, spawners: Tensor, enemies: Tensor, counts: Tensor, modifiers: Tensor,
                starts: Tensor) -> None:
    """Begin the phase that `counts[PHASE]` says, where `starts`, (N,) bool: new spawners, no enemies."""
    phase = counts[PHASE].long().clamp(max=rules.PHASES - 1)
    places = (tables(phase.device).places[:, :, phase] + luck.jitter(index, len(phase))).float()        # (2, 5, N)
    interval = modifiers[INTERVALS].gather(0, phase[None]).expand(SPAWNERS, -1)
    there = torch.arange(SPAWNERS, device=phase.device)[:, None] <= phase
    hp = there * modifiers[NEW_SPAWNER_HP]                                      # (5, N)
    new = torch.cat([places, torch.stack([hp, torch.zeros_like(hp), interval])])
    spawners.copy_(torch.where(starts, new, spawners))
    enemies[HP].mul_(~starts)
    counts[PHASE_START] = torch.where(starts, counts[STEP], counts[PHASE_START])
    counts[SPAWNER_BEFORE:].masked_fill_(starts, torch.nan)
