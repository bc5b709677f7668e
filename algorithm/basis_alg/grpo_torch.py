"""Group relative policy optimisation (Shao et al., 2024, arXiv 2402.03300), as EmbodiChain's trainer has it.

A step's advantage is its return beside those of the same step in the other environments of a group; no value is
learned. All environments begin a new episode with each rollout, and what follows on its first end does not count.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.ppo_torch import PPO
from algorithm.batch import Spec
from algorithm.collecting import OnStep
from algorithm.masked import mean_of
from algorithm.policy import create_policy
from algorithm.policy.base import Policy
from algorithm.replay_buffer.rollout import RolloutBuffer
from utils.settings.fields import Config

SMALL = 1e-8


class GRPO(PPO):
    """PPO's passes over a rollout, by advantages within groups of environments."""

    train_info = ("Pi_loss", "Entropy", "KL", "Clip_share", "Reference_KL")
    step_info = ()
    begins_anew = True
    pays = False                                    # a rollout cuts the episodes that are open at its end

    def __init__(self, config: Config, policy: Policy):
        """Build the agent around a policy, of which `kl_coef` keeps a copy as the reference."""
        super().__init__(config, policy)
        if config.kl_coef:
            reference = create_policy(config).to(self.device, next(policy.parameters()).dtype)
            reference.load_state_dict(policy.state_dict())
            self.nets["reference"] = reference.requires_grad_(False)

    def spec(self) -> Spec:
        """Return the fields of a minibatch: those of PPO, but for the returns of a value."""
        return {name: shape for name, shape in super().spec().items() if name != "returns"}

    def losses(self, batch: dict[str, Tensor], policy: bool = True) -> tuple[Tensor, Info]:
        """policy_loss + kl_coef mean(exp(d) - d - 1) - ent_coef mean entropy,  d = log pi_ref(a|s) - log pi(a|s)."""
        log_prob, entropy, _ = self.evaluate(batch)
        pi_loss, info = self.policy_loss(log_prob, batch["advantages"], batch)
        entropy = mean_of(entropy, batch)
        loss = pi_loss - self.config.ent_coef * entropy
        info |= {"Pi_loss": pi_loss, "Entropy": entropy, "Reference_KL": torch.zeros_like(pi_loss)}
        if self.config.kl_coef:
            with torch.no_grad():
                reference = self.evaluate(batch, self.nets["reference"])[0]
            d = reference - log_prob
            info["Reference_KL"] = mean_of(d.exp() - d - 1, batch)
            loss = loss + self.config.kl_coef * info["Reference_KL"]
        return loss, info

    def evaluate_step(self, obs: Tensor) -> Info:
        """Return no metrics: there is no value."""
        return {}

    def collect_rollout(self, env: Any, buffer: RolloutBuffer, steps: int, on_step: OnStep,
                        memory: Tensor | None = None) -> Tensor | None:
        """Begin a new episode in each environment, and act for a rollout; see `algorithm.collecting.collect`."""
        env.reset()
        memory = None if memory is None else torch.zeros_like(memory)
        return super().collect_rollout(env, buffer, steps, on_step, memory)

    @torch.no_grad()
    def finish_rollout(self, buffer: RolloutBuffer, obs: Tensor, memory: Tensor | None = None) -> None:
        """Compute the advantages of a rollout; see `OnPolicy.finish_rollout`."""
        active, rews = buffer.get("active"), buffer["rews"]
        if self.config.normalize_rewards:
            rews = buffer.scaled(rews, self.nets["reward_scale"])
        counts = first_episode(buffer["terminated"] | buffer["truncated"])
        self.set_group_advantages(buffer, rews, counts if active is None else counts & active)

    def set_group_advantages(self, buffer: RolloutBuffer, rews: Tensor, counts: Tensor) -> Tensor:
        """Set `advantages` and `mask` of a rollout, and return the discounted returns, (T, N).

        Args:
            rews: (T, N).
            counts: which steps count, bool (T, N).
        """
        returns = step_returns(rews, buffer["terminated"] | buffer["truncated"], self.config.gamma)
        mask = counts.to(returns.dtype)
        buffer.set_extras({"advantages": group_advantages(returns, mask, self.config.group_size), "mask": mask})
        return returns


def first_episode(over: Tensor) -> Tensor:
    """Return which steps belong to the first episode of their environment, its last one included: bool (T, N)."""
    return over.cumsum(0) - over.long() == 0


def step_returns(rews: Tensor, over: Tensor, gamma: float) -> Tensor:
    """G_t = r_t + gamma (1 - over_t) G_{t+1}, and G_T = 0: (T, N)."""
    found, later = torch.empty_like(rews), torch.zeros_like(rews[0])
    for t in reversed(range(len(rews))):
        later = rews[t] + gamma * later.masked_fill(over[t], 0.0)
        found[t] = later
    return found


def group_advantages(returns: Tensor, mask: Tensor, group_size: int) -> Tensor:
    """(G - mean) / (std + 1e-8), with the biased std, over the steps of a group at the same time that count.

    Args:
        returns: (T, N).
        mask: 1 where a step counts, else 0, (T, N).
        group_size: how many neighbouring environments are a group, a divisor of N.
    Returns:
        (T, N); 0 where a step does not count.
    """
    returns, mask = (x.unflatten(1, (-1, group_size)) for x in (returns, mask))         # (T, N / G, G)
    count = mask.sum(-1, keepdim=True).clamp_min(1)
    centred = (returns - (returns * mask).sum(-1, keepdim=True) / count) * mask
    std = (centred.square().sum(-1, keepdim=True) / count).sqrt()
    return (centred / (std + SMALL)).flatten(1)
