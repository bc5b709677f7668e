"""The update of an agent that learns off policy: the original's verbs over two losses.

`q_loss` and `pi_loss` are pure functions of parameters and a checked batch. They reach disjoint parameters, so their
sum needs one backward pass, and every gradient of a call is taken at the parameters before it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.batch import Batch, Spec, check_loss, transition_spec
from algorithm.schedule import Schedule
from utils.optimizers import TFAdam


class OffPolicy(Agent):
    """An agent that learns from batches of transitions."""

    # What a subclass says -------------------------------------------------------------------------------------

    def q_spec(self) -> Spec:
        """Return the fields that the critics' update needs, with their shapes."""
        return transition_spec(self.obs_dims, self.acts_shape)

    def pi_spec(self) -> Spec:
        """Return the fields that the policy's update needs, with their shapes."""
        return {"obs": ("B", *self.obs_dims)}

    def q_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """Return the critics' loss (), and the metrics to report."""
        raise NotImplementedError

    def pi_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """Return the policy's loss (), and the metrics to report."""
        raise NotImplementedError

    def target_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return (network, its target) for each network that has one."""
        target = self.nets["target"]
        return [(self.nets["main"][name], target[name]) for name in target]

    # Training -------------------------------------------------------------------------------------------------

    def spec(self) -> Spec:
        """Return the fields of both."""
        return self.q_spec() | self.pi_spec()

    def train(self, batch: Batch) -> Info:
        """Update everything once from one batch; see `Agent.train`.

        With `critic_first` the policy's loss is computed after the critics' step, on the same batch.
        """
        return self.train_q(batch) | self.train_pi(batch) if self.critic_first else super().train(batch)

    def train_q(self, batch: Batch) -> Info:
        """Update the critics once, and over a decomposition the learned reward."""
        checked = self.checked(batch, self.q_spec())
        self.add_noise(checked, self.q_noise)
        self.counters["updates"] += 1
        return self._learn(checked, lambda batch: self._loss(batch, policy=False))

    def train_pi(self, batch: Batch) -> Info:
        """Update the policy once, and in SAC the temperature."""
        checked = self.shown(self.checked(batch, self.pi_spec()))
        self.add_noise(checked, self.pi_noise)
        return self._learn(checked, self._policy_loss)

    def _policy_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        with self.autocast():
            return check_loss(self, "pi_loss", self.pi_loss(batch))

    def update(self, sample: Callable[[], Batch]) -> Info:
        """Make one update of a training loop, with batches from `sample`.

        It is `train(sample())`, unless the policy has a batch of its own (TD3): then the critics learn from one batch,
        and at each `pi_delay_freq`-th update the policy learns from another.
        """
        if not self.policy_batch:
            return self.train(sample())
        info = self.train_q(sample())
        if Schedule.of(self).policy_due(self.updates):
            info |= self.train_pi(sample())
        return info

    def losses(self, batch: dict[str, Tensor], policy: bool) -> tuple[Tensor, Info]:
        """Return the sum of `q_loss` and, if the policy takes part, `pi_loss`; draw nothing and step nothing."""
        loss, info = check_loss(self, "q_loss", self.q_loss(batch))
        if policy:
            pi_loss, pi_info = check_loss(self, "pi_loss", self.pi_loss(batch))
            loss, info = loss + pi_loss, pi_info | info
        return loss, info

    @torch.no_grad()
    def target_update(self) -> None:
        """Move the targets: target <- polyak target + (1 - polyak) main."""
        for main, target in self.target_pairs():
            torch._foreach_lerp_(list(target.parameters()), list(main.parameters()), 1 - self.config.polyak)

    def make_optimizer(self, policy: nn.Module, critics: nn.Module) -> TFAdam:
        """Return one optimiser over policy and critics, each with its own learning rate."""
        return TFAdam([dict(name="policy", role="policy", params=policy.parameters(), lr=self.config.pi_lr),
                       dict(name="critic", role="critic", params=critics.parameters(), lr=self.config.q_lr)])

    def jitter(self, acts: Tensor) -> Tensor:
        """Explore around a deterministic policy: clip(a + std_act * normal, -1, 1), (N, A)."""
        return (acts + self.config.std_act * self.randn(len(acts))).clamp(-1, 1)
