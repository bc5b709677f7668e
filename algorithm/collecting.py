"""Act for a rollout: T steps of N environments, into the buffer of an on-policy agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from algorithm.replay_buffer.rollout import RolloutBuffer
from utils.torch_utils import joined

OnStep = Callable[[Tensor, Tensor, Tensor, Tensor, dict[str, Any], Tensor], None]


@torch.no_grad()
def collect(agent: Any, env: Any, buffer: RolloutBuffer, steps: int, on_step: OnStep, memory: Tensor | None = None,
            ) -> Tensor | None:
    """Act for a rollout.

    Args:
        agent: an `algorithm.basis_alg.on_policy_torch.OnPolicy`.
        env: a tensor environment that was reset, whose actions are in [-1, 1] or indices.
        buffer: gets the steps; it was opened.
        on_step: called as (obs, actions, rewards, over, info, obs_next) after each step, all tensors (N, ...), where
            actions are the environment's, and over is whether the episode ended.
        memory: of a recurrent policy after the step before, (N, S), zeros where an episode starts.
    Returns:
        the memory after the last step.
    """
    obs = observed(env)
    for _ in range(steps):
        drawn, log_probs, values, after = _explore(agent, obs, memory)
        active, acts = env.active, agent.for_env(drawn)
        obs_next, rews, terminated, truncated, info = env.step(acts)
        obs_next, rews = (taking_part(env, active, values) for values in (joined(obs_next), rews))
        terminated, truncated = terminated & active, truncated & active
        over = terminated | truncated
        step = {"obs": obs, "acts": drawn, "log_prob": log_probs, "values": values, "rews": rews,
                "terminated": terminated, "truncated": truncated & ~terminated, "obs_next": obs_next}
        if memory is not None:
            step |= _memory_fields(agent, memory, after, obs_next, step["truncated"])
            memory = after.masked_fill((over | ~active)[:, None], 0.0)      # a row that rests begins anew after it
        buffer.add(step | ({"active": active} if env.rows_per_group > 1 else {}))
        on_step(obs, acts, rews, over, info, obs_next)
        env.reset(over)
        obs = observed(env)
    return memory


def observed(env: Any) -> Tensor:
    """Return the present observations of a tensor environment, raw, (N, ...); see `taking_part`."""
    return taking_part(env, env.active, joined(env.obs))


def taking_part(env: Any, active: Tensor, values: Tensor) -> Tensor:
    """Return values (N, ...) with 0 in the rows that take no part, (N,) bool: they may hold anything, NaN as well."""
    if env.rows_per_group == 1:
        return values
    return values.masked_fill(~active.view(-1, *[1] * (values.dim() - 1)), 0)


def _explore(agent: Any, obs: Tensor, memory: Tensor | None) -> tuple[Tensor, ...]:
    """Return action, log_prob, value and next memory of raw observations (N, ...)."""
    rows = agent.prepare("obs", obs)
    return agent.policy.step(rows, memory) if memory is not None else (*agent.policy.get_action(rows), None)


def _memory_fields(agent: Any, before: Tensor, after: Tensor, last: Tensor, cut: Tensor) -> dict[str, Tensor]:
    """Return what a rollout keeps of a memory: itself, whether an episode starts, the value after a time limit."""
    final = torch.zeros(len(cut), device=after.device, dtype=after.dtype)
    if cut.any():
        final[cut] = agent.policy.value_after(agent.prepare("obs", last[cut]), after[cut])
    return {"starts": (before == 0).all(1).to(after.dtype), "states": before, "final_values": final}
