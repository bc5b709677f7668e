"""Optimisers as TensorFlow 1 computes them, which step one group of parameters at a time."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from utils.flat import gather


class TFOptimizer(torch.optim.Optimizer):
    """Steps group by group; a group without gradients is skipped, and its t does not change.

    A group is a dict with `params`, `lr`, a `name`, and optionally:
        schedule: a function of the number of the step, which gives the learning rate as a fraction of `lr`.
        max_grad_norm: the largest norm of the group's gradient; a longer one is scaled down to it.
        skipped: steps that were due but not made; the schedule counts them.
        stacked: whether each parameter is that of several agents, (S, ...), whose norms are apart.
    """

    GROUP = dict(t=0, schedule=None, max_grad_norm=None, skipped=0, stacked=False)         # noqa: RUF012
    # PyTorch excludes these from torch.compile, by a wrapper that imports its compiler: half the time of a start.
    add_param_group, state_dict, load_state_dict, zero_grad = (
        inspect.unwrap(getattr(torch.optim.Optimizer, name))
        for name in ("add_param_group", "state_dict", "load_state_dict", "zero_grad"))

    def step(self) -> None:
        """Step every group by the gradients that its parameters hold."""
        for group in self.param_groups:
            gradients = {parameter: parameter.grad for parameter in group["params"] if parameter.grad is not None}
            if gradients:
                self.step_group(group, gradients)

    def step_group(self, group: dict, gradients: Mapping[Tensor, Tensor], rate: float | Tensor | None = None) -> None:
        """Step those parameters of one group that have gradients; the gradients are left as they are.

        Args:
            rate: the learning rate of this step, which the caller counts; without it, t is counted here.
        """
        raise NotImplementedError

    def joined(self, group: dict) -> dict:
        """Move a group's parameters, and what is kept of them, into one memory each; return the group of that memory.

        It has one parameter, whose step is that of all of them: with many small ones several times faster. The steps
        are counted in `group`: give `step_group` the rate of `next_rate(group)`.
        """
        params = group["params"]
        flat = gather(params)
        self.state[flat] = {slot: gather(self.state[parameter][slot] for parameter in params)
                            for slot in self.state[params[0]]}
        return group | {"params": [flat]}

    def rate(self, group: dict, t: int | Tensor) -> float | Tensor:
        """The learning rate of step t, a 0-d tensor if t is one."""
        return group["lr"] if group["schedule"] is None else group["lr"] * group["schedule"](t + group["skipped"])

    def next_rate(self, group: dict) -> float:
        """Count one more step of a group; return its learning rate."""
        group["t"] += 1
        return self.rate(group, group["t"])


def limited(group: dict, gradients: Mapping[Tensor, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of a group that have gradients, and those gradients, limited to the group's `max_grad_norm`."""
    trained = [parameter for parameter in group["params"] if parameter in gradients]
    found = [gradients[parameter] for parameter in trained]
    if group["max_grad_norm"] is not None:
        found = limit_norm(found, group["max_grad_norm"], group["stacked"])
    return trained, found


def limit_norm(gradients: list[Tensor], most: float, stacked: bool = False) -> list[Tensor]:
    """The gradients times min(1, most / (n + 1e-6)), n their Euclidean norm, as torch.nn.utils.clip_grad_norm_ does.

    With `stacked` they are (S, ...), and n is (S,), that of each agent. They are copies: a guard may read the gradients
    in another thread.
    """
    if not stacked:
        norms = torch._foreach_norm(gradients)
        norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
        return list(torch._foreach_mul(gradients, (most / (norm + 1e-6)).clamp(max=1)))
    norms = torch.stack([torch.linalg.vector_norm(gradient.reshape(len(gradient), -1), dim=1)
                         for gradient in gradients])                                                    # (P, S)
    scale = (most / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1)                       # (S,)
    return [gradient * scale.view(-1, *[1] * (gradient.ndim - 1)) for gradient in gradients]


class TFAdam(TFOptimizer):
    """Adam as TensorFlow 1 computes it: step = lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps).

    TensorFlow adds eps to sqrt(v) *before* the bias correction, PyTorch after it. PyTorch's fused kernel computes this
    one when its own correction is 1, as it is after infinitely many steps, and its learning rate is `rate`.
    """

    tf_slots = {"Adam": "exp_avg", "Adam_1": "exp_avg_sq"}      # TensorFlow 1's names for what it keeps  # noqa: RUF012

    def __init__(self, groups: list[dict]):
        """groups: see `TFOptimizer`; a group may have an `eps` other than 1e-8."""
        super().__init__(groups, dict(betas=(0.9, 0.999), eps=1e-8) | self.GROUP)

    def add_param_group(self, group: dict) -> None:
        super().add_param_group(group)
        for parameter in self.param_groups[-1]["params"]:       # now rather than at the first step: a stable set
            self.state[parameter] = dict(exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))

    @torch.no_grad()
    def step_group(self, group: dict, gradients: Mapping[Tensor, Tensor], rate: float | Tensor | None = None) -> None:
        rate = self.next_rate(group) if rate is None else rate
        trained, found = limited(group, gradients)
        state = [self.state[parameter] for parameter in trained]
        forever = torch.full((), 1e9, device=trained[0].device)
        torch._fused_adam_(trained, found, [s["exp_avg"] for s in state], [s["exp_avg_sq"] for s in state], [],
                           [forever] * len(trained), lr=rate, beta1=group["betas"][0], beta2=group["betas"][1],
                           weight_decay=0.0, eps=group["eps"], amsgrad=False, maximize=False)

    def rate(self, group: dict, t: int | Tensor) -> float | Tensor:
        """lr sqrt(1 - b2^t) / (1 - b1^t), with lr that of the schedule."""
        beta1, beta2 = group["betas"]
        return super().rate(group, t) * (1 - beta2 ** t) ** 0.5 / (1 - beta1 ** t)


def reward_adam(parameters: Iterable[Tensor], lr: float) -> TFAdam:
    """Return the Adam of a decomposition: one group, with the name and the role `reward`."""
    return TFAdam([dict(name="reward", role="reward", params=parameters, lr=lr)])


class TFRMSProp(TFOptimizer):
    """RMSProp as TensorFlow 1 computes it: ms = decay ms + (1 - decay) g^2 from 1, step = lr g / sqrt(ms + eps).

    PyTorch's starts ms at 0 and adds eps outside the root.
    """

    tf_slots = {"RMSProp": "square_avg"}  # noqa: RUF012

    def __init__(self, groups: list[dict], decay: float, eps: float):
        """groups: see `TFOptimizer`."""
        super().__init__(groups, dict(decay=decay, eps=eps) | self.GROUP)

    def add_param_group(self, group: dict) -> None:
        super().add_param_group(group)
        for parameter in self.param_groups[-1]["params"]:
            self.state[parameter] = dict(square_avg=torch.ones_like(parameter))

    @torch.no_grad()
    def step_group(self, group: dict, gradients: Mapping[Tensor, Tensor], rate: float | Tensor | None = None) -> None:
        rate = self.next_rate(group) if rate is None else rate
        trained, found = limited(group, gradients)
        squares = [self.state[parameter]["square_avg"] for parameter in trained]
        torch._foreach_mul_(squares, group["decay"])
        torch._foreach_addcmul_(squares, found, found, 1 - group["decay"])
        roots = torch._foreach_add(squares, group["eps"])
        torch._foreach_sqrt_(roots)
        if isinstance(rate, Tensor):                    # addcdiv takes a number alone
            found, rate = torch._foreach_mul(found, rate), 1.0
        torch._foreach_addcdiv_(trained, found, roots, -rate)
