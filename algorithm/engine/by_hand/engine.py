"""The engine of the gradients written by hand: two halves of an update at a time, by two threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.batch import Batch
from algorithm.engine.batches import draw
from algorithm.engine.by_hand.choice import create_gradients, refusal
from algorithm.engine.by_hand.gradients import Gradients, Part, Step, added, compute
from algorithm.engine.by_hand.kernels import Kernels, usual
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.products import Products
from algorithm.engine.by_hand.rows import halves, weighted
from algorithm.engine.by_hand.traced import Graphs
from algorithm.engine.eager import Engine, Sums
from algorithm.engine.pairs import Once, Pair, Threads, create_pair, nothing
from algorithm.schedule import Schedule, is_policys
from utils.flat import gather
from utils.threads import patience


def as_they_are(parts: Sequence[Part], batch: Batch) -> Part:
    """What computes parts for batches like this one, without a graph."""
    return partial(compute, parts)


class Verb(NamedTuple):
    """One of the agent's verbs `train`, `train_q` and `train_pi`."""

    steps: list[Step]                   # of parts, which write the gradients
    noise: tuple[str, ...]              # the names of what it draws
    groups: list[tuple]                 # the (optimiser, group of parameters) that it steps
    gradients: dict[str, Tensor]        # their gradients by the names of error messages
    memories: list[Tensor]              # in which those lie
    counts: bool = True                 # as an update
    again: bool = False                 # whether it takes the batch of the verb before it

    @property
    def undivided(self) -> bool:
        """Whether its work is one list of parts."""
        return sum(bool(parts) for step in self.steps for parts in step) == 1


class Twin(NamedTuple):
    """What computes a verb for the second half of the rows, in memory of its own."""

    parts: list[Part]
    memory: Tensor                      # of its gradients, laid out as the verb's


def _gathered(grads: dict[Tensor, Tensor], groups: list[tuple]) -> Tensor:
    """The gradients of these groups of parameters, from now on in one memory."""
    return gather(grads[parameter] for _, group in groups for parameter in group["params"])


