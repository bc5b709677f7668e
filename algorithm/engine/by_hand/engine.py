"""The engine of the gradients written by hand: two halves of an update at a time, by two threads."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.batch import Batch
from algorithm.engine.batches import draw
from algorithm.engine.by_hand.choice import create_program, why_not_by_hand
from algorithm.engine.by_hand.parts import Fields, Phase
from algorithm.engine.by_hand.program import Program
from algorithm.engine.by_hand.traced import Traced
from algorithm.engine.eager import Engine, Sums
from algorithm.engine.guard import gather
from algorithm.engine.pairs import call, create_pair
from utils.errors import ConfigError


@dataclass
class Job:
    """What one of the agent's verbs does with a batch."""

    phases: list[Phase]
    graphs: list[tuple[Traced, Traced | None]]      # the same
    groups: list[tuple]                 # the (optimiser, group of parameters) that it steps
    gradients: dict[str, torch.Tensor]  # by which, as messages call them
    memories: list[torch.Tensor]        # that they lie in
    noise: tuple[str, ...]
    counts: bool                        # as an update


class ManualEngine(Engine):
    """Runs a program.

    Its two threads meet three times in an update; OpenMP's threads would at every product. While the optimisers step,
    gradients are checked and the next batch is drawn.
    """

    name = "manual"
    warned = False

    def __init__(self, agent: Agent, buffer: Any):
        super().__init__(agent, buffer)
        program = create_program([agent])
        if program is None:
            raise ConfigError("engine: got 'manual', but gradients are written by hand only for ddpg, td3 and sac, "
                              "with the paper's reward network or none, as they stand, and not for "
                              f"{why_not_by_hand(agent)}; expected eager, compile or auto")
        self.grads = program.of_parameters()
        self._set_jobs(program, [(opt, group) for opt, group in agent.groups() if group["params"][0] in self.grads])

    def _set_jobs(self, program: Program, groups: list[tuple]) -> None:
        agent = self.agent
        by_pi = [pair for pair in groups if pair[1]["name"] in ("policy", "alpha")]
        by_q = [pair for pair in groups if pair not in by_pi]
        of_pi, of_q = (gather(self.grads[parameter] for _, group in some for parameter in group["params"])
                       for some in (by_pi, by_q))

        def job(phases: list[Phase], groups: list[tuple], memories: list[torch.Tensor], noise: tuple[str, ...],
                counts: bool) -> Job:
            graphs = [tuple(task and Traced(task, program.state) for task in phase) for phase in phases]
            gradients = {self.labels[parameter]: self.grads[parameter] for _, group in groups
                         for parameter in group["params"]}
            return Job(phases, graphs, groups, gradients, memories, noise, counts)
        self.jobs = {"train": job(program.phases(), groups, [of_pi, of_q], agent.q_noise + agent.pi_noise,
                                  counts=True),
                     "train_q": job(program.q_phases(), by_q, [of_q], agent.q_noise, counts=True),
                     "train_pi": job(program.pi_phases(), by_pi, [of_pi], agent.pi_noise, counts=False)}

    def run(self, updates: int) -> Sums:
        sums, first = Sums(), self.agent.updates + 1
        jobs = [(number, job) for number in range(first, first + updates) for job in self.jobs_of(number)]
        with create_pair(self.agent.device) as self.pair, torch.inference_mode():
            batch = self.draw(jobs[0][1])
            for (number, job), (_, following) in zip(jobs, [*jobs[1:], (0, None)], strict=True):
                info = self.gradients(job.graphs if self.agent.device.type == "cpu" else job.phases, batch)
                sums.add(info)
                whole = following is None or following.counts           # the update is, policy and all
                look = functools.partial(self.guard.check, number, info, job.gradients,
                                         job.memories)
                _, batch = self.pair(lambda job=job, whole=whole: self._apply(job, whole),
                                     lambda look=look, job=following: look() or (job and self.draw(job)))
        return self._finish(sums)

    def call(self, verb: str, batch: Batch) -> Info:
        agent = self.agent
        due = (agent.updates + 1) % agent.pi_delay_freq == 0
        job = self.jobs["train_q" if verb == "train" and not due else verb]
        spec = (agent.q_spec() if verb != "train_pi" else {}) | (agent.pi_spec() if verb != "train_q" else {})
        with create_pair(agent.device) as self.pair, torch.inference_mode():
            fields = agent.checked(batch, spec)
            agent.add_noise(fields, job.noise)
            info = self.gradients(job.phases, fields)
            self._apply(job, targets=False)
        return info

    def jobs_of(self, number: int) -> list[Job]:
        """What the update of that number consists of, each with a batch of its own; see `Agent.update`."""
        if not self.agent.policy_batch:
            return [self.jobs["train"]]
        due = number % self.agent.pi_delay_freq == 0
        return [self.jobs["train_q"], self.jobs["train_pi"]] if due else [self.jobs["train_q"]]

    def draw(self, job: Job) -> Fields:
        """A batch from the replay as the job wants it: observations normalised, noise drawn."""
        return draw(self.agent, self.buffer, job.noise)

    def gradients(self, phases: Sequence[tuple], batch: Fields) -> Info:
        """Every gradient of the phases into its buffer; metrics of the same name add up."""
        info: Info = {}
        for phase in phases:
            self._prepare([task for task in phase if isinstance(task, Traced)], batch)
            first, second = ((task, dict(batch)) for task in phase)         # what the one adds is not the other's
            for part in self.pair(lambda task=first: call(*task), lambda task=second: call(*task)):
                info |= {name: info[name] + value if name in info else value for name, value in part.items()}
            batch |= first[1] | second[1]
        return info

    def _prepare(self, graphs: Sequence[Traced], batch: Fields) -> None:
        for graph in graphs:
            reason = graph.prepare(batch)
            if reason and not self.warned:
                self.warned = True
                warnings.warn(f"engine: TorchScript does not work here, going on without, slower: {reason}",
                              stacklevel=2)

    def _apply(self, job: Job, targets: bool) -> None:
        for opt, group in job.groups:
            opt.step_group(group, self.grads)
        self.agent.counters["updates"] += job.counts
        if targets:
            self.target_update()
