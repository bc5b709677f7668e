"""One step of an agent on a batch; in parts, whose gradients are added up, a batch needs less memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from algorithm.batch import Spec

Info = dict[str, Tensor]
Loss = Callable[[dict[str, Tensor]], tuple[Tensor, Info]]


def in_parts(agent: Any) -> bool:
    """Whether the settings of an agent divide its batches."""
    return (agent.config.grad_accum_steps or 1) > 1


def add_up(agent: Any, batch: dict[str, Tensor], loss: Loss) -> Info:
    """Put the sum of the gradients of the parts of a batch in place; return the metrics of the whole batch.

    Args:
        agent: whose optimisers' gradients are cleared first.
        batch: checked, with its noise.
        loss: a mean over the rows of a batch.
    """
    for opt in agent.opts:
        opt.zero_grad(set_to_none=True)
    sums: Info = {}
    for part, share in parts_of(batch, agent.spec() | agent.noise_spec(), agent.config.grad_accum_steps):
        own, info = loss(part)
        (share * own).backward()
        sums = {name: sums.get(name, 0.0) + share * value.detach() for name, value in info.items()}
    return sums


def step(agent: Any, info: Info) -> Info:
    """Step an agent's optimisers by the gradients in place; return the metrics, detached."""
    if agent.average is not None:
        agent.average()
    if agent.inspect is not None:
        agent.inspect(info)
    for opt in agent.opts:
        opt.step()
    return {name: value.detach() for name, value in info.items()}


def parts_of(batch: dict[str, Tensor], spec: Spec, count: int) -> Iterator[tuple[dict[str, Tensor], float]]:
    """Yield `count` parts of a batch, about as large as each other, and the share of its rows that each has.

    Args:
        spec: the shapes of its fields; those without a row for each step, such as one noise for all, are in each part.
    """
    own = [name for name in batch if tuple(spec.get(name, ())[:1]) == ("B",)]
    size = len(batch[own[0]])
    for rows in torch.arange(size, device=batch[own[0]].device).tensor_split(min(count, size)):
        part = {name: batch[name][rows] for name in own}
        yield batch | part, len(rows) / size