class ManualEngine(Engine):
    """Computes the losses and their gradients in two threads, then steps the optimisers.

    The threads meet once or twice in an update; OpenMP's threads would at every product. The thread that is through
    with its half draws the next batch: the other one computes a graph, without Python. Two threads that both run
    Python would wait for each other at each operation.
    """

    name = "manual"

    def __init__(self, agent: Agent, buffer: Any, kernels: Kernels | None = None):
        """kernels: None: the usual ones, for the threads that there are now."""
        super().__init__(agent, buffer)
        self.kernels = kernels or usual(agent)
        self.products = Products(self.kernels.products)
        gradients = self._gradients()
        self.grads = gradients.nets.gradients
        self._set_verbs(gradients, [pair for pair in agent.groups() if pair[1]["params"][0] in self.grads])

    def _gradients(self) -> Gradients:
        gradients = create_gradients([self.agent], partial(Nets, products=self.products))
        if gradients is None:
            raise refusal(self.agent)
        return gradients

    def _set_verbs(self, gradients: Gradients, groups: list[tuple]) -> None:
        """groups: all that are stepped, whose gradients `self.grads` has."""
        agent, self.nets, self.twins = self.agent, [gradients.nets], {}
        of_pi = [pair for pair in groups if is_policys(pair[1])]
        of_q = [pair for pair in groups if not is_policys(pair[1])]
        pi, q = ([_gathered(self.grads, part)] if part else [] for part in (of_pi, of_q))
        self.graphs = Graphs(lambda: [tensor for nets in self.nets for tensor in nets.state()])
        self.verbs = {
            "train": Verb(gradients.train(), agent.q_noise + agent.pi_noise, groups, self._labelled(groups), pi + q),
            "train_q": Verb(gradients.train_q(), agent.q_noise, of_q, self._labelled(of_q), q)}
        if of_pi:
            self.verbs["train_pi"] = Verb(gradients.train_pi(), agent.pi_noise, of_pi, self._labelled(of_pi), pi,
                                          counts=False, again=agent.critic_first)

    def _labelled(self, groups: list[tuple]) -> dict[str, Tensor]:
        return {self.labels[parameter]: self.grads[parameter] for _, group in groups for parameter in group["params"]}

    def run(self, updates: int) -> Sums:
        """See `Engine.run`. An update is one verb, or two, with a batch each or one for both."""
        sums, how = Sums(), self.graphs if self.agent.device.type == "cpu" else as_they_are
        verbs = [verb for number in range(1, updates + 1) for verb in self.verbs_of(self.agent.updates + number)]
        with self.paired() as self.pair, torch.inference_mode():
            batch = self.draw(verbs[0])
            for verb, following in zip(verbs, [*verbs[1:], None], strict=True):
                ahead = Once(self._drawing(following, batch))
                info = self.losses(verb, batch, how, ahead)
                sums.add(info)
                self.step(verb, targets=following is None or following.counts)      # else the update is not over
                self.guard.check(self.agent.updates, info, verb.gradients, verb.memories)
                batch = ahead.result
                patience.look()
        return self._finish(sums)

    def _drawing(self, verb: Verb | None, batch: Batch) -> Callable[[], Batch | None]:
        """What returns the batch of the verb that comes next; batch: that of the verb before it."""
        if verb is None:
            return nothing
        return (lambda: batch) if verb.again else partial(self.draw, verb)

    def paired(self) -> Pair:
        """Return what computes both halves of an update, as the kernels say."""
        return create_pair(self.agent.device, self.kernels.halves, self.kernels.threads)

    def call(self, verb: str, batch: Batch) -> Info:
        """See `Engine.call`."""
        agent = self.agent
        if verb == "train" and agent.critic_first:
            return self.call("train_q", batch) | self.call("train_pi", batch)
        if verb not in self.verbs:                      # the agent says that it has no policy
            return super().call(verb, batch)
        spec = (agent.q_spec() if verb != "train_pi" else {}) | (agent.pi_spec() if verb != "train_q" else {})
        delayed = verb == "train" and not Schedule.of(agent).policy_due(agent.updates + 1)
        called = self.verbs["train_q" if delayed else verb]
        with self.paired() as self.pair, torch.inference_mode():
            fields = agent.checked(batch, spec)
            agent.add_noise(fields, called.noise)
            info = self.losses(called, fields)
            self.step(called, targets=False)
        return info

    def verbs_of(self, number: int) -> list[Verb]:
        """The verbs of the update of that number; see `Agent.update`."""
        if self.agent.critic_first:
            both = self.verbs["train_q"]._replace(noise=self.agent.q_noise + self.agent.pi_noise)
            return [both, self.verbs["train_pi"]]
        if not self.agent.policy_batch:
            return [self.verbs["train"]]
        due = Schedule.of(self.agent).policy_due(number)
        return [self.verbs["train_q"], self.verbs["train_pi"]] if due else [self.verbs["train_q"]]

    def draw(self, verb: Verb) -> Batch:
        """A batch from the replay: observations normalised, noise drawn."""
        return draw(self.agent, self.buffer, verb.noise)

    def step(self, verb: Verb, targets: bool) -> None:
        """Step the verb's optimisers; with `targets`, move the targets if they are due."""
        for opt, group in verb.groups:
            opt.step_group(group, self.grads)
        self.agent.counters["updates"] += verb.counts
        if targets:
            self.target_update()

    def losses(self, verb: Verb, batch: Batch, how: Callable[[Sequence[Part], Batch], Part] = as_they_are,
               ahead: Callable[[], None] = nothing) -> Info:
        """Write the gradients of one verb; return its losses, (). Call `ahead` when a thread has computed its part.

        The two lists of a step are computed at the same time, by `compute` or as graphs; values of one name add up. A
        verb of one list is computed by both threads, half of the rows in each.
        """
        self.nets[0].products.refresh()
        lead = len(self.nets[0].lead)
        batch, found = weighted(batch, lead), {}
        if verb.undivided and not lead and isinstance(self.pair, Threads):
            found = self._by_rows(verb, batch, how, ahead)
        else:
            for step in verb.steps:
                fields = {**batch, **found}
                calls = [partial(how(parts, fields), fields) for parts in step if parts]
                found |= added(*(self.pair(*calls, ahead) if len(calls) == 2 else (calls[0](), {})))
        ahead()
        return {name: found[name] for name in self.agent.train_info if name in found}

    def _by_rows(self, verb: Verb, batch: Batch, how: Callable[[Sequence[Part], Batch], Part],
                 ahead: Callable[[], None]) -> Info:
        (parts,) = (parts for step in verb.steps for parts in step if parts)
        twin, rows = self._twin(verb, parts), halves(batch)
        calls = [partial(how(some, half), half) for some, half in zip((parts, twin.parts), rows, strict=True)]
        info = added(*self.pair(*calls, ahead))
        verb.memories[0].add_(twin.memory)
        return info

    def _twin(self, verb: Verb, parts: list[Part]) -> Twin:
        key = tuple(part.__name__ for part in parts)
        if key not in self.twins:
            gradients = self._gradients()
            gradients.first = False
            self.nets.append(gradients.nets)
            memory = _gathered(gradients.nets.gradients, verb.groups)
            self.twins[key] = Twin([getattr(gradients, name) for name in key], memory)
        return self.twins[key]
