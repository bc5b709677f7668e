"""Batches drawn from a replay as losses take them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from algorithm.basis_alg.base_torch import Agent
from algorithm.batch import Batch
from algorithm.replay_buffer.rollout import RolloutBuffer

AHEAD = 8192                # rows that `read_ahead` reads at a time


def draw(agent: Agent, buffer: Any, noise: tuple[str, ...]) -> Batch:
    """A batch from one agent's replay, with its observations normalised and the noise of these names drawn."""
    batch = buffer.sample()
    if all(is_plain(name, value) for name, value in batch.items()):
        fields = {name: agent.prepare(name, value) for name, value in batch.items()}
    else:                                               # a user's own replay
        fields = agent.checked(batch, agent.spec())
    agent.add_noise(fields, noise)
    return fields


def read_ahead(buffer: RolloutBuffer, count: int) -> Iterator[tuple[Batch, list[int]]]:
    """Yield what `buffer.sample` would return in so many calls, many minibatches of steps at a time.

    Returns:
        the fields of these minibatches, one after the other, (R, ...), and the rows of each.
    """
    size, at = buffer.rows_per_batch, int(buffer.cursor)
    while count:
        some = min(count, max(AHEAD // size, 1))
        lefts = (buffer.count - (buffer.drawn + i) % buffer.per_epoch * size for i in range(some))
        rows = [min(size, left) for left in lefts]
        fields = buffer.read(buffer.order[at:at + sum(rows)])
        at, count = at + sum(rows), count - some
        buffer.drawn += some
        buffer.cursor.fill_(at)
        yield fields, rows


def is_plain(name: str, value: Any) -> bool:
    """Whether a field of a batch is of the type that the losses compute with, as the package's replays return it."""
    if not isinstance(value, torch.Tensor):
        return False
    return (value.dtype == torch.float32 or (value.dtype == torch.int64 and name.endswith(("acts", "bags")))
            or (value.dtype == torch.uint8 and name.endswith(("obs", "obs_next"))))
