"""One update with its gradients written by hand; tests/algorithm/engine/test_engines.py compares them with autograd's.

A program gives the update as phases, each of two tasks that may run at the same time: by two threads, or on two CUDA
streams. All gradients of an update are taken at the parameters before it, as in `Agent.train`, so the critics' half
(learned reward, next action, targets, critic loss) and the policy's half (policy loss, reward training) need nothing of
each other, and are almost equal work.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.engine.by_hand.mlp import MLP, Pad
from algorithm.engine.by_hand.parts import Fields, Phase
from algorithm.engine.by_hand.reward import RewardProgram
from algorithm.engine.seeds.stacks import Stacks


class Program:
    """What the programs share: the reward's part, and the list of all gradients."""

    def __init__(self, agents: Sequence[Agent], bases: list[Agent]):
        self.basis, self.config = bases[0], bases[0].config
        self.lead = (len(agents),) if len(agents) > 1 else ()
        self.stacks = Stacks()
        self.critic_pad, self.policy_pad = Pad(self.basis.device), Pad(self.basis.device)
        self.reward = None
        if bases[0] is not agents[0] and agents[0].decomposition.joint:
            self.reward = RewardProgram(agents, self.stacks, self.critic_pad, self.policy_pad)
        self.trained: list[MLP] = [self.reward.trained] if self.reward else []

    def phases(self) -> list[Phase]:
        """All gradients: what `Agent.train` takes."""
        return [(self.critics, self.policy_and_reward)]

    def q_phases(self) -> list[Phase]:
        """Those of the critics and of the reward network: `Agent.train_q`."""
        return [(self.critics, self.train_reward)]

    def pi_phases(self) -> list[Phase]:
        """Those of the policy and of the temperature: `Agent.train_pi`."""
        return [(self.policy, None)]

    def critics(self, batch: Fields) -> Info:
        raise NotImplementedError

    def policy(self, batch: Fields) -> Info:
        raise NotImplementedError

    def policy_and_reward(self, batch: Fields) -> Info:
        return self.policy(batch) | self.train_reward(batch)

    def train_reward(self, batch: Fields) -> Info:
        return self.reward.train(batch) if self.reward else {}

    def rewards(self, batch: Fields) -> Tensor:
        """The batch's, or the learned ones, (B, 1)."""
        return self.reward.predict(batch) if self.reward else batch["rews"]

    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        """Each trained tensor and its gradient's buffer."""
        return [pair for net in self.trained for pair in zip(net.weights + net.biases,
                                                              net.weight_grads + net.bias_grads, strict=True)]

    def state(self) -> list[Tensor]:
        """Every tensor that the tasks read or write, but for the batch."""
        grads = [grad for net in self.stacks.networks for grad in net.weight_grads + net.bias_grads]
        return [*self.stacks.stacked.values(), *grads, *self.critic_pad.buffers.values(),
                *self.policy_pad.buffers.values()]

    def of_parameters(self) -> dict[Tensor, Tensor]:
        """The same by the first agent's parameters."""
        names = {id(tensor): parameter for parameter, tensor in self.stacks.stacked.items()}
        return {names[id(tensor)]: grad for tensor, grad in self.gradients()}

    def target(self, batch: Fields, q_next: Tensor) -> Tensor:
        """y = r + gamma (1 - done) q', (B, 1)."""
        return self.rewards(batch).addcmul(1 - batch["done"], q_next, value=self.config.gamma)
