"""One step of N games: a function of tensors that changes the games in place and waits for nothing."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from envs.arena import rules
from envs.arena.games import HP, NEVER, STEP, WIN_STEP, Games
from envs.arena.hits import collide
from envs.arena.luck import Luck
from envs.arena.moves import move_enemies, move_player, move_shots, shoot
from envs.arena.observation import observe
from envs.arena.scoring import score
from envs.arena.spawning import spawn


class Outcome(NamedTuple):
    """Observations (N, 32), rewards (N,), their parts (10, N), the ends (N,) bool, and the tally (7, N)."""

    obs: Tensor
    rews: Tensor
    parts: Tensor
    terminated: Tensor
    truncated: Tensor
    tally: Tensor


def advance(games: Games, acts: Tensor, luck: Luck, style: int, shaping: bool) -> Outcome:
    """Step the games by one action each, (N,) int64."""
    games.counts[STEP] += 1
    move_player(games, acts, style)
    move_enemies(games)
    shoot(games, acts, style, luck.fire(len(acts)))
    spawn(games, luck)
    move_shots(games)
    tally, shot_distances = collide(games)
    parts = score(games, tally, luck, shaping)
    rews = parts.to(games.episode_reward.dtype).sum(0)
    games.episode_reward += rews
    terminated = (games.player[HP] == 0) | (games.counts[WIN_STEP] != NEVER)
    truncated = (games.counts[STEP] >= rules.LIMIT) & ~terminated
    return Outcome(observe(games, shot_distances), rews, parts, terminated, truncated, tally)
