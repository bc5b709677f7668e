"""The losses of an on-policy agent with their gradients written by hand, beside `basis_alg/on_policy_torch.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.batch import Batch
from algorithm.engine.by_hand.densities import CategoricalGradients, GaussianGradients
from algorithm.engine.by_hand.gradients import Gradients, Step
from algorithm.engine.by_hand.mlp import Trunk
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.products import sizes
from algorithm.masked import mean_of, standardised


class OnPolicyGradients(Gradients):
    """The policy's loss in one half of the update and the value's in the other, unless they share layers."""

    def __init__(self, nets: Nets):
        super().__init__(nets, None)
        (of_value, of_policy), policy = nets.pads, self.basis.policy
        self.actor = nets.dense(["policy.actor"], of_policy, policy.activation)
        self.critic = nets.dense(["policy.critic"], of_value, policy.critic_activation)
        self.trunk = nets.dense(["policy.shared"], of_policy, policy.activation, Trunk) if len(policy.shared) else None
        if self.config.discrete:
            self.density = CategoricalGradients()
        else:
            log_std = [agent.policy.log_std for agent in nets.agents]
            self.density = GaussianGradients(nets.tensor(log_std), nets.gradient(log_std))

    def train(self) -> list[Step]:
        """Every gradient of one update."""
        return [([self.shared_loss], [])] if self.trunk else [([self.v_loss], [self.pi_loss])]

    # What a subclass says -------------------------------------------------------------------------------------

    def policy_loss(self, log_prob: Tensor, advantages: Tensor, batch: Batch) -> tuple[Info, Tensor]:
        """The policy's loss and metrics, () each; and dl/dlog_prob of each row's l, (B,), where the loss is mean l."""
        raise NotImplementedError

    def value_error(self, value: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """(V(s) - return)^2 and its derivative by V(s), (B,) each."""
        error = value - batch["returns"]
        return error.square(), 2 * error

    # Parts ----------------------------------------------------------------------------------------------------

    def shared_loss(self, batch: Batch) -> Info:
        """Both losses, behind the layers that they share."""
        seen = batch | {"obs": self.trunk(batch["obs"])}
        info = self.pi_loss(seen) | self.v_loss(seen)
        self.trunk.backward(self.actor.to_inputs(self.of_actor).add_(self.critic.to_inputs(self.of_critic)))
        return info

    def pi_loss(self, batch: Batch) -> Info:
        """policy_loss - ent_coef mean entropy."""
        log_prob, entropy = self.density(self.actor(batch["obs"]), batch["acts"])
        info, grad = self.policy_loss(log_prob, self.advantages(batch), batch)
        shares = self.shares(batch)                                                             # (B,)
        info["Entropy"] = mean_of(entropy.expand_as(log_prob), batch)
        self.of_actor = self.actor.backward(self.density.backward(grad * shares, shares * -self.config.ent_coef))
        return info

    def v_loss(self, batch: Batch) -> Info:
        """vf_coef mean value_error."""
        error, slope = self.value_error(self.critic(batch["obs"])[:, 0], batch)                 # (B,) each
        self.of_critic = self.critic.backward((slope * self.shares(batch)).mul_(self.config.vf_coef)[:, None])
        return {"V_loss": mean_of(error, batch)}

    def advantages(self, batch: Batch) -> Tensor:
        """The advantages as the losses read them, (B,)."""
        found = batch["advantages"]
        if self.config.normalize_advantages == "minibatch" and sizes(found)[0] > 1:
            return standardised(found, batch.get("mask"))
        return found

    def shares(self, batch: Batch) -> Tensor:
        """The weight of each row in `mean_of`, (B,)."""
        if "mask" not in batch:
            rows = sizes(batch["advantages"])[0]
            return torch.full_like(batch["advantages"], 1 / rows)
        return batch["mask"] / batch["mask"].sum().clamp_min(1)
