"""PPO's losses with their gradients written by hand, beside `basis_alg/ppo_torch.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.batch import Batch
from algorithm.engine.by_hand.on_policy import OnPolicyGradients
from algorithm.masked import mean_of


class PPOGradients(OnPolicyGradients):
    """The clipped ratio of probabilities, and the clipped value."""

    def policy_loss(self, log_prob: Tensor, advantages: Tensor, batch: Batch) -> tuple[Info, Tensor]:
        """l = -min(r A, clip(r, 1 - c, 1 + c) A): dl/dlog_prob = -r A where r A is the lesser, else 0.

        Between 1 - c and 1 + c both are the same; beyond, the lesser one is r A or a constant.
        """
        clip, log_ratio = self.config.clip_coef, log_prob - batch["log_prob"]
        ratio = log_ratio.exp()
        plain = ratio * advantages
        clipped = ratio.clamp(1 - clip, 1 + clip).mul_(advantages)
        beyond = ratio - 1
        info = {"Pi_loss": -mean_of(torch.minimum(plain, clipped), batch),
                "KL": mean_of(beyond - log_ratio, batch),
                "Clip_share": mean_of((beyond.abs() > clip).to(ratio.dtype), batch)}
        return info, -(plain * (plain <= clipped))

    def value_error(self, value: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """(V - R)^2; clipped, (V' - R)^2 with V' = V_old + clip(V - V_old, -c, c), or the larger of both.

        dV'/dV = 1 where V' is not clipped, else 0. Where both are equal, each has half of the maximum's gradient.
        """
        plain, slope = super().value_error(value, batch)
        clip = self.config.vf_clip_coef
        if clip is None:
            return plain, slope
        moved = value - batch["values"]
        clipped, clipped_slope = super().value_error(batch["values"] + moved.clamp(-clip, clip), batch)
        clipped_slope = clipped_slope * (moved.abs() <= clip)
        if not self.config.vf_clip_max:
            return clipped, clipped_slope
        share = ((plain > clipped).to(plain.dtype) + (plain >= clipped).to(plain.dtype)) / 2
        return torch.maximum(plain, clipped), share * slope + (1 - share) * clipped_slope
