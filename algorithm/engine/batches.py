"""Batches drawn from a replay as losses take them."""

from __future__ import annotations

from typing import Any

import torch

from algorithm.basis_alg.base_torch import Agent
from algorithm.batch import Batch


def draw(agent: Agent, buffer: Any, noise: tuple[str, ...]) -> Batch:
    """A batch from one agent's replay, with its observations normalised and the noise of these names drawn."""
    batch = buffer.sample()
    if all(is_plain(name, value) for name, value in batch.items()):
        fields = {name: agent.prepare(name, value) for name, value in batch.items()}
    else:                                               # a user's own replay
        fields = agent.checked(batch, agent.spec())
    agent.add_noise(fields, noise)
    return fields


def is_plain(name: str, value: Any) -> bool:
    """Whether a field of a batch is of the type that the losses compute with, as the package's replays return it."""
    if not isinstance(value, torch.Tensor):
        return False
    return (value.dtype == torch.float32 or (value.dtype == torch.int64 and name.endswith("acts"))
            or (value.dtype == torch.uint8 and name.endswith(("obs", "obs_next"))))
