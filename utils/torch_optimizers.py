"""Optimisers as PyTorch computes them, with the groups and schedules of `utils.torch_utils.TFOptimizer`."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.torch_utils import TFAdam, TFOptimizer, TFRMSProp


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

    def move(self, group: dict, trained: list[Tensor], gradients: list[Tensor], rate: float | Tensor) -> None:
        """See `TFOptimizer.move`."""
        state = [self.state[parameter] for parameter in trained]
        steps = [one["step"] for one in state]
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(trained, gradients, [one["exp_avg"] for one in state], [one["exp_avg_sq"] for one in state],
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

    def move(self, group: dict, trained: list[Tensor], gradients: list[Tensor], rate: float | Tensor) -> None:
        """See `TFOptimizer.move`."""
        squares = [self.state[parameter]["square_avg"] for parameter in trained]
        torch._foreach_mul_(squares, group["decay"])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["decay"])
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, group["eps"])
        if isinstance(rate, Tensor):                    # addcdiv takes a number alone
            gradients, rate = torch._foreach_mul(gradients, rate), 1.0
        torch._foreach_addcdiv_(trained, gradients, roots, -rate)
