"""TD3's update with its gradients written by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.basis_alg.td3_torch import TD3
from algorithm.engine.by_hand.mlp import MLP
from algorithm.engine.by_hand.onednn import sizes
from algorithm.engine.by_hand.parts import Fields, Phase, mean, regress
from algorithm.engine.by_hand.program import Program


class TD3Program(Program):
    """`TD3.q_loss` and `TD3.pi_loss`: the critics look at the batch beside the targets, and are fitted side by side."""

    def __init__(self, agents: Sequence[Agent], bases: list[TD3]):
        super().__init__(agents, bases)
        q, pi, mlp = self.critic_pad, self.policy_pad, self.stacks.mlp
        self.next_policy = mlp([basis.policy_target for basis in bases], q)
        self.own_policy = mlp([basis.policy for basis in bases], pi, "policy", trained=True)
        self.targets = [mlp([basis.critics_target[name] for basis in bases], q, f"target_{name}")
                        for name in self.basis.critics]
        first, second = ([basis.critics[name] for basis in bases] for name in self.basis.critics)
        self.fitted = [mlp(first, q, "critic", trained=True), mlp(second, pi, "critic", trained=True)]
        self.climbed = mlp(first, pi, "critic")
        self.trained += [self.own_policy, *self.fitted]

    def phases(self) -> list[Phase]:
        return self.q_phases() + self.pi_phases()

    def q_phases(self) -> list[Phase]:
        return [(self._set_target, self._score), (self._fit_first, self._fit_second)]

    def _set_target(self, batch: Fields) -> Info:
        acts = (self.next_policy.forward(batch["obs_next"]).tanh() + batch["target_noise"]).clamp(-1, 1)
        x = torch.cat([batch["obs_next"], acts], dim=-1)
        batch["y"] = self.target(batch, torch.minimum(*(target.forward(x) for target in self.targets)))
        return {}

    def _score(self, batch: Fields) -> Info:
        x = torch.cat([batch["obs"], batch["acts"]], dim=-1)
        for name, critic in zip(("q_1", "q_2"), self.fitted, strict=True):
            batch |= {name: critic.forward(x)} | critic.save(name)
        return self.train_reward(batch)

    def _fit_first(self, batch: Fields) -> Info:
        return self._fit("q_1", self.fitted[0], batch)

    def _fit_second(self, batch: Fields) -> Info:
        return self._fit("q_2", self.fitted[1], batch)

    def _fit(self, name: str, critic: MLP, batch: Fields) -> Info:
        critic.load(name, batch)
        return {"Q_loss": regress(critic, batch[name], batch["y"])}

    def policy(self, batch: Fields) -> Info:
        obs = batch["obs"]
        acts = self.own_policy.forward(obs).tanh()
        q = self.climbed.forward(torch.cat([obs, acts], dim=-1))
        by_q = self.climbed.input_grad(torch.full_like(q, -1 / sizes(q)[-2]), sizes(obs)[-1])
        self.own_policy.backward(torch.ops.aten.tanh_backward(by_q, acts))
        return {"Pi_loss": -mean(q)}
