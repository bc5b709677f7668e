"""Proximal policy optimisation (Schulman et al., 2017, arXiv 1707.06347)."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.on_policy_torch import OnPolicy
from algorithm.batch import Spec
from algorithm.masked import mean_of
from algorithm.policy.base import Policy
from algorithm.replay_buffer.rollout import RolloutBuffer
from utils.settings.fields import Config


class PPO(OnPolicy):
    """Several passes over a rollout, with the ratio of probabilities clipped."""

    train_info = (*OnPolicy.train_info, "KL", "Clip_share")

    def __init__(self, config: Config, policy: Policy):
        """Build the agent around a policy."""
        super().__init__(config, policy)
        self.stopped = False                            # whether the KL stop has ended the passes over this rollout
        self.kl_sum, self.kl_count, self.per_epoch = 0.0, 0, 1

    def spec(self) -> Spec:
        """Return the fields of a minibatch; `values`, those of the rollout, only if they are clipped."""
        names = ("log_prob", "values") if self.config.vf_clip_coef is not None else ("log_prob",)
        return super().spec() | dict.fromkeys(names, self._floats(*self.letters()))

    def policy_loss(self, log_prob: Tensor, advantages: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """-mean min(r A, clip(r, 1 - c, 1 + c) A),  r = exp(log_prob - that of the rollout), c = clip_coef.

        KL = mean(r - 1 - log r), and Clip_share the share of |r - 1| > c.
        """
        clip, log_ratio = self.config.clip_coef, log_prob - batch["log_prob"]
        ratio = log_ratio.exp()
        surrogate = torch.min(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
        with torch.no_grad():
            info = {"KL": mean_of(ratio - 1 - log_ratio, batch),
                    "Clip_share": mean_of(((ratio - 1).abs() > clip).to(ratio.dtype), batch)}
        return -mean_of(surrogate, batch), info

    def value_error(self, value: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """(V - R)^2; clipped, (V' - R)^2 with V' = V_old + clip(V - V_old, -c, c), or the larger of both."""
        plain = super().value_error(value, batch)
        clip = self.config.vf_clip_coef
        if clip is None:
            return plain
        old = batch["values"]
        clipped = super().value_error(old + (value - old).clamp(-clip, clip), batch)
        return torch.max(plain, clipped) if self.config.vf_clip_max else clipped

    # The KL stop ----------------------------------------------------------------------------------------------

    def begin_updates(self, buffer: RolloutBuffer, permutations: Tensor | None = None) -> None:
        """Begin the passes over a finished rollout."""
        super().begin_updates(buffer, permutations)
        self.stopped, self.kl_sum, self.kl_count, self.per_epoch = False, 0.0, 0, buffer.per_epoch

    def refused(self, info: Info) -> bool:
        """Count the KL divergence of an update; return whether it is so large that the update is not made."""
        target = self.config.target_kl
        if target is not None:
            self.kl_sum, self.kl_count = self.kl_sum + info["KL"].detach(), self.kl_count + 1
            if self.config.kl_stop == "minibatch" and float(info["KL"]) > 1.5 * target:
                self.stopped = True
                return True
        return False

    def enough(self) -> bool:
        """Return whether the KL divergence from the rollout's policy is so large that its updates end."""
        if self.config.target_kl is not None and self.config.kl_stop == "epoch" and self.kl_count \
                and self.kl_count % self.per_epoch == 0:
            self.stopped = float(self.kl_sum) / self.kl_count > self.config.target_kl
        return self.stopped
