"""The rows of a batch, shared out: means over rows are sums of each half's, and so are their gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.batch import Batch


def weighted(batch: Batch, lead: int = 0) -> Batch:
    """A batch with what one of its rows counts in a mean: `weight`, 1 / B, and `rrd_weight`, 1 / N, () each.

    Args:
        lead: the number of dimensions in front of the rows.
    """
    first = {"weight": batch["obs"]} | ({"rrd_weight": batch["rrd_rews"]} if "rrd_rews" in batch else {})
    return batch | {name: torch.full((), 1 / value.shape[lead], dtype=value.dtype, device=value.device)
                    for name, value in first.items()}


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """The two halves of the rows of a weighted batch of one agent; of one row, the second has none."""
    pairs = {name: value.tensor_split(2) if value.dim() else (value, value) for name, value in batch.items()}
    first, second = ({name: pair[i] for name, pair in pairs.items()} for i in range(2))
    return first, second


def averaged(values: Tensor, weight: Tensor) -> Tensor:
    """The mean over rows of (..., B, 1), (...), or the share of these rows in it."""
    return values.sum(dim=(-2, -1)) * weight
