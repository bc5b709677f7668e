"""Whole episodes of rollouts: an episode may begin in one rollout and end in a later one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Fields = dict[str, Tensor]
KEPT = ("obs", "acts", "rews", "terminated", "obs_next")


class Whole(NamedTuple):
    """An episode that has ended in the present rollout."""

    row: int                    # its environment
    start: int                  # its first step, counted from the first of the rollout: negative in an earlier one
    end: int                    # behind its last step
    fields: Fields              # as `store_episode` takes them, (L, ...)


class OpenRows:
    """The steps of the episodes that were open when a rollout ended, time first, (H, N, ...)."""

    def __init__(self):
        self.past: Fields = {}
        self.begun: list[int] = []          # of each environment: where in `past` its open episode begins

    def close(self, steps: Mapping[str, Tensor], over: Tensor, active: Tensor | None = None) -> list[Whole]:
        """Take a rollout; return the episodes that ended in it, by environment and time.

        Args:
            steps: the fields of `KEPT`, (T, N, ...).
            over: whether the episode ended with the step, bool, (T, N).
            active: whether the environment took part in the step, bool, (T, N); None: always.
        """
        before = len(self.past["rews"]) if self.past else 0
        joined = {name: torch.cat([self.past[name], steps[name]]) if before else steps[name] for name in KEPT}
        begun = self.begun or [0] * over.shape[1]
        ended: list[Whole] = []
        rests = None if active is None else (~active).cpu()
        for row, ends in enumerate(over.cpu().t()):
            start = self._skip(begun[row], before, row, rests)
            for end in (ends.nonzero()[:, 0] + before + 1).tolist():
                ended.append(Whole(row, start - before, end - before, _episode(joined, row, start, end)))
                start = self._skip(end, before, row, rests)
            begun[row] = start
        first = min(begun)
        # Copies: the rollout's own memory is written anew.
        self.past = {name: value[first:].clone() for name, value in joined.items()}
        self.begun = [start - first for start in begun]
        return ended

    @staticmethod
    def _skip(start: int, before: int, row: int, rests: Tensor | None) -> int:
        """Return the first step from `start` on in which the environment takes part."""
        while rests is not None and 0 <= start - before < len(rests) and rests[start - before, row]:
            start += 1
        return start

    def tensors(self) -> Fields:
        """Return what `restore` takes."""
        if not self.past:
            return {}
        return {f"past.{name}": value for name, value in self.past.items()} | {"past_begun": torch.tensor(self.begun)}

    def restore(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Restore what `tensors` gave."""
        if "past_begun" in tensors:
            self.begun = tensors["past_begun"].tolist()
            self.past = {name: tensors[f"past.{name}"].to(device) for name in KEPT}


def _episode(joined: Fields, row: int, start: int, end: int) -> Fields:
    """Return the steps [start, end) of an environment as `store_episode` takes an episode."""
    fields = {name: value[start:end, row] for name, value in joined.items()}
    done = fields.pop("terminated").float()[:, None]
    return fields | {"rews": fields["rews"][:, None], "done": done}
