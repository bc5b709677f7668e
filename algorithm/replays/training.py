"""What the cases of PPO and A2C have in common: an agent, a rollout that is given, and a record of its updates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from algorithm.basis_alg.on_policy_torch import OnPolicy
from algorithm.learning_rates import apply_settings
from algorithm.policy import create_policy
from algorithm.registry import load
from algorithm.replay_buffer.rollout import RolloutBuffer
from algorithm.replays.case import Case, CaseError
from utils.errors import ConfigError
from utils.settings.fields import Config
from utils.settings.resolve import effective, resolve
from utils.settings.sizes import with_sizes

EMPTY = ("hidden_sizes", "critic_hidden_sizes", "shared_sizes")         # may be (), which no flag can say


def settings_of(case: Case, alg: str, given: Mapping[str, Any], obs_dim: int, act_dim: int, discrete: bool) -> Config:
    """The resolved settings of a case.

    Raises:
        CaseError: one of them is wrong.
    """
    empty = {name: () for name in EMPTY if given.get(name) == ()}
    given = {name: value for name, value in given.items() if name not in empty}
    try:
        config = resolve(effective({"alg": alg, "device": str(case.device)} | given))
        config = dataclasses.replace(config, acts_discrete=discrete, **empty)
        return with_sizes(config, obs_dim, act_dim)
    except ConfigError as error:
        raise CaseError(f"{case.path}: {error}") from None


def build(case: Case, config: Config, weights: Mapping[str, Tensor]) -> OnPolicy:
    """The agent of a case, with its first weights by the policy's names.

    Raises:
        CaseError: they do not fit the policy.
    """
    policy = create_policy(config).to(case.dtype)
    try:
        policy.load_state_dict(weights)
    except RuntimeError as error:
        raise CaseError(f"{case.path}: weights: {' '.join(str(error).split())}") from None
    agent = load("alg", config.alg, "pytorch")(config, policy)
    apply_settings(agent, config)
    return agent


def fill(config: Config, steps: Mapping[str, Tensor]) -> RolloutBuffer:
    """A buffer that holds a rollout, name -> (T, N, ...)."""
    buffer = RolloutBuffer(config)
    buffer.open()
    for t in range(len(steps["rews"])):
        buffer.add({name: value[t] for name, value in steps.items()})
    return buffer


class Record:
    """What each update computed, seen where an engine sees it: before its step."""

    def __init__(self, agent: OnPolicy, names: Callable[[str], str]):
        """`names`: the policy's name of a parameter -> the case's."""
        self.agent, self.names = agent, names
        self.updates: list[dict[str, float]] = []
        self.first: dict[str, Tensor] = {}              # gradients of the first update
        agent.inspect = self._see

    def _see(self, info: dict[str, Tensor]) -> None:
        gradients = {name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                     for name, parameter in self.agent.policy.named_parameters()}
        self.first = self.first or {self.names(name): value.clone() for name, value in gradients.items()}
        norm = torch.stack([value.square().sum() for value in gradients.values()]).sum().sqrt()
        self.updates.append({name: float(value.detach()) for name, value in info.items()} | {"grad_norm": float(norm)})

    def parameters(self) -> dict[str, Tensor]:
        """Copies of the parameters by the case's names."""
        return {self.names(name): value.detach().clone() for name, value in self.agent.policy.named_parameters()}

    def train(self, buffer: RolloutBuffer, updates: int) -> dict[str, Tensor]:
        """Make the updates, fewer if the KL stop says so; return the parameters after the first one."""
        after_first = None
        for _ in range(updates):
            self.agent.update(buffer.sample)
            if self.updates and after_first is None:
                after_first = self.parameters()
            if self.agent.enough():
                break
        return after_first or self.parameters()

    def column(self, name: str) -> list[float]:
        """One metric of all updates."""
        return [update[name] for update in self.updates]

    def total(self) -> list[float]:
        """The whole loss of each update."""
        config = self.agent.config
        return [update["Pi_loss"] + config.vf_coef * update["V_loss"] - config.ent_coef * update["Entropy"]
                for update in self.updates]
