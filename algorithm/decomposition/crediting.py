"""The payments of whole episodes in a replay: which are made anew after a burst, and how many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from algorithm.decomposition.base import VECTORS, Decomposition
from algorithm.draws import pad


def credit(model: Decomposition, replay: Any, version: int, budget: int) -> int:
    """Pay the episodes that are due; return how many steps were paid.

    Args:
        replay: an `algorithm.replay_buffer.whole.EpisodeReplay` that keeps payments.
        version: of the model: how many bursts it has learned in.
        budget: steps of episodes that an older version has paid, at most.
    """
    episodes = {slot: replay.episode_at(slot) for slot in replay.due(version, budget)}
    pictures = len(model.obs_dims) == 3
    for slots in ([slot] for slot in episodes) if pictures else grouped(
            {slot: len(one["rews"]) for slot, one in episodes.items()}, VECTORS):
        for slot, paid in zip(slots, pay_together(model, [episodes[slot] for slot in slots], pictures), strict=True):
            replay.set_credit(slot, paid, version)
    return sum(len(one["rews"]) for one in episodes.values())


def pay_together(model: Decomposition, episodes: Sequence[dict], alone: bool) -> list[torch.Tensor]:
    """Return the payments of episodes, (T,) each; of pictures, whose frames are held once, one at a time."""
    if alone:
        return [model.redistribute(one) for one in episodes]
    lengths = [len(one["rews"]) for one in episodes]
    joined = {name: pad([one[name] for one in episodes]) for name in ("obs", "acts", "obs_next", "rews")}
    mask = pad([torch.ones(length, dtype=torch.bool) for length in lengths])
    return [row[:length] for row, length in zip(model.redistribute(joined, mask), lengths, strict=True)]


def grouped(lengths: dict[int, int], most: int) -> Iterator[list[int]]:
    """Yield the slots of episodes of similar lengths together, at most so many steps with their padding."""
    some: list[int] = []
    for slot, length in sorted(lengths.items(), key=lambda one: one[1]):
        if some and (len(some) + 1) * length > most:
            yield some
            some = []
        some.append(slot)
    if some:
        yield some
