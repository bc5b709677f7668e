"""Optimisers as PyTorch computes them, with the groups and schedules of `utils.optimizers.TFOptimizer`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from utils.optimizers import TFAdam, TFOptimizer, TFRMSProp, limited


class Adam(TFAdam):
    """Adam (Kingma and Ba, 2015): step = lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), eps after the correction.

    The count of steps that the correction needs stands beside the moments, on their device.
    """

    tf_slots = {}  # noqa: RUF012

    def add_param_group(self, group: dict) -> None:
        """Add a group, and its moments."""
        super().add_param_group(group)
        for parameter in self.param_groups[-1]["params"]:
            self.state[parameter]["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)

    @torch.no_grad()
    def step_group(self, group: dict, gradients: Mapping[Tensor, Tensor], rate: float | Tensor | None = None) -> None:
        """See `TFOptimizer.step_group`."""
        rate = self.next_rate(group) if rate is None else rate
        trained, found = limited(group, gradients)
        state = [self.state[parameter] for parameter in trained]
        counts = [one["step"] for one in state]
        torch._foreach_add_(counts, 1)
        steps = [count if count.dim() == 0 else count[0] for count in counts]       # of `joined`, all the same
        torch._fused_adam_(trained, found, [one["exp_avg"] for one in state], [one["exp_avg_sq"] for one in state],
                           [], steps, lr=rate, beta1=group["betas"][0], beta2=group["betas"][1], weight_decay=0.0,
                           eps=group["eps"], amsgrad=False, maximize=False)

    def rate(self, group: dict, t: int | Tensor) -> float | Tensor:
        """Return the learning rate of step t, without the correction; a 0-d tensor if t is one."""
        return TFOptimizer.rate(self, group, t)


class RMSprop(TFRMSProp):
    """RMSprop: ms = decay ms + (1 - decay) g^2 from 0, step = lr g / (sqrt(ms) + eps)."""

    tf_slots = {}  # noqa: RUF012

    def add_param_group(self, group: dict) -> None:
        """Add a group, and its mean squares."""
        super().add_param_group(group)
        for parameter in self.param_groups[-1]["params"]:
            self.state[parameter]["square_avg"].zero_()

    @torch.no_grad()
    def step_group(self, group: dict, gradients: Mapping[Tensor, Tensor], rate: float | Tensor | None = None) -> None:
        """See `TFOptimizer.step_group`."""
        rate = self.next_rate(group) if rate is None else rate
        trained, found = limited(group, gradients)
        squares = [self.state[parameter]["square_avg"] for parameter in trained]
        torch._foreach_mul_(squares, group["decay"])
        torch._foreach_addcmul_(squares, found, found, 1 - group["decay"])
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, group["eps"])
        if isinstance(rate, Tensor):                    # addcdiv takes a number alone
            found, rate = torch._foreach_mul(found, rate), 1.0
        torch._foreach_addcdiv_(trained, found, roots, -rate)
