"""What stands beside a rollout where no decomposition keeps episodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class NoReplay:
    """A replay that holds nothing, and does not ask for episodes."""

    episodes = episodes_stored = first_episode = episode_bytes = bytes_needed = 0
    storage = None

    def store_episode(self, episode: Mapping[str, Any]) -> None:
        """Forget the episode."""

    def episode_fields(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def numbers(self) -> dict[str, int]:
        """Return the counts that every replay has."""
        return {"episodes": 0, "episodes_stored": 0}

    def tensors(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def read_episodes(self, first: int, end: int) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def restore(self, numbers: Mapping[str, int], tensors: Mapping[str, Any], episodes: Iterable[tuple]) -> None:
        """Restore nothing."""
