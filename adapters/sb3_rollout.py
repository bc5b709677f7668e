"""Rollouts of Stable-Baselines3 that a decomposition pays before advantages are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Dict, Space
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer

from adapters.decomposer import Decomposer, OpenEpisodes, true_rewards, truncated
from adapters.flattening import Form
from algorithm.decomposition.base import Decomposition
from utils.errors import ConfigError


class DecomposedRolloutBuffer(RolloutBuffer):
    """The rollouts of PPO and A2C, paid by a decomposition; `DecompositionCallback` tells it what the steps were::

        model = PPO("MlpPolicy", env, rollout_buffer_class=rd.sb3.DecomposedRolloutBuffer,
                    rollout_buffer_kwargs=dict(decomposition="rrd"))
        model.learn(100_000, callback=rd.sb3.DecompositionCallback())

    The model learns from all whole episodes so far, then the rollout is paid, then come the advantages. The value that
    Stable-Baselines3 adds at a time limit stays. A model of single steps pays every step. A model of whole episodes
    pays those that ended in the rollout; all other steps get the advantage 0 and their own value as return, so that
    nothing is learned from them. So does every step before the first episode has ended.
    """

    def __new__(cls, *args: Any, **kwargs: Any):
        """Make one for dicts of observations where the space is a Dict."""
        space = kwargs.get("observation_space", args[1] if len(args) > 1 else None)
        is_dict = cls is DecomposedRolloutBuffer and isinstance(space, Dict)
        return super().__new__(DecomposedDictRolloutBuffer if is_dict else cls)

    def __init__(self, buffer_size: int, observation_space: Space, action_space: Space,
                 device: torch.device | str = "auto", gae_lambda: float = 1, gamma: float = 0.99, n_envs: int = 1, *,
                 decomposition: str | Decomposition = "rrd", episode_steps: int = 100_000, **settings: Any):
        """Build the buffer and the model; Stable-Baselines3 gives the first seven arguments.

        Args:
            decomposition: by name, or one that `create_decomposition` has built, which `model.save` then saves.
            episode_steps: steps of whole episodes that the model learns from.
            settings: of the decomposition, such as `fit_updates=100`: its updates before a rollout is paid, by default
                as many as the policy's.
        Raises:
            ConfigError: a setting or a space is wrong.
        """
        super().__init__(buffer_size, observation_space, action_space, device, gae_lambda, gamma, n_envs)
        self.form = Form(observation_space, action_space)
        given = {"basis_alg": "ppo"} | settings if isinstance(decomposition, str) else settings
        self.learner = Decomposer(decomposition, self.form, str(self.device), episode_steps, given)
        self.open = OpenEpisodes(n_envs)
        self.fit_updates = self.learner.config.fit_updates or 1         # the callback knows the policy's

    @property
    def decomposition(self) -> Decomposition:
        """The model."""
        return self.learner.model

    def reset(self) -> None:
        """Begin a rollout: forget the last one; open episodes are kept."""
        super().reset()
        self.steps: list[tuple[np.ndarray, ...]] = []   # observations, actions, rewards as seen, observations after
        self.ended: list[tuple[int, int, dict[str, np.ndarray]]] = []   # environment, step behind its last, episode

    def observe(self, obs: np.ndarray, acts: np.ndarray, obs_next: np.ndarray, rews: np.ndarray, seen: np.ndarray,
                dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """Observe one step of all environments, (N, ...); the model is given the episodes that end with it.

        Args:
            obs, acts, obs_next: as the model reads them, see `adapters.flattening.Form`; `obs_next` is an episode's own
                last one where it ends.
            rews: as the environment gave them; seen: as the policy got them, which differ if they are normalised.
        """
        self.steps.append((obs, acts, np.array(seen), obs_next))
        self.open.add(obs, acts, rews, dones & ~truncated(infos), obs_next, true_rewards(infos))
        for env in np.flatnonzero(dones):
            episode, true = self.open.close(env)
            self.learner.observe(episode, true)
            self.ended.append((env, len(self.steps), episode))

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: np.ndarray) -> None:
        """Let the model learn, pay the rollout, and compute returns and advantages.

        Raises:
            ConfigError: the callback is missing.
        """
        if len(self.steps) != self.buffer_size:
            raise ConfigError(f"callback: got {len(self.steps)} steps of {self.buffer_size} observed, expected all; "
                              "call model.learn(..., callback=rd.sb3.DecompositionCallback())")
        self.learner.update(self.fit_updates)
        paid, counts = self.payments()
        self.rewards += paid - np.stack([seen for _, _, seen, _ in self.steps])
        super().compute_returns_and_advantage(last_values, dones)
        self.advantages = np.where(counts, self.advantages, 0.0).astype(np.float32)
        self.returns = np.where(counts, self.returns, self.values).astype(np.float32)

    def payments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what each step of the rollout is paid, (T, N) float32, and which steps count, bool (T, N)."""
        shape = (self.buffer_size, self.n_envs)
        paid, counts = np.zeros(shape, np.float32), np.zeros(shape, bool)
        if not self.learner.ready:
            return paid, counts
        if self.decomposition.markov:
            obs, acts, _, obs_next = (np.concatenate(column) for column in zip(*self.steps, strict=True))
            rewards = self.learner.rewards(obs, acts, obs_next)
            return rewards.reshape(shape).cpu().numpy(), ~counts
        for env, end, episode in self.ended:
            values = self.learner.paid(episode)[-end:]
            paid[end - len(values):end, env] = values
            counts[end - len(values):end, env] = True
        return paid, counts


class DecomposedDictRolloutBuffer(DecomposedRolloutBuffer, DictRolloutBuffer):
    """The same for dicts of observations; `DecomposedRolloutBuffer` makes it of itself."""
