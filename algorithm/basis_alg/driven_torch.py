"""An algorithm of this package in the loop of EmbodiChain's trainer, which calls it step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from algorithm.basis_alg.on_policy_torch import OnPolicy
from algorithm.basis_alg.published_torch import BaseAlgorithm
from algorithm.policy.base import Policy
from algorithm.replay_buffer.rollout import RolloutBuffer
from utils.errors import ConfigError

NAMES = {"Pi_loss": "actor_loss", "V_loss": "value_loss", "Entropy": "entropy"}     # ours -> the trainer's


class Driven(BaseAlgorithm):
    """An `OnPolicy` behind `initialize_buffer`, `collect_rollout` and `update`."""

    def __init__(self, agent: OnPolicy):
        """
        Raises:
            ConfigError: its policy has a memory, which this loop does not carry.
        """
        if agent.recurrent:
            raise ConfigError("algorithm: got a policy with a memory, expected one without: its state is not carried "
                              "by this loop; train.py does")
        self.agent, self.policy, self.device = agent, agent.policy, agent.device
        self.buffer: RolloutBuffer | None = None

    def initialize_buffer(self, num_steps: int, num_envs: int, obs_dim: int, action_dim: int) -> None:
        """Make the memory of a rollout; a batch is at most the rollout."""
        config, size = self.agent.config, num_steps * num_envs
        if config.batch_size < config.timesteps:        # else a batch is the whole rollout
            size = min(config.batch_size, size)
        self.buffer = RolloutBuffer(dataclasses.replace(config, rollout_steps=num_steps, num_envs=num_envs,
                                                        batch_size=size))

    def collect_rollout(self, env: Any, policy: Policy, obs: Tensor, num_steps: int,
                        on_step_callback: Callable | None = None) -> dict[str, Any]:
        """Take `num_steps` steps of all environments, and compute advantages; see `BaseAlgorithm.collect_rollout`.

        `info["final_obs"]`, where the environment gives it, holds what episodes ended with.
        """
        if self.buffer is None:
            raise RuntimeError("Buffer not initialized. Call initialize_buffer() first.")
        if self.agent.begins_anew:
            obs, _ = env.reset()
        self.buffer.open()
        for _ in range(num_steps):
            drawn, log_prob, value = policy.get_action(self.agent.prepare("obs", obs))
            next_obs, reward, terminated, truncated, info = env.step(self.agent.for_env(drawn))
            self.buffer.add({"obs": obs, "acts": drawn, "log_prob": log_prob, "values": value, "rews": reward,
                             "terminated": terminated, "truncated": truncated & ~terminated,
                             "obs_next": info.get("final_obs", next_obs)})
            if on_step_callback is not None:
                on_step_callback(obs, drawn, reward, terminated | truncated, info, next_obs)
            obs = next_obs
        self.agent.finish_rollout(self.buffer, obs)
        return {}

    def update(self) -> dict[str, float]:
        """Make all updates that are due on the rollout; return the means of their metrics."""
        agent, buffer, found = self.agent, self.buffer, []
        agent.begin_updates(buffer)
        while len(found) < buffer.updates and not agent.enough():
            found.append(agent.update(buffer.sample))
        agent.end_updates(buffer, buffer.updates - len(found))
        means = {name: torch.stack([info[name] for info in found]).mean() for name in found[0]}
        return {NAMES.get(name, name): float(value) for name, value in means.items()}
