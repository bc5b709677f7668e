"""The steps of episodes that are not over yet, on the device: a ring over time, in which every robot is a column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from torchrl_gpu.policy_wrapper import flat
from utils.finite import check_observation, check_reward, place

Columns = dict[str, Tensor]
RING = ("obs", "acts", "rews", "terminated")


class Steps(NamedTuple):
    """T steps of N robots."""

    obs: Tensor             # (T, N, O)
    acts: Tensor            # (T, N, A), or indices (T, N)
    rews: Tensor            # (T, N)
    terminated: Tensor      # (T, N) bool
    last: Tensor            # (T, N, O) what the step led to
    active: Tensor          # (T, N) bool, before the step
    over: Tensor            # (T, N) bool: the robot's episode ended with the step


class OpenSteps:
    """Collects steps until the episodes of robots are over, in the order in which they end.

    The host reads two flags of each batch of steps: whether an episode ended, and whether a number is not finite.
    """

    def __init__(self, longest: int, batch: int):
        """
        Args:
            longest: steps of an episode.
            batch: steps that are added at once.
        """
        self.size, self.time = longest + batch, 0           # rows of the ring; steps of each world so far
        self.ring: dict[str, Tensor] = {}
        self.started: Tensor | None = None                  # (N,) the time at which each robot's episode began
        self.goes_on: Tensor | None = None                  # (N,) bool: it is not over

    def add(self, batch: TensorDictBase) -> list[Columns]:
        """Add a batch [E, T] of the collector; return the episodes that ended, as `store_episode` takes them.

        Raises:
            NotFiniteError: an observation or a reward of a robot that takes part is not finite.
        """
        steps = steps_of(batch)
        self._write(steps)
        started = self._count(steps)                                                    # (T, N)
        wrong = ~(steps.obs.isfinite().all(2) & steps.last.isfinite().all(2) & steps.rews.isfinite()) & steps.active
        any_over, any_wrong = torch.stack([steps.over.any(), wrong.any()]).tolist()
        if any_wrong:
            self._refuse(steps, wrong, started)
        episodes = list(self._ended(steps, started)) if any_over else []
        self.time += len(steps.rews)
        return episodes

    def _write(self, steps: Steps) -> None:
        """Write the steps behind those before."""
        if not self.ring:
            self.ring = {name: torch.zeros(self.size, *getattr(steps, name).shape[1:], device=steps.rews.device,
                                           dtype=getattr(steps, name).dtype) for name in RING}
        rows = self._rows(self.time, self.time + len(steps.rews))
        for name, held in self.ring.items():
            held[rows] = getattr(steps, name)

    def _rows(self, first: int, end: int) -> Tensor:
        """The rows of the ring for the times [first, end)."""
        return torch.arange(first, end, device=self.ring["rews"].device) % self.size

    def _count(self, steps: Steps) -> Tensor:
        """Return when the episode of each step began, (T, N)."""
        if self.started is None:
            self.started = torch.zeros_like(steps.over[0], dtype=torch.int64)
            self.goes_on = torch.zeros_like(steps.over[0])
        found = []
        for t, (active, over) in enumerate(zip(steps.active, steps.over, strict=True)):
            self.started = torch.where(active & ~self.goes_on, self.time + t, self.started)
            self.goes_on = active & ~over
            found.append(self.started)
        return torch.stack(found)

    def _ended(self, steps: Steps, started: Tensor) -> Iterator[Columns]:
        places = steps.over.nonzero()
        for (t, robot), first in zip(places.tolist(), started[steps.over].tolist(), strict=True):
            rows = self._rows(first, self.time + t + 1)
            own = {name: held[rows, robot] for name, held in self.ring.items()}
            after = torch.cat([own["obs"][1:], steps.last[t, robot][None]])
            yield {"obs": own["obs"], "acts": own["acts"], "rews": own["rews"][:, None],
                   "done": own["terminated"].float()[:, None], "obs_next": after}

    def _refuse(self, steps: Steps, wrong: Tensor, started: Tensor) -> None:
        """Raise a NotFiniteError that names the first wrong number."""
        t, robot = wrong.nonzero()[0].tolist()
        time = self.time + t + 1
        where = f"in robot {robot + 1} of {wrong.shape[1]} {place(time, time - int(started[t, robot]))}"
        for obs in (steps.obs, steps.last):
            check_observation(obs[t, robot].cpu().numpy(), where)
        check_reward(float(steps.rews[t, robot]), where)

    # Saved state ----------------------------------------------------------------------------------------------------

    def state(self) -> tuple[int, dict[str, Tensor]]:
        """Return the time, and the steps of open episodes as tensors."""
        if self.started is None:
            return self.time, {}
        first = torch.where(self.goes_on, self.started, self.time).min()
        rows = self._rows(int(first), self.time)
        own = {name: held[rows].to("cpu", copy=True) for name, held in self.ring.items()}
        return self.time, own | {"started": self.started.cpu(), "goes_on": self.goes_on.cpu()}

    def restore(self, time: int, tensors: dict[str, Tensor], lost: Tensor) -> None:
        """Restore what `state` returned; lost: (N,) bool, robots whose episode began anew."""
        self.time = time + 0                                                # a TypeError unless it is a number
        if not tensors:
            return
        device = lost.device
        own = {name: tensors[name].to(device) for name in RING}
        self.ring = {name: torch.zeros(self.size, *held.shape[1:], dtype=held.dtype, device=device)
                     for name, held in own.items()}
        for name, held in own.items():
            self.ring[name][self._rows(time - len(held), time)] = held
        self.started = tensors["started"].to(device)
        self.goes_on = tensors["goes_on"].to(device) & ~lost


def steps_of(batch: TensorDictBase) -> Steps:
    """Return a batch [E, T] of `MarineNavTorchRLEnv` as steps of N = E R robots."""
    after = batch.get("next")

    def column(tensors: TensorDictBase, name: str) -> Tensor:
        return by_time(tensors.get(name).squeeze(-1))
    acts, active = by_time(batch.get("action")), column(batch, "active")
    acts = acts if acts.is_floating_point() else acts[..., 0]
    return Steps(by_time(flat(batch)), acts, column(after, "reward"), column(after, "terminated"),
                 by_time(flat(after)), active, column(after, "done") & active)


def by_time(values: Tensor) -> Tensor:
    """[E, T, R, ...] -> (T, E R, ...)."""
    return values.transpose(0, 1).flatten(1, 2)
