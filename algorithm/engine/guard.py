"""Check that metrics and gradients of every update are finite; the error names those that are not.

A CPU checks in the update itself. A GPU would have to be waited for: there the device records the first bad update, and
the host reads that once for many updates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Agent, Info
from utils.finite import NotFiniteError

NEVER = 2**62
NAMED = 4               # how many tensors a message names


class Guard:
    """The guard that raises in the update itself."""

    def check(self, number: int, info: Info, gradients: Mapping[str, Tensor],
              memories: Sequence[Tensor] = ()) -> None:
        """Check one update.

        Args:
            number: of the update, from 1.
            info: its metrics, ().
            gradients: those that its optimisers use, of any shapes, by their names in error messages.
            memories: the memory of all of them, if they were gathered: it is read several times faster.
        Raises:
            NotFiniteError: one of them is not finite.
        """
        with torch.no_grad():
            # Of all that may be computed, sums and squares are the fastest here. They may overflow where nothing is
            # infinite, hence the second look.
            if memories:
                sums = [memory.sum() for memory in memories]
            else:
                sums = torch._foreach_norm(list(gradients.values())) if gradients else []
            if not math.isfinite(sum(map(float, [*info.values(), *sums]))):
                check_tensors({**info, **gradients}, f"in update {number}")

    def found(self) -> dict[int, NotFiniteError]:
        """The errors since the last call that were not raised, by the agent's number in the stack."""
        return {}


class Recorder(Guard):
    """The guard that waits for nothing: the device keeps the first bad update of each tensor until `found`."""

    def __init__(self, agents: int | None = None):
        """agents: the number S of a stack, with metrics (S,) and gradients (S, ...); None for a single agent."""
        self.agents = agents
        self.first: dict[tuple[str, ...], Tensor] = {}          # names -> (names,) or (names S,)

    @torch.inference_mode()
    def check(self, number: int | Tensor, info: Info, gradients: Mapping[str, Tensor],
              memories: Sequence[Tensor] = ()) -> None:
        """Record one update, see `Guard.check`; `number` may be on the device, (). Nothing is raised."""
        names, tensors = (*info, *gradients), (*(value.float() for value in info.values()), *gradients.values())
        rows = tensors if self.agents is None else [row for tensor in tensors for row in tensor.unbind()]
        largest = torch.stack(torch._foreach_norm(rows, math.inf))
        if names not in self.first:
            self.first[names] = torch.full(largest.shape, NEVER, device=largest.device)
        bad_since = torch.where(largest < math.inf, NEVER, number)                          # a NaN is not less
        torch.minimum(self.first[names], bad_since, out=self.first[names])

    @torch.inference_mode()
    def found(self) -> dict[int, NotFiniteError]:
        if not self.first:
            return {}
        numbers = torch.cat(list(self.first.values())).view(-1, self.agents or 1).t().tolist()
        names = [name for some in self.first for name in some]
        for first in self.first.values():
            first.fill_(NEVER)
        return {i: self._error(names, firsts) for i, firsts in enumerate(numbers) if min(firsts) < NEVER}

    def _error(self, names: list[str], firsts: list[int]) -> NotFiniteError:
        """firsts: the first bad update of each name, for one agent."""
        update = min(firsts)
        bad = [name for name, first in zip(names, firsts, strict=True) if first == update]
        return NotFiniteError(complaint(bad, "nan or an infinity", f"in update {update}"))


def create_guard(agent: Any) -> Guard:
    """The guard for one agent, of either backend."""
    return Recorder() if isinstance(agent, Agent) and agent.device.type == "cuda" else Guard()


def labels(agent: Any) -> dict[Tensor, str]:
    """The names of the gradients of all trained parameters in error messages; {} for another backend's agent."""
    if not isinstance(agent, Agent):
        return {}
    names = {parameter: name for name, parameter in agent.nets.named_parameters()}
    trained = [parameter for _, group in agent.groups() for parameter in group["params"]]
    return {parameter: f"gradient of nets.{names.get(parameter, '?')}" for parameter in trained}


def check_tensors(tensors: Mapping[str, Any], when: str) -> None:
    """Raise a NotFiniteError that names those of the tensors that are not finite; waits once for all of them."""
    values = {name: torch.as_tensor(value) for name, value in tensors.items()}
    good = torch.stack([value.isfinite().all() for value in values.values()]).tolist()
    bad = [name for name, fine in zip(values, good, strict=True) if not fine]
    if bad:
        raise NotFiniteError(complaint(bad, describe(values[bad[0]]), when))


def describe(tensor: Tensor) -> str:
    """The first number of a tensor that is not finite, as text."""
    return str(float(tensor[~tensor.isfinite()].flatten()[0]))


def complaint(names: Iterable[str], got: str, when: str) -> str:
    """The message about one or more tensors; `got` is the first one's value."""
    first, *others = names
    left = len(others) - (NAMED - 1)
    also = ", ".join(others[:NAMED - 1]) + (f" and {left} more" if left > 0 else "")
    return f"{first}: got {got} {when}{f' (also {also})' if also else ''}; expected finite numbers"
