"""Prioritised replay of transitions over n steps (Schaul et al., 2016, arXiv 1511.05952; Sutton, 1988)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from algorithm.replay_buffer.storage import Fields
from algorithm.replay_buffer.transition import TransitionReplay
from utils.settings.fields import Config

BLOCK = 1024                    # rows whose priorities have a sum of their own


class PrioritizedReplay(TransitionReplay):
    """Draws steps in proportion to their priority, and gives the return of the n steps from each on.

    A window of n steps ends with its episode; episodes are those of one environment, so no window mixes two of them. A
    new step has the largest priority that any had yet.
    """

    def __init__(self, config: Config):
        """Allocate the ring; see `TransitionReplay`."""
        super().__init__(config)
        self.n_step, self.gamma = config.n_step, config.gamma
        self.exponent, self.beta, self.run_length = config.priority_exponent, config.priority_beta, config.run_length
        self.run_length *= config.rows                  # of stored steps, about
        blocks = -(-self.capacity // BLOCK)
        self.priorities = torch.zeros(blocks, BLOCK, dtype=torch.float64, device=self.device)
        self.sums = torch.zeros(blocks, dtype=torch.float64, device=self.device)
        self.largest = torch.ones((), dtype=torch.float64, device=self.device)

    @property
    def bytes_needed(self) -> int:
        """The memory of a full ring, with the priorities."""
        return super().bytes_needed + self.capacity * 8

    # Priorities -----------------------------------------------------------------------------------------------

    def _append(self, fields: Fields, length: int, episode_return: Tensor) -> None:
        super()._append(fields, length, episode_return)
        rows, _ = self.held_episode(self.episodes - 1)
        self._set(rows, self.largest.expand(length), (rows // BLOCK).unique())

    def _forget_oldest(self) -> None:
        rows, _ = self.held_episode(0)
        self._set(rows, torch.zeros(len(rows), dtype=torch.float64, device=self.device), (rows // BLOCK).unique())
        super()._forget_oldest()

    def feed_back(self, rows: Tensor, losses: Tensor) -> None:
        """Set the priorities of steps to their losses, (B,), to the power of `priority_exponent`.

        The host reads nothing: a block that holds several of the steps is summed up for each of them.
        """
        priorities = losses.to(self.device).double() ** self.exponent
        self.largest = torch.maximum(self.largest, priorities.max())
        rows = rows.to(self.device)
        self._set(rows, priorities, rows // BLOCK)

    def _set(self, rows: Tensor, priorities: Tensor, blocks: Tensor) -> None:
        """Set the priorities of rows, and the sums of the blocks that hold them."""
        self.priorities.view(-1)[rows] = priorities
        self.sums[blocks] = self.priorities[blocks].sum(1)

    # Sampling -------------------------------------------------------------------------------------------------

    def sample(self, batch_size: int | None = None) -> Fields:
        """Draw a batch of transitions over n steps.

        `obs`, `acts` of a step; `rews` (B, 1), the discounted sum of its window; `obs_next` and `done` (B, 1) of the
        window's end; `discount` (B, 1), gamma to the power of its steps, 0 at an end; `weight` (B, 1), (N p)^-beta by
        the batch's largest one; `rows` (B,), for `feed_back`.
        """
        rows, weights = self.draw_weighted(batch_size)
        return self.windows(rows) | {"weight": weights[:, None], "rows": rows}

    def draw(self, batch_size: int | None = None) -> Tensor:
        """Draw the rows of a batch, (B,)."""
        return self.draw_weighted(batch_size)[0]

    def draw_weighted(self, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
        """Draw the rows of a batch, (B,), and their weights, (B,)."""
        return self.draw_by(torch.rand(self._size(batch_size), dtype=torch.float64, generator=self.generator,
                                       device=self.device))

    def draw_by(self, fractions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows that numbers in [0, 1), (B,), choose, one in each of B equal parts, and weights (B,)."""
        count, ends = len(fractions), self.sums.cumsum(0)
        wanted = (torch.arange(count, device=self.device) + fractions) * ends[-1] / count
        block = torch.searchsorted(ends, wanted, right=True).clamp(max=len(ends) - 1)
        inside = self.priorities[block].cumsum(1)                                               # (B, BLOCK)
        left = wanted - (ends[block] - self.sums[block])
        place = torch.searchsorted(inside, left[:, None], right=True)[:, 0].clamp(max=BLOCK - 1)
        rows = block * BLOCK + place
        held = (rows - self.first_row) % self.capacity < self.steps
        newest = (self.first_row + self.steps - 1) % self.capacity
        rows = torch.where(held, rows, newest)          # rounding may lead beyond the last one
        chosen = self.priorities.view(-1)[rows] / ends[-1]
        weights = (self.steps * chosen) ** -self.annealed_beta
        return rows, (weights / weights.max()).float()

    @property
    def annealed_beta(self) -> float:
        """The exponent of the weights: from `priority_beta` to 1 over the run."""
        return self.beta + (1 - self.beta) * min(self.steps_stored / self.run_length, 1)

    def windows(self, rows: Tensor) -> Fields:
        """Return the transitions over n steps from these rows on, (B,)."""
        return self.storage.read(rows) | self.window_ends(rows)

    def window_ends(self, rows: Tensor) -> Fields:
        """Return what the n steps from these rows on, (B,), lead to: `rews`, `obs_next`, `done` and `discount`."""
        _, lengths, numbers = self.of_episode(rows)
        steps = (lengths - numbers).clamp(max=self.n_step).long()                               # (B,)
        offsets = torch.arange(self.n_step, device=self.device)
        inside = offsets < steps[:, None]
        each = (rows[:, None] + torch.minimum(offsets, steps[:, None] - 1)) % self.capacity     # (B, n)
        returns = (self.storage.rewards(each).double() * inside * self.gamma ** offsets.double()).sum(1, keepdim=True)
        last = self.storage.read((rows + steps - 1) % self.capacity)
        discount = (1 - last["done"].float()) * self.gamma ** steps[:, None].double()
        return {"rews": returns.float(), "obs_next": last["obs_next"], "done": last["done"],
                "discount": discount.float()}

    # Saving and restoring -------------------------------------------------------------------------------------

    def tensors(self) -> Fields:
        """Return the tensors of the state, with the priorities of the steps in the ring, the oldest first."""
        rows = (self.first_row + torch.arange(self.steps, device=self.device)) % self.capacity
        return super().tensors() | {"priorities": self.priorities.view(-1)[rows], "largest": self.largest}

    def restore(self, numbers: Mapping[str, int], tensors: Fields, episodes: Iterable[tuple[int, Fields]]) -> None:
        """Restore what `numbers`, `tensors` and `read_episodes` returned, in a new replay."""
        super().restore(numbers, tensors, episodes)
        rows = (self.first_row + torch.arange(self.steps, device=self.device)) % self.capacity
        self.largest = tensors["largest"].to(self.device)
        self._set(rows, tensors["priorities"].to(self.device), (rows // BLOCK).unique())
