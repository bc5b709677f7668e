"""Episodes whose return arrives later: they are stored, and no decomposition learns from them before it arrives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from algorithm.replay_buffer.storage import Fields
from algorithm.replay_buffer.transition import TransitionReplay
from utils.settings.fields import Config


class LateReturns(TransitionReplay):
    """A replay that also takes episodes without `rews`, and their returns by `pay`."""

    def __init__(self, config: Config):
        """Allocate the ring; see `TransitionReplay`."""
        self.awaited: set[int] = set()                  # numbers of episodes, from 0, the first one ever
        self.late: dict[int, float] = {}                # returns that came after their episodes, by number
        self.known: Tensor | None = None                # the rows of episodes with returns, if not all have one
        super().__init__(config)

    def store_episode(self, episode: Mapping[str, np.ndarray | Tensor]) -> int:
        """Append one whole episode; see `TransitionReplay.store_episode`. Without `rews` its return is awaited."""
        if "rews" in episode or "acts" not in episode:
            number = super().store_episode(episode)
            self._note(self.known is not None)
            return number
        number = super().store_episode({**episode, "rews": np.zeros((len(episode["acts"]), 1), np.float32)})
        self.awaited.add(number)
        self._note(True)
        return number

    def pay(self, number: int, value: float) -> bool:
        """Give the return of an episode that was stored without `rews`.

        Args:
            number: what `store_episode` returned.
        Returns:
            whether the episode was still held; else the replay has made room, and nothing is done.
        Raises:
            ValueError: the episode awaits no return, or the value is not finite.
        """
        if not math.isfinite(value):
            raise ValueError(f"value: got {value}, expected a finite return")
        if number not in self.awaited and not 0 <= number < self.first_episode:
            some = ", ".join(map(str, sorted(self.awaited)[:10])) or "none does"
            raise ValueError(f"number: got {number}, expected an episode that awaits its return ({some})")
        if number not in self.awaited:
            return False
        self.awaited.remove(number)
        self.late[number] = float(value)
        self._settle(self._slot_of(number), float(value))
        self._note(True)
        return True

    def _settle(self, slot: int, value: float) -> None:
        """Write a return: the reward of the last step."""
        self.storage.set_reward(self._rows_of(slot)[-1:], value)
        self.returns[slot] = value

    def _slot_of(self, number: int) -> int:
        return (self.first_slot + number - self.first_episode) % self.capacity

    def _note(self, changed: bool) -> None:
        """Forget numbers of episodes that are gone, and find the rows of those with returns."""
        self.awaited = {number for number in self.awaited if number >= self.first_episode}
        self.late = {number: value for number, value in self.late.items() if number >= self.first_episode}
        if changed:
            self.known = self._known_rows() if self.awaited else None

    def _known_rows(self) -> Tensor:
        """Return the rows of the steps of all episodes with returns."""
        numbers = range(self.first_episode, self.episodes_stored)
        rows = [self._rows_of(self._slot_of(number)) for number in numbers if number not in self.awaited]
        return torch.cat([torch.empty(0, dtype=torch.int64, device=self.device), *rows])

    def _draw_known(self, size: int) -> Tensor:
        """Draw rows as `_draw_rows` does, of episodes with returns alone.

        Raises:
            ValueError: there is none.
        """
        if self.known is None:
            return self._draw_rows(size)
        if not len(self.known):
            raise ValueError("buffer: got no episode with a return, expected at least one before sampling: "
                             "pay(number, R)")
        return self.known[self._draw_below(torch.tensor(len(self.known), device=self.device), size)]

    @property
    def layout(self) -> tuple:
        """What the rows with returns follow from, if not all have one."""
        return () if self.known is None else (self.first_episode, self.episodes_stored, *sorted(self.awaited))

    def tensors(self) -> Fields:
        """Return the state; numbers and returns of episodes that were stored without, if there are any."""
        found = super().tensors()
        if self.awaited:
            found |= {"awaited": torch.tensor(sorted(self.awaited))}
        if self.late:
            found |= {"late": torch.tensor(sorted(self.late.items()), dtype=torch.float64)}
        return found

    def restore(self, numbers: Mapping[str, int], tensors: Fields, episodes: Iterable[tuple[int, Fields]]) -> None:
        """Restore the state; see `TransitionReplay.restore`."""
        super().restore(numbers, tensors, episodes)
        self.awaited = set(tensors["awaited"].tolist()) if "awaited" in tensors else set()
        for number, value in (tensors["late"].tolist() if "late" in tensors else ()):
            self.late[int(number)] = value
            self._settle(self._slot_of(int(number)), value)
        self._note(True)
