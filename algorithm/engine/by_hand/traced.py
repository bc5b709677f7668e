"""A task of the manual engine as one graph, which runs without Python.

Two threads that both run Python take turns at the interpreter's lock: with two hundred small operations an update they
wait about as long as they compute. TorchScript's graphs let go of the lock and are the one way there that needs no
compiler. TorchScript is no longer developed; where it does not work a task stays Python, with the same numbers.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Info
from algorithm.engine.by_hand.parts import Fields, Task

LOCK = threading.Lock()     # the tracer keeps notes of its own, and runs of several seeds trace in threads


class Traced:
    """Calls a task, from its second batch of the same shapes on as a graph."""

    def __init__(self, task: Task, state: Callable[[], list[Tensor]]):
        """`state` gives every tensor that the task reads or writes besides the batch."""
        self.task, self.state = task, state
        self.runs: dict[tuple, Callable[[Fields], Info]] = {}

    def prepare(self, batch: Fields) -> str | None:
        """Trace the task for batches like this one, where that was not done; why not, where it cannot be."""
        key = shapes(batch)
        if key in self.runs:
            return None
        self.task(dict(batch))                          # makes its buffers
        try:
            with LOCK:
                self.runs[key] = trace(self.task, batch, self.state())
            return None
        except Exception as error:                      # whatever TorchScript may raise: the task works as it is
            self.runs[key] = self.task
            return str(error).strip().partition("\n")[0] or type(error).__name__

    def __call__(self, batch: Fields) -> Info:
        return self.runs[shapes(batch)](batch)


def shapes(batch: Fields) -> tuple:
    return tuple((name, value.shape) for name, value in batch.items())


def trace(task: Task, batch: Fields, state: list[Tensor]) -> Callable[[Fields], Info]:
    """The task as a graph for batches of these names and shapes, for calls in any thread."""
    module = _Module(task, tuple(batch), state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")             # of sizes that become constants: they are
        graph = torch.jit.trace(module, tuple(batch.values()), check_trace=False)
    constants = [node.output().toIValue() for node in graph.graph.findAllNodes("prim::Constant", recurse=True)]
    if any(isinstance(value, Tensor) and value.dim() for value in constants):
        raise ValueError("the task reads tensors that are neither of the batch nor of the state")
    metrics, fields = module.metrics, module.fields

    def run(batch: Fields) -> Info:
        # as it stands: what passes over the graph would make of it rounds otherwise than the first calls
        with torch.jit.optimized_execution(False):
            values = graph(*batch.values())
        batch |= zip(fields, values[len(metrics):], strict=True)
        return dict(zip(metrics, values, strict=False))
    return run


class _Module(nn.Module):
    """The task, with its state where the tracer looks for tensors that are no constants."""

    def __init__(self, task: Task, names: tuple[str, ...], state: list[Tensor]):
        super().__init__()
        self.task, self.names = task, names
        for i, tensor in enumerate({id(tensor): tensor for tensor in state}.values()):
            self.register_buffer(f"state_{i}", tensor)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The metrics, then the fields that the task has added to the batch."""
        batch = dict(zip(self.names, values, strict=True))
        info = self.task(batch)
        self.metrics, self.fields = tuple(info), tuple(name for name in batch if name not in self.names)
        return *info.values(), *(batch[name] for name in self.fields)
