"""Games of Arena for the tests: crowded states, random numbers, and twins of rows."""

from __future__ import annotations

import math

import torch
from arena_twin import Player, Thing, Twin
from torch import Tensor

from envs.arena.env import Arena
from envs.arena.luck import Draws, Luck, draw

NUMBERS = ("step", "phase", "phase_start_step", "enemies_destroyed", "spawners_destroyed", "episode_reward", "win",
           "first_spawner_kill_step", "win_step", "prev_spawner_health", "prev_player_health")


def drawn(count: int, seed: int) -> Draws:
    return draw(Luck(torch.Generator().manual_seed(seed)), count)


def crowded(count: int, style: int, seed: int) -> dict[str, Tensor]:
    """States in which much is hit at once: all in a square of 240 pixels, spawners over each other, little HP."""
    g = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=g)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, (count, *shape), generator=g)
    centre = torch.stack([uniform(60, 1540), uniform(60, 1220)], 1)
    alive = {name: torch.arange(places) < integers(least, most + 1, 1) for name, places, least, most in
             (("enemy", 8, 0, 8), ("spawner", 5, 1, 5), ("proj", 30, 0, 30))}
    turn = uniform(0, 2 * math.pi, 30)
    by_player = (torch.rand(count, 30, generator=g) < 0.4) & alive["proj"]
    by_player &= by_player.cumsum(1) <= 12
    step = integers(0, 2990)
    lists = {"player_pos": centre + uniform(-50, 50, 2), "player_vel": uniform(-3, 3, 2),
             "player_rot": uniform(0, 6.28) if style == 1 else integers(-1, 3) * math.pi / 2,
             "player_health": 5 * integers(1, 31).float(), "player_cooldown": integers(0, 4),
             "player_alive": torch.ones(count, dtype=torch.bool),
             "enemy_alive": alive["enemy"], "enemy_pos": centre[:, None] + uniform(-120, 120, 8, 2),
             "enemy_health": torch.full((count, 8), 10), "enemy_cooldown": integers(0, 4, 8),
             "enemy_speed": uniform(0.3, 2, 8),
             "spawner_alive": alive["spawner"], "spawner_pos": centre[:, None] + uniform(-120, 120, 5, 2),
             "spawner_health": 5 * integers(1, 7, 5), "spawner_cooldown": integers(0, 4, 5),
             "spawner_interval": integers(90, 121, 5),
             "proj_alive": alive["proj"], "proj_pos": centre[:, None] + uniform(-120, 120, 30, 2),
             "proj_vel": 8 * torch.stack([turn.cos(), turn.sin()], 2), "proj_life": integers(1, 121, 30),
             "proj_player": by_player, "step": step, "phase": integers(0, 5),
             "phase_start_step": (step - 495).clamp(min=0),
             "enemies_destroyed": integers(0, 9), "spawners_destroyed": integers(0, 4),
             "episode_reward": uniform(-50, 50).double(), "first_spawner_kill_step": integers(-1, 1),
             "win": torch.zeros(count, dtype=torch.bool), "win_step": torch.full((count,), -1),
             "prev_spawner_health": uniform(0, 200), "prev_player_health": uniform(0, 150)}
    for kind, present in alive.items():
        for name in (name for name in lists if name.startswith(f"{kind}_") and not name.endswith("alive")):
            mask = present.unsqueeze(-1) if lists[name].dim() == 3 else present
            lists[name] = lists[name] * mask
    return lists


def twin_of(env: Arena, lists: dict[str, Tensor], row: int, stage: int) -> Twin:
    """The twin of a row."""
    one = {name: value[row].tolist() for name, value in lists.items()}
    player = Player(*one["player_pos"], *one["player_vel"], one["player_rot"], one["player_health"],
                    one["player_cooldown"])
    kinds = {"enemy": ("health", "cooldown", "speed"), "spawner": ("health", "cooldown", "interval"),
             "proj": ("life", "player")}
    things = {kind: [Thing(*one[f"{kind}_pos"][k], number=k, **{name: one[f"{kind}_{name}"][k] for name in names})
                     for k, alive in enumerate(one[f"{kind}_alive"]) if alive] for kind, names in kinds.items()}
    for shot, velocity in zip(things["proj"], one["proj_vel"], strict=False):
        shot.vx, shot.vy = velocity
    return Twin(env.settings["style"], stage, env.settings["shaping"] == "delta", player, things["enemy"],
                things["spawner"], things["proj"], {name: one[name] for name in NUMBERS})


def draws_of(draws: Draws, row: int) -> dict[str, list]:
    return {"fire": draws.numbers[:, row].tolist(), "angle": draws.angle[..., row].tolist(),
            "distance": draws.distance[..., row].tolist(), "jitter": draws.spread[..., row].T.tolist()}
