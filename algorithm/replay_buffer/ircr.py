"""Replay for IRCR: each step is paid its episode's return, scaled to [0, 1]; half a batch is from the best episodes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from algorithm.payments import scaled_return
from algorithm.replay_buffer.storage import Fields
from algorithm.replay_buffer.transition import TransitionReplay
from utils.errors import ConfigError
from utils.settings.algorithms import IRCR_BATCH
from utils.settings.fields import Config

BEST = 10           # how many of the best episodes ever are kept; the original's


class IRCRReplay(TransitionReplay):
    """The ring of recent episodes, and the ten best ever, which stay when they have left the ring.

    Of images only the recent episodes are kept, as in the original: ten episodes of Atari are gigabytes.
    """

    def __init__(self, config: Config):
        # bytes_beside, which super() asks for, needs these.
        self.keeps, self.longest_best = BEST if len(config.obs_dims) == 1 else 0, config.test_timesteps
        if self.keeps and config.batch_size < 2:
            raise ConfigError(IRCR_BATCH)
        super().__init__(config)
        self.best: list[tuple[float, int, Tensor]] = []         # a heap: (return, age, rows of the episode)
        self.best_steps = torch.zeros((), dtype=torch.int64, device=self.device)
        self.range = torch.zeros(2, dtype=torch.float64, device=self.device)        # least and greatest return held
        if self.keeps:
            self._reserve_best(self.keeps * self.longest_best)

    @property
    def bytes_beside(self) -> int:
        """The ten best episodes: one by one, and joined for sampling."""
        if not self.keeps:
            return 0
        return 2 * self.keeps * self.longest_best * 4 * (sum(self.storage.widths.values()) + 1)

    def store_episode(self, episode: Mapping[str, np.ndarray | Tensor]) -> int:
        """Store as `TransitionReplay.store_episode` does; the episode also joins the ten best if it is one of them."""
        number = super().store_episode(episode)
        if self.keeps:
            self._keep_if_best(self.newest_slot)
        self._update_range()
        return number

    def _keep_if_best(self, slot: int) -> None:
        value = float(self.returns[slot])
        # Of equal returns the older one leaves first, as in the original.
        if len(self.best) < self.keeps or value >= self.best[0][0]:
            rows = (self.starts[slot] + torch.arange(int(self.lengths[slot]), device=self.device)) % self.capacity
            push = heapq.heappush if len(self.best) < self.keeps else heapq.heapreplace
            push(self.best, (value, self.steps_stored, self.storage.rows[rows]))
            self._gather_best()

    def sample(self, batch_size: int | None = None) -> Fields:
        """Draw half of the batch uniformly over the recent steps, the rest uniformly over the steps of the ten best.

        `rews` (B, 1) is (R - min R) / (max R - min R) of the step's episode, over both sets; 0 while all are equal.
        """
        size = self._size(batch_size)
        recent = self._draw_rows(size // 2 if self.keeps else size)
        returns = self.returns[self.episode_of[recent].long()]
        if self.keeps:
            best = self._draw_below(self.best_steps, size - size // 2)
            fields = self.storage.fields(torch.cat([self.storage.rows[recent], self.best_rows[best]]))
            returns = torch.cat([returns, self.best_returns[best]])
        else:
            fields = self.storage.read(recent)
        return fields | {"rews": scaled_return(returns, *self.range).float()[:, None]}

    def episode_fields(self) -> Fields:
        """Return `return_range` (2,), float64: the least and the greatest return of recent and best episodes."""
        return {"return_range": self.range}

    @property
    def layout(self) -> tuple:
        return (len(self.best_rows),) if self.keeps else ()

    def _reserve_best(self, steps: int) -> None:
        """Room for the steps of the ten best, one after the other, and the return of each step's episode."""
        self.best_rows = torch.empty(steps, sum(self.storage.widths.values()), device=self.device)
        self.best_returns = torch.empty(steps, dtype=torch.float64, device=self.device)

    def _gather_best(self) -> None:
        count = sum(len(rows) for _, _, rows in self.best)
        if count > len(self.best_rows):                 # an episode longer than the settings say
            self._reserve_best(2 * count)
        torch.cat([rows for _, _, rows in self.best], out=self.best_rows[:count])
        torch.cat([torch.full((len(rows),), value, dtype=torch.float64, device=self.device)
                   for value, _, rows in self.best], out=self.best_returns[:count])
        self.best_steps.fill_(count)

    def _update_range(self) -> None:
        slots = (self.first_slot + torch.arange(self.episodes, device=self.device)) % self.capacity
        held = self.returns[slots]
        values = [float(held.min()), float(held.max()), *(value for value, _, _ in self.best)]
        self.range.copy_(torch.tensor([min(values), max(values)], dtype=torch.float64))

    def numbers(self) -> dict[str, int]:
        return super().numbers() | {"best": len(self.best)}

    def tensors(self) -> Fields:
        """With the ten best, in the order of their heap."""
        found = super().tensors()
        for i, (value, age, rows) in enumerate(self.best):
            found |= {f"best.{i}.return": torch.tensor(value, dtype=torch.float64), f"best.{i}.age": torch.tensor(age),
                      f"best.{i}.rows": rows}
        return found

    def restore(self, numbers: Mapping[str, int], tensors: Fields, episodes: Iterable[tuple[int, Fields]]) -> None:
        super().restore(numbers, tensors, episodes)
        self.best = [(float(tensors[f"best.{i}.return"]), int(tensors[f"best.{i}.age"]),
                      tensors[f"best.{i}.rows"].to(self.device)) for i in range(numbers["best"])]
        if self.best:
            self._gather_best()
        if self.episodes:
            self._update_range()
