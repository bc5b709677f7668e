"""The random numbers of Arena: drawn by the environment's generator when they are needed, or given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.arena import rules
from envs.arena.rules import ENEMIES, SPAWNERS, TRIES


class Luck:
    """Random numbers from a generator, float32, on its device.

    Each method gets the numbers of the games that it is for, (n,) int64, or None for all, and how many they are.
    """

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def fire(self, count: int) -> Tensor:
        """Return U(0, 1) of each enemy, (8, N): it shoots if that is below 0.3."""
        return self._uniform(ENEMIES, count)

    def tries(self, index: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """Return U(0, 1), (5, 6, n), the angles of each spawner's tries and fallback, and U(5, 50), (5, 5, n)."""
        low, high = rules.SPAWN_LOW, rules.SPAWN_HIGH
        return self._uniform(SPAWNERS, TRIES + 1, count), low + (high - low) * self._uniform(SPAWNERS, TRIES, count)

    def jitter(self, index: Tensor | None, count: int) -> Tensor:
        """Return U(-30, 30), (2, 5, n): x and y of the spawners of a new phase."""
        return rules.JITTER * (2 * self._uniform(2, SPAWNERS, count) - 1)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, dtype=torch.float32, generator=self.generator, device=self.generator.device)


@dataclass
class Draws(Luck):
    """All random numbers of a step, given; float64 is taken, too.

    Attributes:
        numbers: (8, N), see `Luck.fire`.
        angle, distance: (5, 6, N) and (5, 5, N), see `Luck.tries`.
        spread: (2, 5, N), see `Luck.jitter`.
    """

    numbers: Tensor
    angle: Tensor
    distance: Tensor
    spread: Tensor

    def fire(self, count: int) -> Tensor:
        """Return the numbers of all enemies."""
        return self.numbers

    def tries(self, index: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """Return the tries of these games."""
        return _of(self.angle, index), _of(self.distance, index)

    def jitter(self, index: Tensor | None, count: int) -> Tensor:
        """Return the jitter of these games."""
        return _of(self.spread, index)


def _of(numbers: Tensor, index: Tensor | None) -> Tensor:
    return numbers if index is None else numbers.index_select(-1, index)


def draw(luck: Luck, count: int) -> Draws:
    """Draw all random numbers that a step of `count` games may need."""
    return Draws(luck.fire(count), *luck.tries(None, count), luck.jitter(None, count))
