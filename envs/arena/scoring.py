"""What a step of Arena is worth, and what it changes: counts, phases, the end."""

from __future__ import annotations

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
from envs.arena.hits import Hits

PARTS = ("survival", "hit_enemy", "kill_enemy", "hit_spawner", "kill_spawner", "quick_kill", "phase", "damage", "death",
         "shaping")


def score(games: Games, hits: Hits, jitter: Tensor, shaping: bool) -> Tensor:
    """Count what happened, begin the next phase where it is due, and return the parts of the reward, (10, N)."""
    count(games, hits)
    shaped = shape(games, hits) if shaping else torch.zeros_like(hits.hurt)
    quick = games.counts[STEP] - games.counts[PHASE_START] < rules.QUICK_STEPS
    passed = pass_phase(games, jitter)
    return torch.stack([
        torch.full_like(shaped, rules.SURVIVAL), rules.HIT_ENEMY * hits.enemies, rules.KILL_ENEMY * hits.enemies,
        rules.HIT_SPAWNER * hits.spawners, rules.KILL_SPAWNER * hits.spawners_killed,
        rules.QUICK_KILL * (hits.spawners_killed * quick), rules.PHASE_REWARD * passed,
        rules.HURT * games.modifiers[PENALTY] * hits.hurt, rules.DEATH * (games.player[HP] == 0), shaped])


def count(games: Games, hits: Hits) -> None:
    """Add a step's hits to the counts of the episode."""
    counts = games.counts
    counts[ENEMIES_DESTROYED] += hits.enemies + hits.contacts
    counts[SPAWNERS_DESTROYED] += hits.spawners_killed
    first = (hits.spawners_killed > 0) & (counts[FIRST_KILL] == NEVER)
    counts[FIRST_KILL] = torch.where(first, counts[STEP], counts[FIRST_KILL])
    counts[DEALT] += hits.dealt
    counts[TAKEN] += hits.taken


def shape(games: Games, hits: Hits) -> Tensor:
    """Return clip(0.01 scale ((d + 5 e) (0.5 + 0.5 hp / 150) - 0.8 max(0, l)), +-0.2), 0 in a phase's first step.

    d is the HP that the living spawners have lost since the last step, e the enemies destroyed, l the HP that the
    player has lost, less what was healed.
    """
    now = torch.stack([games.spawners[HP].sum(0), games.player[HP]])
    damage, loss = games.counts[SPAWNER_BEFORE:PLAYER_BEFORE + 1] - now
    gain = (damage + rules.ENEMY_WORTH * (hits.enemies + hits.contacts)) * (0.5 + 0.5 * now[1] / rules.PLAYER_HP)
    shaped = games.modifiers[SHAPING_SCALE] * (gain - rules.LOSS_WORTH * loss.clamp(min=0)) * rules.SHAPING
    games.counts[SPAWNER_BEFORE:PLAYER_BEFORE + 1] = now
    return shaped.clamp(-rules.SHAPING_CLIP, rules.SHAPING_CLIP).nan_to_num(0.0)


def pass_phase(games: Games, jitter: Tensor) -> Tensor:
    """Begin the next phase where no spawner lives, or win after the last; return where a phase was passed, (N,)."""
    passed = (games.spawners[HP] == 0).all(0)
    games.counts[PHASE] += passed
    won = passed & (games.counts[PHASE] == rules.PHASES)
    games.counts[WIN_STEP] = torch.where(won, games.counts[STEP], games.counts[WIN_STEP])
    start_phase(games, passed & ~won, jitter)
    return passed
