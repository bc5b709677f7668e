"""The gradients of one agent's update, written by hand; a file beside this one for each algorithm.

`q_loss` and `pi_loss` of `by_hand/sac.py` compute what those of `basis_alg/sac_torch.py` do, line by line, and write
the gradients of the parameters beside it. All gradients of an update are taken at the parameters before it, as in
`Agent.train`: the critics' half (learned reward, next action, targets, critics) and the policy's half (policy, reward
network) need nothing of each other, and are almost equal work. So they run at the same time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.batch import Batch
from algorithm.engine.by_hand.mlp import MLP
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.reward import RewardGradients

Part = Callable[[Batch], Info]          # a part of an update: it writes gradients, and gives losses or other tensors
Both = Callable[..., Info]              # (batch, part, other part) -> what both give; they may run at the same time


class Gradients:
    """What `Agent.train`, `train_q` and `train_pi` compute between the batch and the optimisers' steps.

    A subclass has the agent's `q_loss` and `pi_loss`, which write their gradients.
    """

    def __init__(self, nets: Nets, reward: RewardGradients | None):
        """nets: of the agent; reward: of its decomposition, None where the batch's rewards are taken as they are."""
        self.nets, self.reward = nets, reward
        self.basis = getattr(nets.agent, "basis", nets.agent)
        self.config = self.basis.config

    def train(self, batch: Batch, both: Both) -> Info:
        """Every gradient of one update of everything; the losses, ()."""
        return both(batch, self.q_loss, self.other_losses)

    def train_q(self, batch: Batch, both: Both) -> Info:
        """The gradients of the critics and of the reward network; the losses, ()."""
        return both(batch, self.q_loss, self.reward_loss)

    def train_pi(self, batch: Batch, both: Both) -> Info:
        """The gradients of the policy, and of SAC's temperature; the losses, ()."""
        return both(batch, self.pi_loss)

    def reward_loss(self, batch: Batch) -> Info:
        """The loss of the reward network and its gradients; {} without one."""
        return self.reward.loss(batch) if self.reward else {}

    def other_losses(self, batch: Batch) -> Info:
        """The losses of the policy's half, and their gradients."""
        return self.pi_loss(batch) | self.reward_loss(batch)

    def pay(self, batch: Batch) -> Tensor:
        """The rewards that the critics learn from, learned or the batch's, (B, 1)."""
        return self.reward.pay(batch) if self.reward else batch["rews"]


def twin(critics: list[MLP], obs: Tensor, acts: Tensor) -> list[Tensor]:
    """(B, O), (B, A) -> the value by each of two critics, (B, 1)."""
    x = torch.cat([obs, acts], dim=-1)
    return [critic(x) for critic in critics]
