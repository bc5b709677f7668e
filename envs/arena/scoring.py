"""What a step of Arena is worth, and what it changes: counts, phases, the end."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from envs.arena import rules
from envs.arena.games import (
    DEALT,
    ENEMIES_DESTROYED,
    FIRST_KILL,
    HP,
    NEVER,
    PENALTY,
    PHASE,
    PHASE_START,
    PLAYER_BEFORE,
    SHAPING_SCALE,
    SPAWNER_BEFORE,
    SPAWNERS_DESTROYED,
    STEP,
    TAKEN,
    WIN_STEP,
    Games,
    start_phase,
)
from envs.arena.hits import (
    CONTACTS,
    ENEMY_HITS,
    HP_DEALT,
    HP_TAKEN,
    HURTS,
    SPAWNER_HITS,
    SPAWNERS_KILLED,
)
from envs.arena.luck import Luck
from envs.arena.sparse import on_rows

PARTS = ("survival", "hit_enemy", "kill_enemy", "hit_spawner", "kill_spawner", "quick_kill", "phase", "damage", "death",
         "shaping")


def score(games: Games, tally: Tensor, luck: Luck, shaping: bool) -> Tensor:
    """Count what happened, begin the next phase where it is due, and return the parts of the reward, (10, N)."""
    count(games, tally)
    shaped = shape(games, tally) if shaping else torch.zeros_like(tally[0])
    quick = games.counts[STEP] - games.counts[PHASE_START] < rules.QUICK_STEPS
    passed = pass_phase(games, luck)
    return torch.stack([
        torch.full_like(shaped, rules.SURVIVAL), rules.HIT_ENEMY * tally[ENEMY_HITS],
        rules.KILL_ENEMY * tally[ENEMY_HITS], rules.HIT_SPAWNER * tally[SPAWNER_HITS],
        rules.KILL_SPAWNER * tally[SPAWNERS_KILLED], rules.QUICK_KILL * (tally[SPAWNERS_KILLED] * quick),
        rules.PHASE_REWARD * passed.float(), rules.HURT * games.modifiers[PENALTY] * tally[HURTS],
        rules.DEATH * (games.player[HP] == 0).float(), shaped])


def count(games: Games, tally: Tensor) -> None:
    """Add a step's tally to the counts of the episode."""
    counts = games.counts
    counts[ENEMIES_DESTROYED] += tally[ENEMY_HITS] + tally[CONTACTS]
    counts[SPAWNERS_DESTROYED] += tally[SPAWNERS_KILLED]
    counts[DEALT:TAKEN + 1] += tally[HP_DEALT:HP_TAKEN + 1]
    first = (tally[SPAWNERS_KILLED] > 0) & (counts[FIRST_KILL] == NEVER)
    counts[FIRST_KILL] = torch.where(first, counts[STEP], counts[FIRST_KILL])


def shape(games: Games, tally: Tensor) -> Tensor:
    """Return clip(0.01 scale ((d + 5 e) (0.5 + 0.5 hp / 150) - 0.8 max(0, l)), +-0.2), 0 in a phase's first step.

    d is the HP that the living spawners have lost since the last step, e the enemies destroyed, l the HP that the
    player has lost, less what was healed.
    """
    now = torch.stack([games.spawners[HP].sum(0), games.player[HP]])
    damage, loss = games.counts[SPAWNER_BEFORE:PLAYER_BEFORE + 1] - now
    gain = (damage + rules.ENEMY_WORTH * (tally[ENEMY_HITS] + tally[CONTACTS])) * (0.5 + 0.5 * now[1] / rules.PLAYER_HP)
    shaped = games.modifiers[SHAPING_SCALE] * (gain - rules.LOSS_WORTH * loss.clamp(min=0)) * rules.SHAPING
    games.counts[SPAWNER_BEFORE:PLAYER_BEFORE + 1] = now
    shaped = shaped.clamp(-rules.SHAPING_CLIP, rules.SHAPING_CLIP)
    return torch.where(shaped.isnan(), 0.0, shaped)                               # NaN: nothing to compare with


def pass_phase(games: Games, luck: Luck) -> Tensor:
    """Begin the next phase where no spawner lives, or win after the last; return where a phase was passed, (N,)."""
    passed = games.spawners[HP].amax(0) == 0
    games.counts[PHASE] += passed
    won = passed & (games.counts[PHASE] == rules.PHASES)
    games.counts[WIN_STEP] = torch.where(won, games.counts[STEP], games.counts[WIN_STEP])
    starts = passed & ~won
    on_rows(starts, partial(start_phase, luck), (games.spawners, games.enemies, games.counts),
            (games.modifiers, starts))
    return passed
