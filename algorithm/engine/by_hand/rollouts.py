"""The engine of an on-policy agent's gradients written by hand: passes over a rollout, in minibatches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.batch import Batch
from algorithm.engine.batches import read_ahead
from algorithm.engine.by_hand.choice import create_gradients, refusal, why_not_by_hand
from algorithm.engine.by_hand.engine import as_they_are
from algorithm.engine.by_hand.gradients import compute
from algorithm.engine.by_hand.kernels import Kernels, usual
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.products import Products
from algorithm.engine.by_hand.traced import Graphs
from algorithm.engine.eager import Engine, Sums
from algorithm.engine.pairs import Pair, create_pair
from utils.flat import gather
from utils.threads import patience


class RolloutEngine(Engine):
    """Computes the losses of policy and value with their gradients, then steps the optimiser.

    A minibatch may be so small that Python takes as long as the products. So minibatches are read many at a time, both
    losses are graphs, and all parameters are one memory to the optimiser.
    """

    name = "manual"

    def __init__(self, agent: Agent, buffer: Any, kernels: Kernels | None = None):
        """kernels: None: the usual ones, for the threads that there are now."""
        super().__init__(agent, buffer)
        self.kernels = kernels or usual(agent)
        self.opt, self.group = agent.groups()[0]
        if why_not_by_hand(agent) is not None:
            raise refusal(agent)
        self.joined = self.opt.joined(self.group)       # before anything holds the parameters' memory
        self.products = Products(self.kernels.products)
        gradients = create_gradients([agent], partial(Nets, products=self.products))
        grads = {parameter: gradients.nets.gradients[parameter] for parameter in self.group["params"]}
        self.memory = gather(grads.values())
        self.gradients = {self.labels[parameter]: gradient for parameter, gradient in grads.items()}
        (self.halves,) = gradients.train()
        self.names = gradients.basis.train_info
        self.graphs = Graphs(lambda: [*gradients.nets.state(), self.memory])

    def run(self, updates: int) -> Sums:
        """See `Engine.run`. A KL stop ends it early."""
        sums, made = Sums(), 0
        total = torch.zeros(len(self.names), dtype=torch.float64, device=self.agent.device)
        with self.paired() as self.pair, torch.inference_mode():
            for batch in self._batches(updates):
                found = self.losses(batch)
                total, made = total + found["metrics"], made + 1
                if not self.step(found):
                    break
                patience.look()
                if self.agent.enough():
                    break
        if made:
            sums.add(self._info(total), made)
        return self._finish(sums)

    def paired(self) -> Pair:
        """Return what computes both losses, as the kernels say; one after the other where they share layers."""
        return create_pair(self.agent.device, self.kernels.halves if self.halves[1] else 1, self.kernels.threads)

    def _batches(self, count: int) -> Iterator[Batch]:
        """Minibatches as the losses read them."""
        for fields, rows in read_ahead(self.buffer, count):
            ready = {name: self.agent.prepare(name, value).split(rows) for name, value in fields.items()}
            for values in zip(*ready.values(), strict=True):
                yield dict(zip(ready, values, strict=True))

    def losses(self, batch: Batch) -> Info:
        """Write the gradients; return `metrics`, by `names`, and the `sum` of them and of all gradients, ()."""
        self.products.refresh()
        graph = self.graphs if self.agent.device.type == "cpu" else as_they_are
        if type(self.pair) is Pair:
            return graph([self._whole], batch)(batch)
        one, other = self.pair(*(partial(graph(parts, batch), batch) for parts in self.halves))
        return self._summary(one | other)

    def _whole(self, batch: Batch) -> Info:
        """Both halves, one after the other."""
        return self._summary(compute([*self.halves[0], *self.halves[1]], batch))

    def _summary(self, found: Info) -> Info:
        metrics = torch.stack([found[name] for name in self.names])
        return {"metrics": metrics, "sum": metrics.sum() + self.memory.sum()}

    def _info(self, metrics: Tensor) -> Info:
        return dict(zip(self.names, metrics.unbind(), strict=True))

    def step(self, found: Info) -> bool:
        """Check what `losses` has found, and step the optimiser; return whether the agent makes this update."""
        info, agent = self._info(found["metrics"]), self.agent
        if agent.refused(info):
            return False
        agent.counters["updates"] += 1
        if not math.isfinite(float(found["sum"])):      # which may also overflow
            self.guard.check(agent.updates, info, self.gradients)
        rate, (flat,) = self.opt.next_rate(self.group), self.joined["params"]
        self.opt.step_group(self.joined, {flat: self.memory}, rate)
        return True

    def call(self, verb: str, batch: Batch) -> Info:
        """See `Engine.call`."""
        self.pair = Pair()
        with torch.inference_mode():
            found = self.losses(self.agent.checked(batch, self.agent.spec()))
            self.step(found)
        return self._info(found["metrics"])
