"""On-policy agents, and rollouts of random numbers for them."""

from __future__ import annotations

import torch

from algorithm import create_agent
from algorithm.replay_buffer import create_buffer
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

OBS, ACTS = 5, 3


def make_config(alg: str = "ppo", discrete: bool = False, obs_dims=OBS, obs_parts=None, **settings):
    """Settings of an on-policy agent, or with `basis_alg` of a decomposition over one."""
    config = resolve({"alg": alg, "device": "cpu", "rollout_steps": 8, "num_envs": 4} | settings)
    return with_sizes(config, obs_dims, ACTS, acts_discrete=discrete, obs_parts=obs_parts)


def make(alg: str = "ppo", **settings):
    """An agent and its empty buffer."""
    config = make_config(alg, **settings)
    return create_agent(config), create_buffer(config)


def draw_obs(config, *sizes: int, generator=None) -> torch.Tensor:
    if len(config.obs_dims) == 3:
        return torch.randint(0, 256, (*sizes, *config.obs_dims), dtype=torch.uint8, generator=generator)
    return torch.randn(*sizes, *config.obs_dims, generator=generator)


def fill(agent, buffer, steps: int = 8, rows: int = 4, seed: int = 0, ends: float = 0.15, obs=None):
    """Let the agent act on random observations, from `obs` on; episodes end by chance, by either flag."""
    config, generator = agent.config, torch.Generator().manual_seed(seed)
    buffer.open()
    memory = agent.policy.initial_state(rows) if agent.recurrent else None
    obs = draw_obs(config, rows, generator=generator) if obs is None else obs
    for _ in range(steps):
        step = {"obs": obs}
        if memory is None:
            step["acts"], step["log_prob"], step["values"] = agent.policy.get_action(agent.prepare("obs", obs))
        else:
            step |= {"states": memory, "starts": (memory == 0).all(1).float(), "final_values": torch.zeros(rows)}
            *found, memory = agent.policy.step(agent.prepare("obs", obs), memory)
            step["acts"], step["log_prob"], step["values"] = found
        terminated, truncated = (torch.rand(rows, generator=generator) < ends for _ in "ab")
        step |= {"rews": torch.randn(rows, generator=generator), "terminated": terminated,
                 "truncated": truncated & ~terminated, "obs_next": draw_obs(config, rows, generator=generator)}
        buffer.add(step)
        over = terminated | truncated
        if memory is not None:
            memory = memory.masked_fill(over[:, None], 0.0)
        starts = over.view(-1, *[1] * (obs.ndim - 1))
        obs = torch.where(starts, draw_obs(config, rows, generator=generator), step["obs_next"])
    buffer.close(obs, agent.for_env(buffer["acts"]), memory)
    return buffer


def finish(agent, buffer):
    """Compute the advantages of a filled rollout, and begin its updates."""
    agent.finish_rollout(buffer, buffer.last_obs, buffer.last_memory)
    agent.begin_updates(buffer)
    return buffer
