"""Replay for the uniform baseline: each step is paid its episode's mean reward."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.payments import mean_reward
from algorithm.replay_buffer.storage import Fields
from algorithm.replay_buffer.transition import TransitionReplay
from utils.settings.fields import Config


class UniformReplay(TransitionReplay):
    """Single transitions, whose `rews` are R/T of their episodes."""

    def __init__(self, config: Config):
        """Allocate the ring; see `TransitionReplay`."""
        super().__init__(config)
        self.means = torch.empty(self.capacity, device=self.device)     # by slot: R/T, computed once an episode

    @property
    def bytes_needed(self) -> int:
        """The memory of a full ring, with the means."""
        return super().bytes_needed + self.capacity * 4

    def _append(self, fields: Fields, length: int, episode_return: Tensor) -> None:
        super()._append(fields, length, episode_return)
        slot = self.newest_slot
        self.means[slot] = mean_reward(self.returns[slot], self.lengths[slot]).float()      # in double precision before

    def sample(self, batch_size: int | None = None) -> Fields:
        """Draw as `TransitionReplay.sample` does; `rews` (B, 1) is the mean reward R/T of the step's episode."""
        rows = self.draw(batch_size)
        return self.storage.read(rows) | {"rews": self.means[self.episode_of[rows].long()][:, None]}
