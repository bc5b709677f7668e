"""The processes of one run, each with worlds and a replay of its own; `torchrun` starts them.

    torchrun --nproc_per_node=2 -m torchrl_gpu.train_torchrl_gpu -C config.json

Each has the same weights. An update takes an equal part of the batch from each replay, and the mean of the gradients:
it is that of one process with the joint batch. Steps, stages and epsilon count the steps of all of them. The first one
keeps the record and evaluates.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from utils.errors import CheckpointError, ConfigError
from utils.seeding import stream_seed
from utils.settings.fields import Config
from utils.stop import Stop


class Processes:
    """All processes of a run, and which of them this one is."""

    def __init__(self, rank: int = 0, count: int = 1):
        self.rank, self.count = rank, count

    @property
    def device(self) -> torch.device:
        """Where numbers are exchanged."""
        return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")

    def all(self, yes: bool) -> bool:
        """Return whether all processes say yes."""
        if self.count == 1:
            return yes
        votes = torch.tensor(float(yes), device=self.device)
        dist.all_reduce(votes)
        return int(votes) == self.count

    def told(self, value: Any = None) -> Any:
        """Return what the first process gives here."""
        if self.count == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, 0, device=self.device)
        return held[0]

    def check_same(self, steps: int) -> None:
        """Raise a CheckpointError if the processes have taken different numbers of steps."""
        if self.count == 1:
            return
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, steps)
        if len(set(found)) > 1:
            raise CheckpointError(f"resume: the processes continue after {found} steps, because their number has "
                                  "changed, or the run was killed while it saved; expected the same; start a new run")

    def vote(self, own: Stop, common: Stop) -> None:
        """Set the stop of all processes, between the same two iterations, once one of them was asked to stop."""
        if self.count > 1 and not self.all(not own.is_set()):
            common.set()

    def join(self, agent: Any) -> None:
        """Let the agent average its gradients with those of the other processes, and draw by a seed of this one."""
        if self.count > 1:
            agent.average = lambda: average([p.grad for _, group in agent.groups() for p in group["params"]
                                             if p.grad is not None], self.count)
        self.own_draws(agent.generator, agent.config.seed, "agent")

    def own_draws(self, generator: torch.Generator, seed: int, name: str) -> None:
        """Seed a generator of this process; that of the first one stays as it is."""
        if self.rank:
            generator.manual_seed(stream_seed(seed, f"{name} {self.rank}"))

    def of_one(self, config: Config) -> Config:
        """Return settings as agent and replay of one process read them: a part of the batch, of the steps.

        Raises:
            ConfigError: the batch cannot be divided.
        """
        if self.count == 1:
            return config
        if config.batch_size % self.count:
            raise ConfigError(f"batch_size: got {config.batch_size}, expected a multiple of the {self.count} processes")
        return dataclasses.replace(
            config, batch_size=config.batch_size // self.count, eps_decay=math.ceil(config.eps_decay / self.count),
            total_timesteps=math.ceil(config.run_length / self.count))


def average(gradients: list[torch.Tensor], count: int) -> None:
    """Replace gradients by their means over all processes, in one exchange."""
    joint = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(joint)
    joint /= count
    parts = joint.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)])


@contextlib.contextmanager
def joined(device: str) -> Iterator[tuple[Processes, str]]:
    """Join the processes that torchrun has started; yield them, and the device of this one.

    Args:
        device: of the settings.
    Raises:
        ConfigError: there are more processes than GPUs.
    """
    count, rank, local = (int(os.environ.get(name, default)) for name, default in
                          (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0)))
    if count == 1:
        yield Processes(), device
        return
    cuda = device.startswith("cuda")
    if cuda and local >= torch.cuda.device_count():
        raise ConfigError(f"device: got {device!r} in process {local + 1} of this machine, which has "
                          f"{torch.cuda.device_count()} GPUs; expected one for each process, or cpu")
    if cuda:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Processes(rank, count), f"cuda:{local}" if cuda else device
    finally:
        dist.destroy_process_group()
