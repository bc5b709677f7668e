"""Arena-v0: the games of `envs.arena.games` as a tensor environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor

from envs.arena import games as at
from envs.arena import render, rules
from envs.arena.games import NAMES, Games, modifiers, new_games
from envs.arena.hits import CONTACTS, ENEMY_HITS, HP_DEALT, HP_TAKEN, SPAWNERS_KILLED, squared_distances
from envs.arena.lists import as_lists, from_lists
from envs.arena.luck import Draws, Luck
from envs.arena.observation import GROUPS, SIZE, observe
from envs.arena.scoring import PARTS
from envs.arena.stages import CURRICULUM
from envs.arena.step import Outcome, advance
from envs.tensor import Obs, Step, TensorEnv, register_env
from utils.errors import ConfigError

# info["metrics"] -> the row of `counts`.
COUNTED = {"phase": at.PHASE, "enemies_destroyed": at.ENEMIES_DESTROYED, "spawners_destroyed": at.SPAWNERS_DESTROYED,
           "damage_dealt": at.DEALT, "damage_taken": at.TAKEN}
TIMES = {"win_step": at.WIN_STEP, "first_spawner_kill_step": at.FIRST_KILL}         # NaN of what never was
CHOICES = {"shaping": ("delta", "off"), "observation": ("flat", "dict")}


@register_env("Arena-v0")
class Arena(TensorEnv):
    """Destroy the spawners of five phases; docs/arena.md has the rules, the observation and the actions.

    `stage`, 1 to 6, is the stage of the curriculum, 0 none. A change holds at once, also in open episodes.
    """

    SETTINGS: ClassVar = {"style": 1, "stage": 0, "shaping": "delta", "observation": "flat"}
    LIMITS: ClassVar = {"style": (1, 2), "stage": (0, len(rules.STAGES) - 1)}
    STATE = NAMES
    settings = None
    curriculum = CURRICULUM
    rewards = PARTS
    metadata: ClassVar = {**TensorEnv.metadata, "render_fps": 60}
    metrics = (*COUNTED, *TIMES, "player_health", "win")

    def setup(self) -> None:
        self.action_space = Discrete(rules.ACTIONS[self.settings["style"]])
        flat = Box(-1.0, 1.0, (SIZE,), np.float32)
        self.observation_space = flat if self.settings["observation"] == "flat" else Dict(
            {name: Box(low, 1.0, (end - start,), np.float32) for name, (start, end, low) in GROUPS.items()})
        self._given: Draws | None = None
        self.set_games(new_games(Luck(self.generator), self.modifiers))

    @classmethod
    def checked(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings as values of the types in SETTINGS.

        Raises:
            ConfigError: one is unknown or invalid.
        """
        found = super().checked(settings)
        for name, choices in CHOICES.items():
            if found.get(name, choices[0]) not in choices:
                raise ConfigError(f"env: {cls.__name__}'s setting {name}: got {found[name]!r}, expected "
                                  f"{' or '.join(choices)}")
        return found

    def _take(self, settings: dict[str, Any]) -> None:
        fixed = {} if self.settings is None else {name: self.settings[name] for name in ("style", "observation")}
        for name in (name for name in fixed if settings[name] != fixed[name]):
            raise ConfigError(f"env: {type(self).__name__}'s setting {name}: got {settings[name]!r}, expected "
                              f"{fixed[name]!r}, as it was made with")
        super()._take(settings)
        self.set_stages(torch.full((self.num_envs,), settings["stage"], device=self.device))

    def set_stages(self, stages: Tensor) -> None:
        """Set the stage of each row, (N,) int64, 0 to 6, until the settings change."""
        self.modifiers = modifiers(stages)

    @property
    def games(self) -> Games:
        """The games; their tensors are the state itself."""
        return Games(**{name: getattr(self, name) for name in NAMES}, modifiers=self.modifiers)

    def set_games(self, games: Games) -> None:
        """Replace the games."""
        for name in NAMES:
            setattr(self, name, getattr(games, name))

    def give(self, draws: Draws) -> None:
        """Use these random numbers in the next step or reset; those of the living are in the order of the lists."""
        self._given = in_places(self.games, draws)

    def lists(self) -> dict[str, Tensor]:
        """Return the games as lists in the order of creation; see `envs.arena.lists`."""
        return as_lists(self.games)

    def set_lists(self, lists: Mapping[str, Tensor]) -> Tensor:
        """Set all games to what `lists` returned, and return their observations."""
        from_lists(self.games, {name: torch.as_tensor(value, device=self.device) for name, value in lists.items()})
        self.obs = self._shown(seen_anew(self.games))
        return self.obs

    def render(self, row: int = 0) -> np.ndarray:
        """Draw a row: RGB, uint8 (768, 1216, 3)."""
        game = {name: value[row].cpu().numpy() for name, value in self.lists().items()}
        return render.draw(game, float(self.modifiers[at.NEW_SPAWNER_HP, row]))

    def _reset(self, rows: Tensor) -> Obs:
        games = self.games
        index = rows.nonzero()[:, 0] if self.on_cpu else torch.arange(self.num_envs, device=self.device)
        new = new_games(self._luck(), self.modifiers[:, index], index)
        for name in NAMES:
            now, begun = getattr(games, name), getattr(new, name)
            if self.on_cpu:
                now.index_copy_(-1, index, begun)
            else:
                now.copy_(torch.where(rows, begun, now))
        obs = self.zeros(SIZE).index_copy(0, index, seen_anew(new).to(self.dtype))
        return self._shown(obs)

    def _luck(self) -> Luck:
        given, self._given = self._given, None
        return Luck(self.generator) if given is None else given

    def _step(self, acts: Tensor) -> Step:
        outcome = advance(self.games, acts.long(), self._luck(), self.settings["style"],
                          self.settings["shaping"] == "delta")
        rews = outcome.rews.to(self.dtype)
        return self._shown(outcome.obs), rews, outcome.terminated, outcome.truncated, self._info(outcome)

    def _shown(self, obs: Tensor) -> Obs:
        obs = obs.to(self.dtype)
        if self.settings["observation"] == "flat":
            return obs
        return {name: obs[:, start:end] for name, (start, end, _) in GROUPS.items()}

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        """Return "rewards", "metrics", and the game's own names: those of this step, and the episode's totals."""
        counts, tally = self.counts.to(self.dtype, copy=True), outcome.tally.to(self.dtype)
        won = counts[at.WIN_STEP] != at.NEVER
        metrics = {name: counts[row] for name, row in COUNTED.items()}
        metrics |= {"player_health": self.player[at.HP].to(self.dtype, copy=True), "win": won.to(self.dtype)}
        step = {"enemies_destroyed": tally[ENEMY_HITS] + tally[CONTACTS],
                "spawners_destroyed": tally[SPAWNERS_KILLED],
                "total_enemies_destroyed": metrics["enemies_destroyed"],
                "total_spawners_destroyed": metrics["spawners_destroyed"],
                "damage_dealt": tally[HP_DEALT], "damage_taken": tally[HP_TAKEN],
                "episode_reward": self.episode_reward.to(self.dtype, copy=True), "episode_steps": counts[at.STEP],
                "win": won, "win_step": counts[at.WIN_STEP], "first_spawner_kill_step": counts[at.FIRST_KILL]}
        return {**metrics, **step, "metrics": metrics | self._times(counts),
                "rewards": dict(zip(PARTS, outcome.parts.to(self.dtype), strict=True))}

    def _times(self, counts: Tensor) -> dict[str, Tensor]:
        return {name: torch.where(counts[row] == at.NEVER, torch.nan, counts[row]) for name, row in TIMES.items()}


def seen_anew(games: Games) -> Tensor:
    """Return the observations of games, (N, 32)."""
    return observe(games, squared_distances(games.player, games.shots[:, rules.SHOTS:at.UNUSED]))


def in_places(games: Games, draws: Draws) -> Draws:
    """Return draws in the order of places, given those in the order of what lives."""
    enemies, spawners = (((things[at.HP] > 0).cumsum(0) - 1).clamp(min=0) for things in (games.enemies, games.spawners))
    return Draws(draws.numbers.gather(0, enemies), *(
        tries.gather(0, spawners[:, None].expand(-1, tries.shape[1], -1)) for tries in (draws.angle, draws.distance)),
        draws.spread)
