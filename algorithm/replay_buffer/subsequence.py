"""Replay for RRD: transitions, and K random steps from each of a few episodes."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.draws import draw_steps, variance_coefficient
from algorithm.replay_buffer.late_returns import LateReturns
from algorithm.replay_buffer.storage import Fields
from utils.settings.fields import Config
from utils.settings.resolve import check_reads


class SubsequenceReplay(LateReturns):
    """Adds N = rrd_batch_size // rrd_sample_size sub-sequences of K = rrd_sample_size steps to a batch."""

    def __init__(self, config: Config):
        check_reads(config, "rrd_batch_size", "rrd_sample_size")
        super().__init__(config)
        self.sample_size = config.rrd_sample_size
        self.sequences = config.rrd_batch_size // config.rrd_sample_size
        self.gives_returns = config.return_scale == 0   # the model counts them
        # By slot: R/T, and c of `variance_coefficient`; computed once an episode instead of once a batch.
        self.means, self.coefs = (torch.empty(self.capacity, device=self.device) for _ in "ab")

    @property
    def bytes_needed(self) -> int:
        return super().bytes_needed + self.capacity * (4 + 4)

    def _append(self, fields: Fields, length: int, episode_return: Tensor) -> None:
        super()._append(fields, length, episode_return)
        slot = self.newest_slot
        self._set_mean(slot)
        self.coefs[slot] = variance_coefficient(self.sample_size, self.lengths[slot]).float()

    def _settle(self, slot: int, value: float) -> None:
        super()._settle(slot, value)
        self._set_mean(slot)

    def _set_mean(self, slot: int) -> None:
        self.means[slot] = (self.returns[slot] / self.lengths[slot]).float()

    def sample(self, batch_size: int | None = None) -> dict[str, Tensor]:
        """Draw transitions as `TransitionReplay.sample` does, and sub-sequences.

        Episodes are drawn in proportion to their length; K steps of one without replacement, with replacement
        only when K > T. `rrd_obs`, `rrd_obs_next` (N, K, O), `rrd_acts` (N, K, A); `rrd_rews` (N, 1) is the mean
        reward R/T of the episode; `rrd_var_coef` (N, 1) is c of RRD-L(RD): 1 - K/T, 1 when K > T, 0 when T = 1. With
        `return_scale` 0 `ep_return` (N, 1) is R.
        """
        size = self._size(batch_size)
        rows = self._draw_rows(size)
        slots = self.episode_of[self._draw_known(self.sequences)].long()                            # (N,)
        starts, lengths = self.starts[slots], self.lengths[slots]
        steps = draw_steps(lengths, self.sample_size, self._width, self.generator,
                           repeat=self.shortest < self.sample_size)                                 # (N, K)
        sequence_rows = (starts[:, None] + steps) % self.capacity
        drawn = self.storage.read(torch.cat([rows, sequence_rows.reshape(-1)]))                     # one gather
        batch = {name: field[:size] for name, field in drawn.items()}
        sequences = {f"rrd_{name}": drawn[name][size:].unflatten(0, (self.sequences, self.sample_size))
                     for name in ("obs", "obs_next", "acts")}
        returns = {"ep_return": self.returns[slots].float()[:, None]} if self.gives_returns else {}
        return batch | sequences | returns | {
            "rrd_rews": self.means[slots][:, None], "rrd_var_coef": self.coefs[slots][:, None]}

    @property
    def layout(self) -> tuple:
        return (*super().layout, self._width, self.shortest < self.sample_size)

    @property
    def _width(self) -> int:
        """Return a power of two that no episode exceeds: it seldom changes."""
        return 1 << (max(self.longest, self.sample_size) - 1).bit_length()
