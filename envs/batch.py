"""Environments of Gymnasium, and Atari's, as a tensor environment: NumPy to the device once a step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from envs.origin import Origin, State, replay_actions
from envs.tensor import Step, TensorEnv

Played = tuple[np.ndarray, list[tuple]]                 # of `envs.origin.replay_actions`


class Environments(Protocol):
    """What `envs.workers.pool.Workers` and `Alone` have in common."""

    num_envs: int
    origins: dict[int, tuple[int, State | None]]        # (seed, state before the reset) of each open episode

    def reset(self, *, seed: list[int] | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Reset all, or those of `options["reset_mask"]`."""

    def step(self, actions: np.ndarray) -> tuple:
        """Step all; see `Workers.step`."""

    def play(self, episodes: list[tuple[int, State | None, np.ndarray]]) -> tuple[np.ndarray, list[Played | None]]:
        """Bring each into the middle of an episode; see `Workers.play`."""

    def close(self) -> None:
        """Close them."""


class Alone:
    """One environment in this process, behind the methods of `envs.workers.pool.Workers`."""

    num_envs = 1

    def __init__(self, env: gym.Env):
        self.env, self.origin = env, Origin(env, 0)

    @property
    def origins(self) -> dict[int, tuple[int, State | None]]:
        """(seed, state before the reset) of the open episode."""
        return {0: (self.origin.seed, self.origin.before)}

    def reset(self, *, seed: list[int] | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode, the first one with a seed."""
        if seed is not None:
            self.origin = Origin(self.env, seed[0])
        return self.origin.reset()[0][None], {}

    def step(self, actions: np.ndarray) -> tuple:
        """Step; actions (1, A) or (1,)."""
        obs, reward, terminated, truncated, _ = self.env.step(actions[0])
        return (obs[None], np.array([reward]), np.array([terminated], bool), np.array([truncated], bool),
                {"restarted": np.zeros(1, bool)})

    def play(self, episodes: list[tuple[int, State | None, np.ndarray]]) -> tuple[np.ndarray, list[Played | None]]:
        """Bring the environment into the middle of an episode."""
        (seed, before, acts), = episodes
        self.origin = Origin(self.env, seed)
        first, steps = replay_actions(self.origin, before, acts)
        return (steps[-1][-1] if steps else first)[None], [(first, steps)]

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


class GymBatch(TensorEnv):
    """N environments of `envs.make_env` as a tensor environment.

    Where a process was replaced, the row's episode is truncated: at its last observation, with reward 0. Its state is
    the actions of the open episodes; `restore` plays them again.
    """

    def __init__(self, envs: Environments, example: gym.Env, seeds: Sequence[int], device: str | torch.device = "cpu"):
        """
        Args:
            envs: the environments.
            example: an environment like them, for its spaces.
            seeds: one for each, of its first reset.
        """
        self.envs, self.seeds, self.example = envs, list(seeds), example
        self.episodes = [_Actions() for _ in self.seeds]
        self.fresh = np.zeros(len(self.seeds), bool)    # rows that a replaced process has already begun anew
        self.shown: np.ndarray | None = None            # (N, ...): what the environments observe now
        super().__init__(len(self.seeds), device)

    def setup(self) -> None:
        self.observation_space, self.action_space = self.example.observation_space, self.example.action_space
        self.spec = self.example.spec

    def _reset(self, rows: Tensor) -> Tensor:
        mask = rows.cpu().numpy()
        if self.shown is None:
            self.shown, _ = self.envs.reset(seed=self.seeds)
        elif (due := mask & ~self.fresh).any():
            self.shown, _ = self.envs.reset(options={"reset_mask": due})
        self.fresh &= ~mask
        for i in np.flatnonzero(mask):
            self.episodes[i] = _Actions(self.shown[i])
        return self._on_device(self.shown)

    def _step(self, acts: Tensor) -> Step:
        actions, before = acts.cpu().numpy(), self.shown
        self.shown, rews, terminated, truncated, info = self.envs.step(actions)
        restarted = info["restarted"]
        for i, episode in enumerate(self.episodes):
            episode.add(actions[i], self.shown[i], rews[i])
        self.fresh |= restarted
        seen = np.where(restarted.reshape(-1, *[1] * (before.ndim - 1)), before, self.shown) if restarted.any() else (
            self.shown)
        return (self._on_device(seen), self._on_device(np.float32(rews)), self._on_device(terminated),
                self._on_device(truncated | restarted), {"restarted": self._on_device(restarted)})

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(array)).to(self.device)

    def render(self, row: int = 0) -> np.ndarray:
        return super().render(row) if self.num_envs > 1 else self.example.render()

    def close(self) -> None:
        self.envs.close()

    # Saved state ----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        known = [(*self.envs.origins[i], episode.digest) for i, episode in enumerate(self.episodes)]
        return {"origins": _as_bytes(known)} | {f"acts/{i}": torch.as_tensor(episode.acts())
                                                for i, episode in enumerate(self.episodes)}

    def restore(self, state: Mapping[str, Tensor]) -> Tensor:
        known = json.loads(bytes(state["origins"].tolist()))
        episodes = [(seed, before, state[f"acts/{i}"].numpy()) for i, (seed, before, _) in enumerate(known)]
        self.shown, played = self.envs.play(episodes)
        self.shown = np.array(self.shown)
        self.episodes = [_Actions.played(one) if one else _Actions(self.shown[i]) for i, one in enumerate(played)]
        lost = np.array([one is None or episode.digest != digest
                         for one, episode, (*_, digest) in zip(played, self.episodes, known, strict=True)])
        self.fresh = np.array([one is None for one in played])
        self.obs = self._on_device(self.shown)
        rows = self._on_device(lost)
        self.reset(rows)
        return rows


class _Actions:
    """The actions of an open episode, and a digest of what was observed and paid."""

    def __init__(self, obs: np.ndarray | None = None):
        self.taken: list[Any] = []
        self.digest = "" if obs is None else _digest("", obs)

    @classmethod
    def played(cls, played: Played) -> _Actions:
        """Return the episode that `replay_actions` has played."""
        first, steps = played
        episode = cls(first)
        for action, reward, _, obs in steps:
            episode.add(action, obs, reward)
        return episode

    def add(self, action: Any, obs: np.ndarray, reward: float) -> None:
        """Add a step."""
        self.taken.append(np.array(action))
        self.digest = _digest(self.digest, obs, np.float64(reward))

    def acts(self) -> np.ndarray:
        """Return the actions, (T, A) or (T,); (0,) before the first one."""
        return np.stack(self.taken) if self.taken else np.zeros(0, np.float32)


def _digest(before: str, *arrays: np.ndarray) -> str:
    """Return a digest of arrays that depends on the one before; a chain of them is saved as one."""
    digest = hashlib.sha256(before.encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _as_bytes(value: Any) -> Tensor:
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
