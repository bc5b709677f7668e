"""How learning rates change over a run, and how many optimiser steps a run makes.

The rate of a step is a function of the step's number alone, so every engine computes the same rate, and a resumed run
needs no other state than the count that the optimiser keeps anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from algorithm.schedule import is_policys
from utils.optimizers import TFOptimizer
from utils.settings.fields import Config

Number = float | Tensor


@dataclass(frozen=True)
class LRSchedule:
    """The learning rate of each step of a group of parameters, as a fraction of the initial rate.

    With t = 1, 2, ... the number of the step, T the steps of the whole run, w = `warmup` T, e = `end`, and
    x = (t - 1 - w) / (T - w), clipped to [0, 1]: min(t / w, 1) times

        linear: 1 - (1 - e) x;  cosine: e + (1 - e) (1 + cos pi x) / 2;  exponential: max(d^x, e).

    So the first step after the warm-up has the initial rate, and a step after the T-th has e times that. Here d =
    `decay`, which is e if it is None. With s = `start` above 0 the first factor is s + (1 - s) min((t - 1) / w, 1).
    """

    kind: str
    end: float
    warmup: float
    steps: int
    start: float = 0.0
    decay: float | None = None

    def __call__(self, t: int | Tensor) -> Number:
        """The fraction at step t; a 0-d float64 tensor, on any device, if t is one."""
        warm = self.warmup * self.steps
        x = _clip((t - 1 - warm) / max(self.steps - warm, 1))
        return self._shape(x) * (self._rise(t, warm) if warm else 1.0)

    def _shape(self, x: Number) -> Number:
        if self.decay is None or self.kind != "exponential":
            return SHAPES[self.kind](x, self.end)
        value = self.decay ** x
        return value.clamp_min(self.end) if isinstance(value, Tensor) else max(value, self.end)

    def _rise(self, t: int | Tensor, warm: float) -> Number:
        """The factor of the warm-up, which takes `warm` steps."""
        if not self.start:
            return _clip(t / warm)
        return self.start + (1 - self.start) * _clip((t - 1) / warm)


def _clip(x: Number) -> Number:
    """x, clipped to [0, 1]."""
    return x.clamp(0, 1) if isinstance(x, Tensor) else min(max(x, 0.0), 1.0)


def _cosine(x: Number, end: float) -> Number:
    cos = torch.cos if isinstance(x, Tensor) else math.cos
    return end + (1 - end) * (1 + cos(math.pi * x)) / 2


SHAPES = {
    "linear": lambda x, end: 1 - (1 - end) * x,
    "cosine": _cosine,
    "exponential": lambda x, end: end ** x,
}


def run_updates(config: Config) -> int:
    """The updates of a whole run: `train_batches` each `timesteps` environment steps, from `warmup` on.

    A run begins to learn when the first episodes that hold `warmup` steps are over. That may be later by the length of
    an episode; the run then ends as many updates before the end of its schedule.
    """
    iterations = config.run_length / config.timesteps
    without = math.ceil(max(config.warmup, 1) / config.timesteps) - 1
    return max(math.ceil(config.train_batches * (iterations - without)), 1)


def apply_settings(agent: Any, config: Config) -> None:
    """Give the optimisers of an agent the schedule and the largest norm of the gradient that the settings name.

    Every group of parameters follows the schedule. The gradient of each group is limited by itself; the temperature's
    is not, because one number has no direction that a norm would keep; nor, over PPO and A2C, that of a decomposition,
    whose scale is another.
    """
    for group in (group for opt in getattr(agent, "opts", ()) if isinstance(opt, TFOptimizer)
                  for group in opt.param_groups):
        if group["name"] != "alpha" and (group.get("role") == "policy" or not config.on_policy):
            group["max_grad_norm"] = config.max_grad_norm
        group["schedule"] = _schedule(config, agent.pi_delay_freq if is_policys(group) else 1)


def _schedule(config: Config, delay: int) -> LRSchedule | None:
    """The schedule of a group that takes part in every `delay`-th update; None where the rate is constant."""
    if config.lr_schedule in (None, "constant"):
        return None
    steps = max(run_updates(config) // delay, 1)
    return LRSchedule(config.lr_schedule, config.lr_end, config.lr_warmup or 0.0, steps, config.lr_start or 0.0,
                      config.lr_decay)
