"""Gather experience from a tensor environment for algorithms that learn from replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from algorithm.replay_buffer.episode import OpenEpisode
from envs.curriculum import Curriculum
from envs.state import below
from envs.training_env import TrainingEnv
from learner.drops import Drops
from learner.staging import Dense, Staged
from learner.stepwise import Columns, Stepwise
from utils.finite import all_finite, check_observation, check_reward, place


class TensorCollector(Stepwise):
    """The rows of a tensor environment with an open episode each; see `learner.collector`.

    Nothing is stored of rows that are not active. A saved state is a copy of the environment's tensors and of the open
    episodes. It owns the curriculum.
    """

    def __init__(self, env: TrainingEnv, agent: Any, curriculum: Curriculum | None = None, drops: Drops | None = None):
        """drops: none may be allowed, see `learner.training.check_drops`."""
        self.env, self.agent, self.drops = env, agent, drops or Drops()
        self.num_envs, self.rows = env.num_groups, env.num_envs         # a joint action of a group is one step
        self.steps = 0                                                                  # of each environment
        self.dense, self.staged = Dense(env), Staged(env, curriculum)
        self.obs = as_array(env.reset())                                                # (N, O)
        self._check(range(self.rows))
        self.open_episodes = [OpenEpisode(obs) for obs in self.obs]

    def step(self) -> list[Columns]:
        """Step all rows; return the episodes that ended, in the order of the rows.

        Raises:
            NotFiniteError: an observation or a reward is not finite.
        """
        active = self.env.active
        actions = self.agent.step(self.obs, explore=True)                               # (N, A), or (N,) indices
        obs, rews, terminated, truncated, info = self.env.step(torch.as_tensor(actions, device=self.env.device))
        self.steps += 1
        self.obs, rewards, done = as_array(obs), as_array(rews), as_array(terminated)
        self.dense.add(info, active)
        rows = np.flatnonzero(as_array(active))
        self._check(rows, rewards)
        for i in rows:
            self.open_episodes[i].add(actions[i], float(rewards[i]), bool(done[i]), self.obs[i])
        return self._close((terminated | truncated) & active, info)

    def _close(self, over: Tensor, info: Mapping[str, Any]) -> list[Columns]:
        """Return the episodes that ended, and begin the next ones."""
        ended = np.flatnonzero(as_array(over))
        episodes = [self.open_episodes[i].columns() for i in ended]
        self.returns = [(float(info["return"][i]), int(info["length"][i])) for i in ended]
        if not episodes:
            return episodes
        self.staged.update(over, info, self.steps)
        began = np.flatnonzero(as_array(self.env.beginning(over)))
        self.obs = as_array(self.env.reset(over))
        self._check(began)
        for i in began:
            self.open_episodes[i] = OpenEpisode(self.obs[i])
        return episodes

    def _check(self, rows: Any, rewards: np.ndarray | None = None) -> None:
        """Check the observations of these rows, and their rewards, of this step."""
        if all_finite(self.obs) and (rewards is None or all_finite(rewards)):
            return
        for i in rows:
            step = 0 if rewards is None else len(self.open_episodes[i]) + 1
            where = f"in environment {i + 1} of {self.rows} {place(self.steps * self.num_envs, step)}"
            check_observation(self.obs[i], where)
            if rewards is not None:
                check_reward(rewards[i], where)

    def log(self, logger: Any) -> None:
        """Log what the environment told at each step since the last call, the stage, and the episodes that ended."""
        super().log(logger)
        self.dense.log(logger, self.steps)
        self.staged.log(logger)

    # Saved state ----------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what the environment and the open episodes are restored from: (values, tensors)."""
        values = {"steps": self.steps, "curriculum": self.staged.state()}
        tensors = {f"env/{name}": tensor for name, tensor in self.env.state().items()}
        for i, episode in enumerate(self.open_episodes):
            tensors |= {f"episode.{i}/{name}": torch.as_tensor(array) for name, array in written(episode).items()}
        return values, tensors

    def restore(self, values: dict[str, Any], tensors: Mapping[str, Tensor]) -> int:
        """Restore what `state` returned; return how many open episodes were lost and begin anew."""
        self.steps = values["steps"] + 0                                    # a TypeError unless it is a number
        self.staged.restore(values["curriculum"])
        lost = as_array(self.env.restore(below("env", tensors)))
        self.obs = as_array(self.env.obs)
        self.open_episodes = [OpenEpisode(self.obs[i]) if lost[i] else
                              read({name: tensor.numpy() for name, tensor in below(f"episode.{i}", tensors).items()})
                              for i in range(self.rows)]
        return int(lost.sum())


def as_array(tensor: Tensor) -> np.ndarray:
    """Return a tensor as NumPy's, on the CPU; a copy where the tensor is there already."""
    return tensor.detach().to("cpu", copy=True).numpy()


def written(episode: OpenEpisode) -> dict[str, np.ndarray]:
    """Return an open episode as arrays: seen (T + 1, O) or frames (T + C, H, W), acts, and paid (T, 2)."""
    paid = np.array([step[1:] for step in episode.steps], np.float64).reshape(-1, 2)
    return {"seen": np.stack(episode.seen), "acts": episode.acts(), "paid": paid,
            "images": np.array(episode.images)}


def read(arrays: Mapping[str, np.ndarray]) -> OpenEpisode:
    """Return the open episode that `written` has written."""
    seen, images = arrays["seen"], bool(arrays["images"])
    first = len(seen) - len(arrays["acts"])                                             # 1, or the frames of a stack
    episode = OpenEpisode(np.moveaxis(seen[:first], 0, -1) if images else seen[0])
    for action, (reward, done), obs in zip(arrays["acts"], arrays["paid"], seen[first:], strict=True):
        episode.add(action, float(reward), bool(done), obs[..., None] if images else obs)
    return episode
