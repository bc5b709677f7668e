"""Replay for the uniform baseline: each step is paid its episode's mean reward."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from algorithm.replay_buffer.storage import Fields
from algorithm.replay_buffer.transition import TransitionReplay
from utils.settings.fields import Config


class UniformReplay(TransitionReplay):
    """Single transitions, whose `rews` are R/T of their episodes."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.means = torch.empty(self.capacity, device=self.device)     # by slot: R/T, divided once an episode

    @property
    def bytes_needed(self) -> int:
        return super().bytes_needed + self.capacity * 4

    def _append(self, fields: Fields, length: int, episode_return: Tensor) -> None:
        super()._append(fields, length, episode_return)
        slot = self.newest_slot
        self.means[slot] = (self.returns[slot] / self.lengths[slot]).float()        # a double's division

    def sample(self, batch_size: int | None = None) -> Fields:
        """As `TransitionReplay.sample`, but `rews` (B, 1) is the mean reward R/T of the step's episode."""
        rows = self.draw(batch_size)
        return self.storage.read(rows) | {"rews": self.means[self.episode_of[rows].long()][:, None]}

    def predict_rewards(self, episode: Mapping[str, np.ndarray]) -> np.ndarray:
        """What it would pay for the steps of an episode, (T,) float64: R/T, R as the agent is told it."""
        told = episode["rews"].astype(np.float64).sum()
        return np.full(len(episode["rews"]), told / len(episode["rews"]))
