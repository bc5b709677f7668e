"""A decomposition in a training loop of one's own: it sees the steps, and pays batches of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from adapters.decomposer import Decomposer, OpenEpisodes
from adapters.flattening import Form
from algorithm.decomposition.base import Decomposition
from envs.spaces import unscaled
from utils.errors import ConfigError

STEPS = 1_000_000           # of whole episodes that are held, unless `episode_steps` says how many


class Relabeler:
    """A decomposition, the whole episodes that it learns from, and the rewards that it pays instead::

        replay = rd.Relabeler("rrd", envs.single_observation_space, envs.single_action_space, num_envs=8)
        replay.add(obs, actions, rewards, terminations, truncations, real_next_obs)             # each step
        rewards = replay.relabel(data.observations, data.actions, data.next_observations)       # each update

    What the environment paid for a step counts only in the sum over its episode.
    """

    def __init__(self, decomposition: str | Decomposition, observation_space: Space, action_space: Space,
                 num_envs: int = 1, episode_steps: int = STEPS, device: torch.device | str = "cpu", **settings: Any):
        """Build the model.

        Args:
            decomposition: the name of one that pays single steps, or one that `create_decomposition` has built.
            observation_space, action_space: of one environment.
            num_envs: N, the environments whose steps `add` is given.
            episode_steps: steps of whole episodes that the model learns from.
            settings: of the decomposition, such as `rrd_sample_size=32`.
        Raises:
            ConfigError: a setting or a space is wrong, or the decomposition pays whole episodes.
        """
        self.form = Form(observation_space, action_space)
        self.learner = Decomposer(decomposition, self.form, str(device), episode_steps, settings)
        if not self.learner.model.markov:
            raise ConfigError(f"decomposition: got {self.learner.config.alg!r}, which pays a step by its whole "
                              "episode, expected one of single steps, such as rrd")
        self.open = OpenEpisodes(num_envs)

    @property
    def decomposition(self) -> Decomposition:
        """The model."""
        return self.learner.model

    def add(self, obs: Any, acts: Any, rews: Any, terminated: Any, truncated: Any, obs_next: Any) -> None:
        """Add one step of all environments; arrays or tensors (N, ...), of a dict of observations a dict of those.

        Args:
            acts: as the environment got them.
            obs_next: after the step; where an episode ended, its own last one, not the first of the next.
        """
        obs, obs_next, acts, rews, terminated, truncated = (
            arrays(value) for value in (obs, obs_next, acts, rews, terminated, truncated))
        ended = np.asarray(terminated, bool)
        unknown = [None] * len(ended)
        self.open.add(self.form.obs(obs), self.form.acts(acts), rews, ended, self.form.obs(obs_next), unknown)
        for row in np.flatnonzero(ended | np.asarray(truncated, bool)):
            self.learner.observe(*self.open.close(row))

    def relabel(self, obs: Any, acts: Any, obs_next: Any, updates: int = 1) -> Tensor:
        """Let the model learn, and return the rewards that it pays for steps.

        Args:
            obs, obs_next: (..., O), arrays or tensors, or dicts of those; any leading dimensions, such as (T, N).
            acts: as the environment got them, (..., A) or indices (...).
            updates: of the model before it pays: 1 in each update of the agent; on a rollout as many as of the agent.
        Returns:
            the rewards (...), on the device of `obs`; 0 before the first episode has ended.
        """
        if self.learner.model.joint:
            self.learner.update(updates)
        else:
            self.learner.burst()
        leading = self._leading(acts)
        device = obs.device if isinstance(obs, Tensor) else "cpu"
        paid = self.learner.rewards(self._obs(obs, leading), self._acts(acts, leading), self._obs(obs_next, leading))
        return paid.reshape(leading).to(device)

    def metrics(self) -> dict[str, float]:
        """Return the model's losses since the last call, and R2 and correlations of the last 20 episodes' returns."""
        return {**self.learner.metrics(), **self.learner.judge()}

    def _leading(self, acts: Any) -> tuple[int, ...]:
        """Return the leading dimensions of actions; of Discrete ones a last dimension of 1 may be left out."""
        shape = tuple(acts.shape)
        return shape if self.form.discrete else shape[:len(shape) - len(self.form.actions.shape)]

    def _obs(self, obs: Any, leading: tuple[int, ...]) -> Any:
        """Observations as the model reads them, (M, O); tensors of vectors stay where they are."""
        if isinstance(obs, Tensor) and isinstance(self.form.theirs, Box) and not self.form.pictures:
            return obs.reshape(int(np.prod(leading)), -1).float()
        return self.form.obs(rows(arrays(obs), len(leading)))

    def _acts(self, acts: Any, leading: tuple[int, ...]) -> Any:
        if not isinstance(acts, Tensor):
            return self.form.acts(rows(np.asarray(acts), len(leading)))
        if self.form.discrete:
            return acts.reshape(-1).long()
        return unscaled(acts, self.form.actions).reshape(int(np.prod(leading)), -1)


def arrays(value: Any) -> Any:
    """Return a tensor, an array, or a dict of those, as arrays."""
    if isinstance(value, dict):
        return {name: arrays(one) for name, one in value.items()}
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def rows(value: Any, leading: int) -> Any:
    """Return an array with so many leading dimensions, or a dict of those, with one."""
    if isinstance(value, dict):
        return {name: rows(one, leading) for name, one in value.items()}
    return value.reshape(-1, *value.shape[leading:])
