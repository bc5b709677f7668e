"""Labels on any intervals of an episode's steps, which may overlap; the i-th stands at the row of the i-th step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

NAMES = ("bag_first", "bag_end", "bag_label")           # of the columns of an episode, (T,) each


class BagColumns:
    """Three columns of a ring: first step, end and label; a row whose bag has no step is none."""

    def __init__(self, capacity: int, device: torch.device):
        self.first, self.end = (torch.zeros(capacity, dtype=torch.int32, device=device) for _ in "ab")
        self.label = torch.zeros(capacity, device=device)

    def write(self, rows: Tensor, fields: Mapping[str, Tensor]) -> None:
        """Write the columns of an episode at its rows, (T,)."""
        for name, column in self.columns().items():
            column[rows] = fields[name].to(column)

    def columns(self) -> dict[str, Tensor]:
        """Return the columns by their names in an episode."""
        return dict(zip(NAMES, (self.first, self.end, self.label), strict=True))

    def of_episode(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the columns of one episode."""
        return {name: column[rows] for name, column in self.columns().items()}

    def of_batch(self, rows: Tensor, inside: Tensor, most: int) -> dict[str, Tensor]:
        """Return `ep_bags` (N most, 3) and `ep_bag_return` (N most, 1) of N episodes.

        Args:
            rows: of their steps, (N, L); beyond an end any.
            inside: whether a step belongs to its episode, bool, (N, L).
            most: labels of an episode, at most, and at most L.
        """
        rows, inside = rows[:, :most], inside[:, :most]
        first, end, labels = (torch.where(inside, column[rows], 0) for column in self.columns().values())
        episode = torch.arange(len(rows), device=rows.device)[:, None].expand_as(first)
        return {"ep_bags": torch.stack([episode, first.long(), end.long()], -1).flatten(0, 1),
                "ep_bag_return": labels.float().reshape(-1, 1)}


def as_columns(where: Tensor, labels: Tensor, length: int) -> dict[str, Tensor]:
    """Return the columns of an episode of T steps with M labels, M at most T: (M, 2), (M,) -> (T,) each."""
    values = (where[:, 0], where[:, 1], labels)
    return {name: torch.cat([value, value.new_zeros(length - len(value))])
            for name, value in zip(NAMES, values, strict=True)}
