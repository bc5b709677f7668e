"""A replay of Stable-Baselines3 whose batches a decomposition pays; it learns in the same updates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Dict, Space
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from adapters.decomposer import Decomposer, OpenEpisodes, true_rewards, truncated
from adapters.flattening import Form
from algorithm.decomposition.agent import check_learns
from algorithm.decomposition.base import Decomposition


class DecomposedReplayBuffer(ReplayBuffer):
    """The replay of SAC, TD3, DDPG and DQN, paid by a decomposition::

        SAC("MlpPolicy", env, replay_buffer_class=rd.sb3.DecomposedReplayBuffer,
            replay_buffer_kwargs=dict(decomposition="rrd"))

    A model of single steps pays each batch as it is drawn, and takes one step of its own optimiser then: as in this
    package's agents it pays before it learns. With `fit_every` it learns in bursts. A model of whole episodes pays an
    episode once it is over, and again after later bursts; only steps of episodes that are over are then drawn. Before
    the first episode has ended, every reward is 0.

    Rewards and observations are raw: with VecNormalize, what the policy reads is normalised and what the model reads is
    not, and payments are not scaled.
    """

    def __new__(cls, *args: Any, **kwargs: Any):
        """Make one for dicts of observations where the space is a Dict."""
        space = kwargs.get("observation_space", args[1] if len(args) > 1 else None)
        is_dict = cls is DecomposedReplayBuffer and isinstance(space, Dict)
        return super().__new__(DecomposedDictReplayBuffer if is_dict else cls)

    def __init__(self, buffer_size: int, observation_space: Space, action_space: Space,
                 device: torch.device | str = "auto", n_envs: int = 1, optimize_memory_usage: bool = False,
                 handle_timeout_termination: bool | None = None, *, decomposition: str | Decomposition = "rrd",
                 episode_steps: int | None = None, **settings: Any):
        """Build the replay and the model; Stable-Baselines3 gives the first six arguments.

        Args:
            handle_timeout_termination: by default unless `optimize_memory_usage`, with which it cannot go.
            decomposition: by name, or one that `create_decomposition` has built, which `model.save` then saves.
            episode_steps: steps of whole episodes that the model learns from; by default buffer_size.
            settings: of the decomposition, such as `r_lr=1e-4`.
        Raises:
            ConfigError: a setting or a space is wrong.
        """
        handles = not optimize_memory_usage if handle_timeout_termination is None else handle_timeout_termination
        super().__init__(buffer_size, observation_space, action_space, device, n_envs, optimize_memory_usage, handles)
        self.form = Form(observation_space, action_space)
        self.learner = Decomposer(decomposition, self.form, str(self.device), episode_steps or buffer_size, settings)
        check_learns(self.learner.model)
        self.open = OpenEpisodes(n_envs)
        shape = (self.buffer_size, n_envs)
        self.over = np.zeros(shape, bool)               # whether the episode of a step has ended
        self.credit = np.zeros(shape, np.float32)       # what a step of a finished episode is paid by its episode
        self.episode_returns = np.zeros(shape if self.learner.by_return else (0, n_envs))
        self.ends: dict[tuple[int, int], np.ndarray] = {}       # (row, environment) -> the last observation
        self.places: dict[int, tuple[int, int, int]] = {}       # episode -> environment, step behind its last, length
        self.added = 0                                  # steps of each environment, ever

    @property
    def decomposition(self) -> Decomposition:
        """The model."""
        return self.learner.model

    # Adding ---------------------------------------------------------------------------------------------------

    def add(self, obs: Any, next_obs: Any, action: np.ndarray, reward: np.ndarray, done: np.ndarray,
            infos: list[dict[str, Any]]) -> None:
        """Add one step of all environments; the model observes the episodes that end with it."""
        row = self.pos
        super().add(obs, next_obs, action, reward, done, infos)
        self.added += 1
        self.over[[row, self.pos] if self.optimize_memory_usage else row] = False
        last = self.form.obs(next_obs)
        ended = np.asarray(done, bool) & ~truncated(infos)
        self.open.add(self.form.obs(obs), self.form.scaled(action), np.asarray(reward), ended, last,
                      true_rewards(infos))
        for env in range(self.n_envs):
            self.ends.pop((row, env), None)
            if done[env]:
                if self.optimize_memory_usage:          # the next episode's first observation takes its place
                    self.ends[row, env] = last[env].copy()
                self._finish(env)

    def _finish(self, env: int) -> None:
        """Hand an episode that is over to the model, and pay its steps in the meantime."""
        episode, true = self.open.close(env)
        length = len(episode["rews"])
        number = self.learner.observe(episode, true)
        self.places[number] = env, self.added, length
        rows, _ = self._rows(number)
        self.over[rows, env] = True
        if self.learner.by_return:
            self.episode_returns[rows, env] = episode["rews"].sum(dtype=np.float64)
        elif not self.decomposition.markov:
            self.credit[rows, env] = episode["rews"].sum(dtype=np.float64) / length
        for old in [old for old in self.places if old < self.learner.replay.first_episode]:
            del self.places[old]

    def _rows(self, number: int) -> tuple[np.ndarray, slice]:
        """Return the rows of the steps of an episode that are still in the ring, and which of its steps they are."""
        _, end, length = self.places[number]
        oldest = self.added - self.buffer_size + self.optimize_memory_usage
        kept = max(min(length, end - oldest), 0)
        return np.arange(end - kept, end) % self.buffer_size, slice(length - kept, length)

    # Sampling -------------------------------------------------------------------------------------------------

    def _get_samples(self, batch_inds: np.ndarray, env: VecNormalize | None = None) -> Any:
        """Return the batch of these rows, each of a random environment, paid by the model, which then learns."""
        rows, envs = self._drawn(batch_inds, np.random.randint(0, high=self.n_envs, size=(len(batch_inds),)))
        for number in self.learner.burst():
            if number in self.places:
                ring, steps = self._rows(number)
                self.credit[ring, self.places[number][0]] = self.learner.payments(number)[steps]
        obs, acts = self._of(self.observations, rows, envs), self.actions[rows, envs]
        if self.optimize_memory_usage:
            obs_next = self._of(self.observations, (rows + 1) % self.buffer_size, envs)
        else:
            obs_next = self._of(self.next_observations, rows, envs)
        rewards = self._pay(rows, envs, obs, acts, obs_next)
        if self.decomposition.joint:
            self.learner.update()
        dones = self.dones[rows, envs] * (1 - self.timeouts[rows, envs])
        kind = DictReplayBufferSamples if isinstance(obs, dict) else ReplayBufferSamples
        return kind(observations=self._tensors(self._normalize_obs(obs, env)), actions=self.to_torch(acts),
                    next_observations=self._tensors(self._normalize_obs(obs_next, env)),
                    dones=self.to_torch(dones.reshape(-1, 1)), rewards=rewards.to(self.device))

    def _drawn(self, rows: np.ndarray, envs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the drawn steps; a model of whole episodes cannot pay those that are not over, and others are drawn.
        """
        if self.decomposition.markov or self.over[rows, envs].all() or not self.over.any():
            return rows, envs
        paid = np.flatnonzero(self.over)
        others = np.stack(np.unravel_index(paid[np.random.randint(0, len(paid), size=len(rows))], self.over.shape))
        return tuple(np.where(self.over[rows, envs], np.stack([rows, envs]), others))

    def _pay(self, rows: np.ndarray, envs: np.ndarray, obs: Any, acts: np.ndarray, obs_next: Any) -> Tensor:
        """Return the rewards of the drawn steps, (B, 1)."""
        if self.learner.by_return:
            return self.learner.of_returns(self.episode_returns[rows, envs])
        if not self.decomposition.markov:
            return torch.as_tensor(self.credit[rows, envs].reshape(-1, 1))
        after = self.form.obs(obs_next)
        for i in np.flatnonzero(self.dones[rows, envs]) if self.ends else ():
            after[i] = self.ends.get((rows[i], envs[i]), after[i])
        return self.learner.rewards(self.form.obs(obs), self.form.scaled(acts), after)

    @staticmethod
    def _of(held: Any, rows: np.ndarray, envs: np.ndarray) -> Any:
        if isinstance(held, dict):
            return {name: one[rows, envs] for name, one in held.items()}
        return held[rows, envs]

    def _tensors(self, values: Any) -> Any:
        if isinstance(values, dict):
            return {name: self.to_torch(one) for name, one in values.items()}
        return self.to_torch(values)


class DecomposedDictReplayBuffer(DecomposedReplayBuffer, DictReplayBuffer):
    """The same for dicts of observations; `DecomposedReplayBuffer` makes it of itself."""
