"""Arena's batch of games as a VecEnv of Stable-Baselines3."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from envs.arena.env import Arena


class Games(VecEnv):
    """All games at once; one that is over is reset in the same step, as a VecEnv does."""

    def __init__(self, env: Arena):
        self.batch = env
        super().__init__(env.num_envs, env.observation_space, env.action_space)

    def reset(self) -> np.ndarray:
        """See VecEnv."""
        return self.batch.reset().numpy().copy()

    def step_async(self, actions: np.ndarray) -> None:
        """See VecEnv."""
        self.actions = torch.as_tensor(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """See VecEnv."""
        obs, rews, terminated, truncated, _ = self.batch.step(self.actions)
        over = terminated | truncated
        infos: list[dict] = [{} for _ in range(self.num_envs)]
        if over.any():
            for row in over.nonzero()[:, 0].tolist():
                infos[row] = {"terminal_observation": obs[row].numpy().copy(),
                              "TimeLimit.truncated": bool(truncated[row] & ~terminated[row])}
            obs = self.batch.reset(over)
        return obs.numpy().copy(), rews.numpy().copy(), over.numpy(), infos

    def close(self) -> None:
        """See VecEnv."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """See VecEnv; a batch has no environments of its own."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """See VecEnv."""

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **named: Any) -> list[Any]:
        """See VecEnv."""
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """See VecEnv."""
        return [False] * self.num_envs


def games(count: int, **settings: Any) -> Games:
    """Return so many games."""
    return Games(Arena(num_envs=count, seed=0, **settings))
