"""An episode while it is played: each observation once, of images each frame once."""

from __future__ import annotations

import hashlib

import numpy as np


class OpenEpisode:
    """Collects the steps of an episode until it is over, and returns what `store_episode` takes."""

    def __init__(self, obs: np.ndarray):
        """obs: the first observation, a vector (O,) or a stack of frames (H, W, C)."""
        self.images = obs.ndim == 3
        # Copies: the environment may write into its array, and a view of one frame would keep its whole stack.
        self.seen = [obs[..., i].copy() for i in range(obs.shape[-1])] if self.images else [np.array(obs)]
        self.steps: list[tuple] = []

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, action: np.ndarray | int, reward: float, done: bool, obs_next: np.ndarray) -> None:
        """One step. At a time limit the episode is over, but the value of its last state is not 0: `done` is False."""
        self.seen.append(obs_next[..., -1].copy() if self.images else np.array(obs_next))
        self.steps.append((action, reward, done))

    def acts(self) -> np.ndarray:
        """(T, A), or (T,) indices; without a step (0,)."""
        return np.stack([action for action, *_ in self.steps]) if self.steps else np.zeros(0, np.float32)

    def digest(self) -> str:
        """SHA-256 of what was observed and paid."""
        digest = hashlib.sha256()
        for obs in self.seen:
            digest.update(np.ascontiguousarray(obs).tobytes())
        for _, reward, done in self.steps:
            digest.update(np.array([reward, done], np.float64).tobytes())
        return digest.hexdigest()

    def columns(self) -> dict[str, np.ndarray]:
        """`acts`, `rews`, `done`; and `frames` (T + C, H, W), or `obs` and `obs_next` (T, O)."""
        acts, rews, done = zip(*self.steps, strict=True)
        seen = np.stack(self.seen)
        observations = {"frames": seen} if self.images else {"obs": seen[:-1], "obs_next": seen[1:]}
        return observations | {"acts": np.stack(acts), "rews": np.float32(rews)[:, None],
                               "done": np.float32(done)[:, None]}
