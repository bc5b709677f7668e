"""A batch of environments without autoreset, seen as one that begins a new episode inside `step`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Obs = Tensor | dict[str, Tensor]


class AutoReset:
    """A tensor environment that begins a new episode inside `step` where one is over.

    `step` returns the new episode's observation there; `info["final_obs"]` holds the last one of each row.
    """

    def __init__(self, env: Any):
        """`env` is an `envs.tensor.TensorEnv`."""
        self.env, self.num_envs, self.device = env, env.num_envs, env.device
        self.observation_space, self.action_space = env.observation_space, env.action_space

    # What a subclass may change ----------------------------------------------------------------------------------

    def seen(self, obs: Obs) -> Obs:
        """Return observations as the caller reads them."""
        return obs

    def acting(self, action: Tensor) -> Tensor:
        """Return actions as the environment gets them."""
        return action

    def took(self, obs: Obs, action: Tensor, step: tuple) -> None:
        """Note a step: what was observed, the caller's actions, and what the environment returned."""

    # What a caller uses ------------------------------------------------------------------------------------------

    @property
    def obs(self) -> Obs:
        """What the environments observe now, (N, ...)."""
        return self.seen(self.env.obs)

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Obs, dict]:
        """Begin a new episode everywhere, or in the rows `options["reset_ids"]`.

        Args:
            seed: of the environment's generator; None: it continues.
        Returns:
            observations of all rows, (N, ...), and an empty dict.
        """
        if seed is not None:
            self.env.generator.manual_seed(seed)
        ids = None if options is None else options.get("reset_ids")
        rows = None
        if ids is not None:
            rows = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
            rows[torch.as_tensor(ids, device=self.device)] = True
        return self.seen(self.env.reset(rows)), {}

    def step(self, action: Tensor) -> tuple[Obs, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step all rows: actions (N, A), or indices (N,).

        Returns:
            observations (N, ...), rewards, terminated and truncated (N,), and info.
        """
        before = self.env.obs
        step = self.env.step(self.acting(action))
        last, rews, terminated, truncated, info = step
        self.took(before, action, step)
        final = self.seen(last)
        return (self.seen(self.env.reset(terminated | truncated)), rews, terminated, truncated,
                {**info, "final_obs": final})

    def close(self) -> None:
        """Release what the environment holds."""
        self.env.close()
