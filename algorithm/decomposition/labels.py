"""Labels on any intervals of an episode's steps, as a user gives them: `bags` (M, 2), and `bag_return` (M, 1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from algorithm.batch import Array
from utils.settings.algorithms import ALGORITHMS, any_of

BAGS, BAG_RETURN = "bags", "bag_return"


def check_no_bags(episode: Mapping[str, Array], alg: str) -> None:
    """Raise a ValueError if an episode has labels on intervals that nothing of this algorithm reads."""
    if BAGS in episode:
        some = any_of([name for name, one in ALGORITHMS.items() if one.labels and one.built_in])
        raise ValueError(f"episode[{BAGS!r}]: got labels on intervals, which {alg} does not fit here; expected the "
                         f"return alone, or {some} with all steps of an episode")


def takes_bags(alg: str) -> bool:
    """Whether the loss of a decomposition reads labels on any intervals."""
    return ALGORITHMS[alg].labels


def own_bags(episode: Mapping[str, Array], length: int) -> tuple[Tensor, Tensor]:
    """Return the bags of an episode, first step and end of each, int64 (M, 2), and their labels, float64 (M,).

    Without `bag_return` the label of a bag is the sum of its steps' `rews`. Bags may overlap and leave steps out.

    Raises:
        ValueError: a bag is beyond the episode, or a field has the wrong shape or type.
    """
    where = torch.as_tensor(episode[BAGS]).cpu()
    if where.ndim != 2 or where.shape[1] != 2 or where.is_floating_point() or not 1 <= len(where) <= length:
        raise ValueError(f"episode[{BAGS!r}]: got {str(where.dtype).removeprefix('torch.')} of shape "
                         f"{tuple(where.shape)}, expected integers of shape (M, 2), first step and end of 1 to "
                         f"{length} bags")
    where = where.long()
    for first, end in where.tolist():
        if not 0 <= first < end <= length:
            raise ValueError(f"episode[{BAGS!r}]: got ({first}, {end}), expected 0 <= first < end <= {length}, the "
                             "steps of the episode")
    return where, given_labels(episode[BAG_RETURN], len(where)) if BAG_RETURN in episode else summed(
        where, torch.as_tensor(episode["rews"]))


def given_labels(value: Array, count: int) -> Tensor:
    """Return the labels of `count` bags, float64 (M,).

    Raises:
        ValueError: they have another shape, or one is not finite.
    """
    labels = torch.as_tensor(value).cpu()
    if tuple(labels.shape) not in ((count,), (count, 1)):
        raise ValueError(f"episode[{BAG_RETURN!r}]: got shape {tuple(labels.shape)}, expected ({count}, 1), one label "
                         "for each bag")
    if not labels.isfinite().all():
        raise ValueError(f"episode[{BAG_RETURN!r}]: got a label that is not finite, expected finite numbers")
    return labels.double().reshape(count)


def summed(where: Tensor, rews: Tensor) -> Tensor:
    """Return the sums of the rewards of each bag, (M, 2), (T, 1) -> float64 (M,)."""
    total = torch.cat([torch.zeros(1, dtype=torch.float64), rews.cpu().double().reshape(-1).cumsum(0)])
    return total[where[:, 1]] - total[where[:, 0]]


def bags_of_ends(ends: Tensor) -> Tensor:
    """Return the bags of an episode whose labels end at marked steps, bool (T,) -> int64 (M, 2)."""
    stop = ends.cpu().nonzero()[:, 0] + 1
    return torch.stack([torch.cat([torch.zeros(1, dtype=torch.int64), stop])[:len(stop)], stop], -1)
