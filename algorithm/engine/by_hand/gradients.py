"""The gradients of one agent's update, written by hand; a file beside this one for each algorithm.

`q_loss` and `pi_loss` of `by_hand/sac.py` compute what those of `basis_alg/sac_torch.py` do, line by line, and write
the gradients of the parameters beside it. All gradients of an update are taken at the parameters before it, as in
`Agent.train`: the critics' half (learned reward, next action, targets, critics) and the policy's half (policy, reward
network) are independent of each other, and almost equal work. So they run at the same time. Work that is not divided
so is divided by rows: means over rows are sums times the batch's `weight`, and those of its halves add up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.batch import Batch
from algorithm.engine.by_hand.mlp import MLP
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.reward import RewardGradients

Part = Callable[[Batch], Info]          # a part of an update: it writes gradients, and returns losses or other tensors
Step = tuple[list[Part], ...]           # parts in one list, or in two that may be computed at the same time


def compute(parts: Sequence[Part], batch: Batch) -> Info:
    """Compute parts one after the other; return their results."""
    return {name: value for part in parts for name, value in part(batch).items()}


def added(one: Info, other: Info) -> Info:
    """The results of both; values of one name add up."""
    return one | other | {name: one[name] + other[name] for name in one if name in other}


class Gradients:
    """The losses and gradients of `Agent.train`, `train_q` and `train_pi`, without the optimisers' steps.

    A subclass has the agent's `q_loss` and `pi_loss` as parts, which write their gradients. A verb is a list of steps;
    the results of a step join the batch of the next step.
    """

    first = True        # of two that share the rows of a batch: it adds what does not depend on rows

    def __init__(self, nets: Nets, reward: RewardGradients | None):
        """nets: of the agent; reward: of its decomposition, None where the batch's rewards are taken as they are."""
        self.nets, self.reward = nets, reward
        self.reward_loss = [reward.loss] if reward else []
        self.basis = getattr(nets.agent, "basis", nets.agent)
        self.config = self.basis.config

    def train(self) -> list[Step]:
        """Every gradient of one update."""
        return [([self.q_loss], [self.pi_loss, *self.reward_loss])]

    def train_q(self) -> list[Step]:
        """The gradients of the critics and of the reward network."""
        return [([self.q_loss], self.reward_loss)]

    def train_pi(self) -> list[Step]:
        """The gradients of the policy, and of SAC's temperature."""
        return [([self.pi_loss],)]

    def pay(self, batch: Batch) -> Tensor:
        """The rewards that the critics learn from, learned or the batch's, (B, 1)."""
        return self.reward.pay(batch) if self.reward else batch["rews"]


def twin(critics: list[MLP], obs: Tensor, acts: Tensor) -> list[Tensor]:
    """(B, O), (B, A) -> the value by each of two critics, (B, 1)."""
    x = torch.cat([obs, acts], dim=-1)
    return [critic(x) for critic in critics]
