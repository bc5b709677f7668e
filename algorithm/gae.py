"""Generalised advantage estimation (Schulman et al., 2016, arXiv 1506.02438)."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(rewards: Tensor, values: Tensor, last_values: Tensor, terminated: Tensor, truncated: Tensor,
        final_values: Tensor, gamma: float, gae_lambda: float) -> tuple[Tensor, Tensor]:
    """delta_t = r_t + gamma V'_t - V(s_t);  A_t = delta_t + gamma lambda (1 - over_t) A_{t+1};  returns A_t + V(s_t).

    V'_t is the value of what step t led to: 0 where it terminated, `final_values[t]` where it was only truncated,
    `last_values` at the end of the rollout, else `values[t + 1]`. over_t is 1 where the episode ended, by either.

    Args:
        rewards, values: of T steps in N environments, (T, N); `values[t]` is V of the observation that step t acted on.
        last_values: V of the observations after the rollout's last step, (N,).
        terminated, truncated: whether the episode ended with the step, bool, (T, N). A step that is both terminated.
        final_values: V of the last observation of an episode that a step truncates, (T, N); read only there.
    Returns:
        advantages and returns, (T, N) each.
    """
    next_values = torch.cat([values[1:], last_values[None]])
    next_values = torch.where(truncated, final_values, next_values).masked_fill(terminated, 0.0)
    deltas = rewards + gamma * next_values - values
    kept = (gamma * gae_lambda) * (~(terminated | truncated)).to(deltas.dtype)
    advantages, later = torch.empty_like(deltas), torch.zeros_like(last_values)
    for t in reversed(range(len(deltas))):
        later = torch.addcmul(deltas[t], kept[t], later)
        advantages[t] = later
    return advantages, advantages + values
