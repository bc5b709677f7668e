"""Batches of whole episodes, and the labels on their steps.

A label is a number that an interval of steps, a bag, was paid (Tang et al., TMLR 2025). The return of an episode is the
label of all of its steps. Bags may leave steps out and may overlap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from algorithm.batch import Array, Indices, Spec, actions_spec, observations
from utils.floats import widened
from utils.settings.fields import Config

MOST = 2**31                # of the numbers in `ep_bags`
LABEL_END = "label_end"     # of an episode, bool, (T, 1): whether the label of a bag is complete with the step
FIELDS = ("ep_obs", "ep_acts", "ep_obs_next", "ep_inside")


class Episodes(NamedTuple):
    """N episodes of at most L steps, zero beyond their ends."""

    obs: Tensor             # (N, L, O)
    acts: Tensor            # (N, L, A), or indices (N, L)
    obs_next: Tensor        # (N, L, O)
    inside: Tensor          # bool, (N, L)

    @property
    def lengths(self) -> Tensor:
        """T of each episode, (N,)."""
        return self.inside.sum(1)

    def within(self, values: Tensor) -> Tensor:
        """Return values (N, L) with zeros beyond the ends."""
        return torch.where(self.inside, values, 0.0)


class Bags(NamedTuple):
    """M labels; a row whose bag has no step is none."""

    where: Tensor           # the number of an episode, its first step, and the end of the bag, int64, (M, 3)
    labels: Tensor          # what these steps were paid in all, (M,)

    @property
    def sizes(self) -> Tensor:
        """The steps of each bag, at least 1, (M,)."""
        return (self.where[:, 2] - self.where[:, 1]).clamp_min(1)

    def sums(self, values: Tensor) -> Tensor:
        """Add up the values of the steps of each bag, (N, L) -> (M,), as differences of sums in double precision."""
        total = F.pad(widened(values).cumsum(1), (1, 0))                                            # (N, L + 1)
        episode, first, end = self.where.unbind(1)
        return (total[episode, end] - total[episode, first]).to(values.dtype)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the bags that have a step, (M,) -> ()."""
        real = self.where[:, 2] > self.where[:, 1]
        return torch.where(real, values, 0.0).sum() / real.sum()


def episodes_spec(config: Config, bags: bool = True) -> Spec:
    """Return the fields of whole episodes in a batch; see `algorithm.replay_buffer.whole.EpisodeReplay.sample`."""
    obs = observations("N", "L", *config.obs_dims)
    spec: Spec = {"ep_obs": obs, "ep_obs_next": obs, "ep_acts": actions_spec(config, "N", "L"), "ep_inside": ("N", "L"),
                  "ep_return": ("N", 1)}
    return spec | ({"ep_bags": Indices(("M", 3), MOST), "ep_bag_return": ("M", 1)} if bags else {})


def episodes_of(batch: dict[str, Tensor]) -> Episodes:
    """Return the whole episodes of a batch; whatever stands beyond their ends becomes zero."""
    inside = batch["ep_inside"] > 0
    fields = (batch[name].masked_fill(~inside.view(*inside.shape, *[1] * (batch[name].ndim - 2)), 0)
              for name in FIELDS[:3])
    return Episodes(*fields, inside)


def bags_of(batch: dict[str, Tensor]) -> Bags:
    """Return the labels of the whole episodes of a batch."""
    return Bags(batch["ep_bags"], batch["ep_bag_return"][:, 0])


def check_bags(batch: dict[str, Tensor]) -> None:
    """Raise a ValueError for a bag beyond its episode; on a GPU nothing is checked, for it would have to be waited for.
    """
    bags = batch["ep_bags"]
    if bags.is_cuda:
        return
    lengths = (batch["ep_inside"] > 0).sum(1)
    for episode, first, end in bags.tolist():
        if episode >= len(lengths) or not 0 <= first <= end <= int(lengths[episode]):
            length = int(lengths[episode]) if episode < len(lengths) else 0
            raise ValueError(f"batch['ep_bags']: got ({episode}, {first}, {end}), expected an episode from 0 to "
                             f"{len(lengths) - 1} and steps within its {length}")


def bags_from(ends: Tensor, inside: Tensor, most: int) -> Tensor:
    """Return the bags that end at marked steps, of each episode `most` rows, of which those left over have no step.

    Args:
        ends: whether a step is the last one of its bag, bool, (N, L); steps behind the last mark are in none.
        inside: whether a step belongs to its episode, bool, (N, L).
        most: at least the marks of an episode.
    Returns:
        (episode, first step, end), int64, (N most, 3).
    """
    count, length = ends.shape
    ends = ends & inside
    number = ends.cumsum(1) - 1                                                                     # of a bag, (N, L)
    after = torch.arange(1, length + 1, device=ends.device).expand(count, length)
    stop = torch.zeros(count, most + 1, dtype=torch.int64, device=ends.device)
    stop.scatter_(1, torch.where(ends, number, most), torch.where(ends, after, 0))                  # (N, most + 1)
    stop = torch.cummax(stop[:, :most], 1).values                       # a row that is left over ends where it begins
    first = F.pad(stop[:, :-1], (1, 0))
    episode = torch.arange(count, device=ends.device)[:, None].expand(count, most)
    return torch.stack([episode, first, stop], -1).flatten(0, 1)


def label_ends(value: Array, length: int) -> Tensor:
    """Return whether a step is the last one that a label is for, bool, (T,).

    Raises:
        ValueError: it is not one flag for each of `length` steps.
    """
    ends = value if isinstance(value, Tensor) else np.asarray(value)
    if tuple(ends.shape) not in ((length,), (length, 1)) or str(ends.dtype) not in ("bool", "torch.bool"):
        raise ValueError(f"episode[{LABEL_END!r}]: got {str(ends.dtype).removeprefix('torch.')} of shape "
                         f"{tuple(ends.shape)}, expected bool of shape ({length}, 1), one flag for each step")
    return torch.as_tensor(ends).reshape(length)


def last_alone(length: int) -> Tensor:
    """Return the ends of labels of an episode with one label, bool, (T,)."""
    return torch.arange(length) == length - 1
