"""Parts of an update as graphs, which run without Python.

Two threads that both run Python take turns at the interpreter's lock: with two hundred small operations an update they
wait about as long as they compute. TorchScript's graphs release the lock, and no other way there works without a
compiler. TorchScript is no longer developed: PyTorch deprecates it, does not support it on Python 3.14, and may remove
it. Where it does not work, a part stays Python, with the same numbers, and one note says so.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Info
from algorithm.batch import Batch
from algorithm.engine.by_hand.gradients import Part, compute

LOCK = threading.Lock()     # the tracer and the filters of warnings have global state, and several threads trace


class Graphs:
    """`compute`, by a graph for each list of parts and each layout of a batch: its names and shapes."""

    def __init__(self, state: Callable[[], list[Tensor]]):
        """`state` gives every tensor that the parts read or write besides the batch."""
        self.state, self.warned = state, False
        self.made: dict[tuple, Part] = {}

    def __call__(self, parts: Sequence[Part], batch: Batch) -> Part:
        """What computes parts for batches like this one: their graph; if tracing fails, that warns once, the parts.

        Graphs are made one at a time, while nothing else computes: the check of a graph reads every tensor.
        """
        key = (*parts, *((name, value.shape) for name, value in batch.items()))
        if key not in self.made:
            with LOCK:
                self.made[key] = self._make(partial(compute, parts), batch)
        return self.made[key]

    def _make(self, part: Part, batch: Batch) -> Part:
        part(batch)                                     # makes its buffers
        try:
            graph = trace(part, batch, self.state())
            check(graph, part, batch, self.state())
            return graph
        except Exception as error:                      # TorchScript may raise anything; the part works without it
            self._warn(str(error).strip().partition("\n")[0] or type(error).__name__)
            return part

    def _warn(self, reason: str) -> None:
        if not self.warned:
            self.warned = True
            warnings.warn(f"engine: TorchScript does not work here, continuing without it, slower: {reason}",
                          stacklevel=2)


def trace(part: Part, batch: Batch, state: list[Tensor]) -> Part:
    """The part as a graph for batches of these names and shapes, for calls in any thread.

    Raises:
        ValueError: it reads tensors that are neither in the batch nor in the state: they would be constants; or
            TorchScript is switched off.
    """
    module = _Module(part, tuple(batch), state)
    with warnings.catch_warnings(), own_table():
        warnings.simplefilter("ignore")             # of sizes that become constants (they are), and of its deprecation
        graph = torch.jit.trace(module, tuple(batch.values()), check_trace=False)
    if graph is module:
        raise ValueError("PYTORCH_JIT=0 switches it off")
    constants = [node.output().toIValue() for node in graph.graph.findAllNodes("prim::Constant", recurse=True)]
    if any(isinstance(value, Tensor) and value.dim() for value in constants):
        raise ValueError("the part reads tensors that are neither of the batch nor of the state")

    def run(batch: Batch) -> Info:
        # not optimised: the optimised graph would round differently from the first calls
        with torch.jit.optimized_execution(False):
            return dict(zip(module.given, graph(*batch.values()), strict=True))
    return run


@contextlib.contextmanager
def own_table() -> Iterator[None]:
    """Let what is traced be freed with its graph.

    TorchScript registers what it makes in one table that lives as long as the process, megabytes for each engine; here
    in a table of the graph's own. A PyTorch that keeps its table elsewhere keeps what is traced.
    """
    state = getattr(torch.jit, "_state", None)
    if not hasattr(state, "_python_cu"):
        yield
        return
    table, state._python_cu = state._python_cu, torch._C.CompilationUnit()
    try:
        yield
    finally:
        state._python_cu = table


def check(graph: Part, part: Part, batch: Batch, state: list[Tensor]) -> None:
    """Raise a ValueError unless the graph gives and writes what the part does, to rounding."""
    expected = [tensor.clone() for tensor in (*part(batch).values(), *state)]
    found = [*graph(batch).values(), *state]
    if not all(torch.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True)
               for one, other in zip(found, expected, strict=True)):
        raise ValueError("a graph computes other numbers than Python does")


class _Module(nn.Module):
    """A part, with its state where the tracer looks for tensors that are no constants."""

    given: tuple[str, ...]              # the names of the results of the part

    def __init__(self, part: Part, names: tuple[str, ...], state: list[Tensor]):
        super().__init__()
        self.part, self.names = part, names
        for i, tensor in enumerate({id(tensor): tensor for tensor in state}.values()):
            self.register_buffer(f"state_{i}", tensor)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The batch's values, in the order of `names` -> the results of the part."""
        found = self.part(dict(zip(self.names, values, strict=True)))
        self.given = tuple(found)
        return tuple(found.values())
