"""Several agents that differ only in their seeds, trained by one computation over stacked parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Agent
from algorithm.batch import Batch
from algorithm.engine.batches import draw
from algorithm.engine.by_hand.choice import create_gradients
from algorithm.engine.by_hand.engine import ManualEngine, Verb
from algorithm.engine.by_hand.kernels import usual
from algorithm.engine.eager import Engine, Sums
from algorithm.engine.guard import Recorder
from algorithm.engine.seeds.stacks import StackedNets
from utils.errors import ConfigError
from utils.optimizers import TFAdam


class StackedEngine(ManualEngine):
    """Makes the updates of S agents at once; each draws from its own replay and generators, and learns as if alone.

    The agents' parameters and moments become views of tensors (S, ...), so that each agent still acts, is saved and is
    loaded in place. A product of S matrices costs a GPU little more than one. Metrics are (S,). An agent that is not
    finite any more does not stop the others: `run` reports it in `Sums.failed`.
    """

    name = "stacked"

    def __init__(self, agents: Sequence[Agent], buffers: Sequence[Any]):
        Engine.__init__(self, agents[0], buffers[0])
        self.kernels = usual(agents[0])
        self.agents, self.buffers = list(agents), list(buffers)
        gradients = create_gradients(self.agents, StackedNets)
        if gradients is None or len({agent.updates for agent in agents}) > 1:
            raise ConfigError("seeds: got agents that cannot share their updates, expected gradients by hand (ddpg, "
                              "td3 or sac, with the paper's reward network or none) and equal numbers of updates")
        nets = gradients.nets
        self.guard = Recorder(len(agents))
        self.labels = {tensor: self.labels[first] for first, tensor in nets.tensors.items() if first in self.labels}
        self.grads = {nets.tensors[first]: gradient for first, gradient in nets.gradients.items()}
        self.opt = TFAdam([self._group(nets, same) for same in zip(*map(Agent.groups, self.agents), strict=True)])
        self._stack_moments()
        self._set_verbs(gradients, [(self.opt, group) for group in self.opt.param_groups])
        self.targets, self.mains = self._target_pairs(nets)

    def _group(self, nets: StackedNets, same: tuple) -> dict:
        """One group of parameters of all agents."""
        groups = [group for _, group in same]
        params = [nets.tensor(each) for each in zip(*(group["params"] for group in groups), strict=True)]
        return groups[0] | {"params": params, "stacked": True}

    def _stack_moments(self) -> None:
        for number, group in enumerate(self.opt.param_groups):
            own = [agent.groups()[number] for agent in self.agents]
            for position, tensor in enumerate(group["params"]):
                states = [opt.state[theirs["params"][position]] for opt, theirs in own]
                for slot, stacked in self.opt.state[tensor].items():
                    torch.stack([state[slot] for state in states], out=stacked)
                    for state, row in zip(states, stacked, strict=True):
                        state[slot] = row

    def _target_pairs(self, nets: StackedNets) -> tuple[list[Tensor], list[Tensor]]:
        """The stacked parameters of the targets, and of what they follow."""
        found: tuple[list[Tensor], list[Tensor]] = [], []
        for pairs in zip(*(agent.target_pairs() for agent in self.agents), strict=True):
            for side, stacked in enumerate(reversed(found)):
                of_agents = (pair[side].parameters() for pair in pairs)
                stacked += [nets.tensor(same) for same in zip(*of_agents, strict=True)]
        return found

    def run(self, updates: int) -> Sums:
        for group, (_, own) in zip(self.opt.param_groups, self.agent.groups(), strict=True):
            group["t"] = own["t"]                       # an agent may have been updated alone, or loaded
        return super().run(updates)

    def _finish(self, sums: Sums) -> Sums:
        sums.failed = self.guard.found()
        return sums

    def draw(self, verb: Verb) -> Batch:
        """A batch of every agent's, (S, B, ...)."""
        drawn = [draw(agent, buffer, verb.noise) for agent, buffer in zip(self.agents, self.buffers, strict=True)]
        return {name: torch.stack([fields[name] for fields in drawn]) for name in drawn[0]}

    def step(self, verb: Verb, targets: bool) -> None:
        """See `ManualEngine.step`; the agents' own counts follow."""
        super().step(verb, targets)
        for agent in self.agents[1:]:
            agent.counters["updates"] = self.agent.updates
        for agent in self.agents:
            for (_, own), group in zip(agent.groups(), self.opt.param_groups, strict=True):
                own["t"] = group["t"]

    def move_targets(self) -> None:
        """Move the targets of all agents: target <- polyak target + (1 - polyak) main."""
        torch._foreach_lerp_(self.targets, self.mains, 1 - self.agent.config.polyak)
