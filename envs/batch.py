"""Environments of Gymnasium, and Atari's, as a tensor environment: NumPy to the device once a step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from envs.origin import Origin, State, replay_actions
from envs.tensor import Step, TensorEnv
from utils.errors import EpisodeNotFiniteError
from utils.finite import all_finite, place

STARTS = 10                                             # starts of episodes in a row that may be dropped
Finite = Callable[[np.ndarray, float, str], bool]
Played = tuple[np.ndarray, list[tuple]]                 # of `envs.origin.replay_actions`


class Environments(Protocol):
    """What `envs.workers.pool.Workers` and `Here` have in common."""

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


class Here:
    """Environments in this process, one after the other, behind the methods of `envs.workers.pool.Workers`."""

    def __init__(self, envs: Sequence[gym.Env]):
        self.num_envs, self.each = len(envs), [Origin(env, 0) for env in envs]
        self.shown: list[np.ndarray] = [None] * len(envs)           # what each observes now, (...)

    @property
    def origins(self) -> dict[int, tuple[int, State | None]]:
        """(seed, state before the reset) of each open episode."""
        return {i: (origin.seed, origin.before) for i, origin in enumerate(self.each)}

    def reset(self, *, seed: list[int] | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode in each, the first one with a seed, or in those of `options["reset_mask"]`."""
        if seed is not None:
            self.each = [Origin(origin.env, one) for origin, one in zip(self.each, seed, strict=True)]
        mask = np.ones(self.num_envs, bool) if options is None else options["reset_mask"]
        for i in np.flatnonzero(mask):
            self.shown[i] = self.each[i].reset()[0]
        return np.stack(self.shown), {}

    def step(self, actions: np.ndarray) -> tuple:
        """Step each; actions (N, A) or (N,)."""
        steps = [origin.env.step(action) for origin, action in zip(self.each, actions, strict=True)]
        self.shown, rews, terminated, truncated, infos = map(list, zip(*steps, strict=True))
        told = {"restarted": np.zeros(self.num_envs, bool), "true_reward": np.array([info["true_reward"]
                                                                                     for info in infos])}
        return np.stack(self.shown), np.array(rews), np.array(terminated, bool), np.array(truncated, bool), told

    def play(self, episodes: list[tuple[int, State | None, np.ndarray]]) -> tuple[np.ndarray, list[Played | None]]:
        """Bring each into the middle of an episode."""
        self.each = [Origin(origin.env, seed) for origin, (seed, *_) in zip(self.each, episodes, strict=True)]
        played = [replay_actions(origin, *episode) for origin, (_, *episode) in zip(self.each, episodes, strict=True)]
        self.shown = [steps[-1][-1] if steps else first for first, steps in played]
        return np.stack(self.shown), played

    def close(self) -> None:
        """Close the environments."""
        for origin in self.each:
            origin.env.close()


class GymBatch(TensorEnv):
    """N environments of `envs.make_env` as a tensor environment.

    Where a process was replaced, the row's episode is truncated: at its last observation, with reward 0. So it is where
    an observation or a reward is not finite, if `finite` allows that. Its state is the actions of the open episodes;
    `restore` plays them again. `info["true_rews"]` (N,) holds the environments' own rewards,
    and `info["lost"]` (N,) whether the episode was cut because it could not go on.
    """

    trusted = True                                      # `make_env` has wrapped them with checks

    def __init__(self, envs: Environments, example: gym.Env, seeds: Sequence[int], device: str | torch.device = "cpu",
                 finite: Finite | None = None):
        """
        Args:
            envs: the environments.
            example: an environment like them, for its spaces.
            seeds: one for each, of its first reset.
            finite: (observation, reward, place) -> whether both are finite; it may raise a NotFiniteError. None: both
                are passed on as they are.
        """
        self.envs, self.seeds, self.example, self.finite = envs, list(seeds), example, finite
        self.steps = 0                                  # of each environment, in this process
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
        self._reset_again(mask)
        self.fresh &= ~mask
        for i in np.flatnonzero(mask):
            self.episodes[i] = _Actions(self.shown[i])
        return self._on_device(self.shown)

    def _step(self, acts: Tensor) -> Step:
        actions, before = acts.to("cpu", copy=True).numpy(), self.shown
        self.shown, rews, terminated, truncated, info = self.envs.step(actions)
        self.steps += 1
        true, restarted = info["true_reward"], info["restarted"]
        lost = restarted | self._left(rews)
        rews, true = np.where(lost, 0, rews), np.where(lost, 0, true)
        for i, episode in enumerate(self.episodes):
            episode.add(actions[i], self.shown[i], rews[i])
        self.fresh |= restarted
        seen = np.where(lost.reshape(-1, *[1] * (before.ndim - 1)), before, self.shown) if lost.any() else self.shown
        told = {"lost": self._on_device(lost), "true_rews": self._on_device(np.float32(true))}
        return (self._on_device(seen), self._on_device(np.float32(rews)), self._on_device(terminated & ~lost),
                self._on_device(truncated | lost), told)

    def _left(self, rews: np.ndarray) -> np.ndarray:
        """Return the rows, (N,), whose observation or reward is not finite, and whose episode may be dropped."""
        if self.finite is None or (all_finite(self.shown) and all_finite(rews)):
            return np.zeros(len(rews), bool)
        return np.array([not self.finite(obs, reward, self._place(i, len(self.episodes[i].taken) + 1))
                         for i, (obs, reward) in enumerate(zip(self.shown, rews, strict=True))])

    def _reset_again(self, mask: np.ndarray) -> None:
        """Reset those rows of the mask again that begin with an observation that is not finite, if `finite` allows."""
        tries = 0
        while self.finite is not None and not all_finite(self.shown[mask]):
            mask = np.array([bool(due) and not self.finite(obs, 0.0, self._place(i, 0))
                             for i, (due, obs) in enumerate(zip(mask, self.shown, strict=True))])
            if (tries := tries + 1) >= STARTS:
                raise EpisodeNotFiniteError(f"observation: got {tries} starts of episodes in a row that are not "
                                            f"finite, {self._place(int(mask.argmax()), 0)}; expected finite numbers "
                                            "after a reset")
            self.shown, _ = self.envs.reset(options={"reset_mask": mask})

    def _place(self, i: int, step: int) -> str:
        return f"in environment {i + 1} of {len(self.seeds)} {place(self.steps * len(self.seeds), step)}"

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
        self.hash = hashlib.sha256()
        if obs is not None:
            self.hash.update(np.ascontiguousarray(obs))

    @classmethod
    def played(cls, played: Played) -> _Actions:
        """Return the episode that `replay_actions` has played."""
        first, steps = played
        episode = cls(first)
        for action, reward, _, obs in steps:
            episode.add(action, obs, reward)
        return episode

    def add(self, action: Any, obs: np.ndarray, reward: float) -> None:
        """Add a step; `action` is kept as it is, an array that nobody changes or an index."""
        self.taken.append(action)
        self.hash.update(np.ascontiguousarray(obs))
        self.hash.update(np.float64(reward))

    @property
    def digest(self) -> str:
        """Return the digest so far."""
        return self.hash.hexdigest()

    def acts(self) -> np.ndarray:
        """Return the actions, (T, A) or (T,); (0,) before the first one."""
        return np.stack(self.taken) if self.taken else np.zeros(0, np.float32)


def _as_bytes(value: Any) -> Tensor:
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
