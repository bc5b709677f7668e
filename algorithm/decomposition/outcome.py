"""Outcomes: returns that are 0 or 1, whose log-odds the rewards of an episode add up to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bias(nn.Module):
    """The log-odds of an episode without steps, a learned number."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))


def cross_entropy(logits: Tensor, outcomes: Tensor) -> Tensor:
    """Return -y log sigma(x) - (1 - y) log(1 - sigma(x)), (M,), (M,) -> (M,)."""
    return F.binary_cross_entropy_with_logits(logits, outcomes.to(logits.dtype), reduction="none")


def rises(rewards: Tensor, bias: Tensor) -> Tensor:
    """Return by how much each step raises sigma(sum of the rewards so far + bias), (N, L) -> (N, L).

    They add up to sigma(all + bias) - sigma(bias). The rewards are zero beyond an episode's end.
    """
    after = (rewards.cumsum(1) + bias).sigmoid()
    before = torch.cat([bias.sigmoid().expand(len(rewards), 1), after[:, :-1]], dim=1)
    return after - before


def with_residual(rewards: Tensor, inside: Tensor, returns: Tensor) -> Tensor:
    """Return r_t + (R - sum r) / T, which add up to R, for rewards (N, L), bool (N, L) and returns (N,)."""
    left = (returns.to(rewards.dtype) - rewards.sum(1)) / inside.sum(1).clamp_min(1)
    return torch.where(inside, rewards + left[:, None], 0.0)


def check_outcomes(labels: Tensor) -> None:
    """Raise a ValueError for an outcome beyond [0, 1]; a GPU is not waited for."""
    if not labels.is_cuda and ((labels < 0) | (labels > 1)).any():
        wrong = float(labels[(labels < 0) | (labels > 1)][0])
        raise ValueError(f"batch['ep_bag_return']: got {wrong:g} with likelihood=bernoulli, expected returns from 0 to "
                         "1")


def check_whole(batch: dict[str, Tensor]) -> None:
    """Raise a ValueError unless every label is that of a whole episode, from 0 to 1; a GPU is not waited for."""
    bags, lengths = batch["ep_bags"], (batch["ep_inside"] > 0).sum(1)
    if bags.is_cuda:
        return
    real = bags[bags[:, 2] > bags[:, 1]]
    if (real[:, 1] > 0).any() or (real[:, 2] < lengths[real[:, 0]]).any():
        raise ValueError("batch['ep_bags']: got labels on intervals with likelihood=bernoulli, expected one outcome "
                         "for each episode")
    check_outcomes(batch["ep_bag_return"])
