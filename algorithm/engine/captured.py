"""The engine of CUDA graphs: it captures an update once, with its draws of indices and noise, and then replays it."""

from __future__ import annotations

from typing import Any

import torch

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.basis_alg.off_policy_torch import OffPolicy
from algorithm.basis_alg.on_policy_torch import OnPolicy
from algorithm.basis_alg.ppo_torch import PPO
from algorithm.batch import Batch
from algorithm.decomposition.agent import Decomposed
from algorithm.engine.batches import draw
from algorithm.engine.by_hand.choice import by_hand
from algorithm.engine.by_hand.engine import ManualEngine
from algorithm.engine.eager import Engine, Sums
from algorithm.engine.guard import Recorder
from algorithm.engine.pairs import Streams
from algorithm.schedule import Schedule
from utils.errors import ConfigError

WARM = 3            # updates of a kind before it is captured: libraries make their workspaces, optimisers their state


class CapturedEngine(Engine):
    """Replays one graph an update, and waits for the device only at the end of a run.

    Each kind of update (with the policy's part or without, with a target update or without) has a graph. Numbers that a
    graph reads and that change between updates are on the device: the extent of the replay's ring, the optimisers'
    counts.
    """

    name = "cudagraph"

    def __init__(self, agent: Agent, buffer: Any):
        super().__init__(agent, buffer)
        check_device(agent, buffer)
        self.by_hand = by_hand(agent) and not agent.on_policy and agent.config.precision != "bf16"
        if agent.policy_batch and not self.by_hand:
            raise ConfigError("engine: got 'cudagraph', but a policy with a batch of its own (td3) is captured only "
                              "with gradients by hand, in fp32 or tf32; expected eager, compile or auto")
        if agent.critic_first:
            name = agent.config.basis_alg or agent.config.alg
            raise ConfigError(f"engine: got 'cudagraph' with {name}, whose critics step before its policy's loss is "
                              "computed; expected eager, compile or auto")
        check_rollouts(agent)
        if not self.by_hand and (own := own_updates(agent)):
            raise ConfigError(f"engine: got 'cudagraph', but {type(agent).__name__} has its own {own[0]}, which "
                              "is not captured; expected eager, compile or auto")
        self._open([agent], [buffer], _Manual(agent, buffer) if self.by_hand else _Autograd(agent, buffer), Recorder())

    def _open(self, agents: list[Agent], buffers: list[Any], inner: Any, guard: Recorder) -> None:
        """Set up; `inner` computes what is captured, and counts updates and steps on the device."""
        self.guard = inner.guard = guard
        self.agents, self.buffers, self.inner = agents, buffers, inner
        self.actors = [create_actor(agent) for agent in agents]
        self.actor, device = self.actors[0], agents[0].device
        self.counts = inner.counts = {group["name"]: torch.zeros((), dtype=torch.float64, device=device)
                                      for _, group in self.agent.groups()}
        self.number = inner.number = torch.zeros((), dtype=torch.int64, device=device)
        self.stream, self.pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()
        self.graphs: dict[tuple, torch.cuda.CUDAGraph] = {}
        self.sums: dict[tuple, tuple[tuple[str, ...], torch.Tensor]] = {}
        self.runs: dict[tuple, int] = {}
        self.layout = self._layout()

    def _layout(self) -> list[tuple]:
        return [buffer.layout for buffer in self.buffers]

    def call(self, verb: str, batch: Batch) -> Info:
        """Compute one of the agent's verbs, not captured."""
        return self.inner.call(verb, batch)

    def run(self, updates: int) -> Sums:
        """See `Engine.run`."""
        if self._layout() != self.layout:               # `sample` now computes something else
            self.graphs, self.layout = {}, self._layout()
        self._load_counts()
        self.stream.wait_stream(torch.cuda.current_stream(self.agent.device))
        with torch.cuda.stream(self.stream):
            metrics = self._take(self._run_all(updates))
        torch.cuda.current_stream(self.agent.device).wait_stream(self.stream)
        self._store_counts()
        self.refresh()
        return self._finish(metrics)

    def _run_all(self, updates: int) -> dict[tuple, int]:
        """Make so many updates; count them by kind."""
        schedule, done = Schedule.of(self.agent), {}
        for _ in range(updates):
            number = self.agent.updates + 1
            kind = (schedule.policy_due(number), schedule.targets_due(number))
            self._run(kind)
            done[kind] = done.get(kind, 0) + 1
            for agent in self.agents:
                agent.counters["updates"] = number
        return done

    @torch.no_grad()
    def refresh(self) -> None:
        for actor, agent in zip(self.actors, self.agents, strict=True):
            if actor is not agent:
                theirs = agent.nets.state_dict()
                for name, tensor in actor.nets.state_dict().items():
                    tensor.copy_(theirs[name], non_blocking=True)
        torch.cuda.current_stream(self.agent.device).synchronize()

    def _run(self, kind: tuple) -> None:
        """Make one update of a kind: compute it the first times, then capture it, and from then on replay it."""
        self.runs[kind] = self.runs.get(kind, 0) + 1
        if self.runs[kind] > WARM and kind not in self.graphs:
            graph = torch.cuda.CUDAGraph()
            for owner in (*self.agents, *self.buffers):
                graph.register_generator_state(owner.generator)
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                self._compute(kind)                     # recorded, not run
            self.graphs[kind] = graph
        if kind in self.graphs:
            self.graphs[kind].replay()
        else:
            self._compute(kind)

    def _compute(self, kind: tuple) -> None:
        policy, targets = kind
        self.number.add_(1)
        info = self.inner.compute(policy)
        if targets:
            self.inner.move_targets()
        values = torch.stack(list(info.values())).double()
        if kind not in self.sums:
            self.sums[kind] = tuple(info), torch.zeros_like(values)
        self.sums[kind][1].add_(values)

    def _take(self, done: dict[tuple, int]) -> Sums:
        metrics = Sums()
        for kind, count in done.items():
            names, total = self.sums[kind]
            metrics.add(dict(zip(names, total.clone(), strict=True)), count)
            total.zero_()
        return metrics

    def _load_counts(self) -> None:
        """Take the numbers of updates and of the optimisers' steps to the device."""
        self.number.fill_(self.agent.updates)
        for _, group in self.agent.groups():
            self.counts[group["name"]].fill_(group["t"])

    def _store_counts(self) -> None:
        """Take the optimisers' steps back: a group has counted what was computed; waits for the device."""
        counts = dict(zip(self.counts, torch.stack(list(self.counts.values())).tolist(), strict=True))
        for agent in self.agents:
            for _, group in agent.groups():
                group["t"] = int(counts[group["name"]])


def check_device(agent: Agent, buffer: Any) -> None:
    """Raise a ConfigError unless both are on one CUDA device."""
    if agent.device.type != "cuda" or buffer.device != agent.device:
        raise ConfigError(f"engine: got 'cudagraph', with the agent on {agent.device} and the replay on "
                          f"{buffer.device}; expected both on one CUDA device (--device=cuda), or eager, manual, "
                          "compile or auto")


def check_rollouts(agent: Agent) -> None:
    """Raise a ConfigError if the minibatches of an on-policy agent cannot be captured."""
    config = agent.config
    wrong = {"a policy with a memory, whose sequences differ": agent.on_policy and agent.recurrent,
             "target_kl, for which every update waits": config.target_kl is not None,
             f"batch_size {config.batch_size}, which does not divide rollout_steps * num_envs ({config.timesteps})":
                 agent.on_policy and config.timesteps % config.batch_size}
    for what in (what for what, found in wrong.items() if found):
        raise ConfigError(f"engine: got 'cudagraph' with {what}; expected eager, compile or auto")


def own_updates(agent: Agent) -> list[str]:
    """The methods of a user's agent that `_Autograd` would not call."""
    if agent.on_policy:
        basis = getattr(agent, "basis", agent)
        return [name for name in ("update", "train", "checked", "refused", "_descend", "_loss") if name in vars(basis)
                or getattr(type(basis), name) not in (getattr(OnPolicy, name), getattr(PPO, name))]
    verbs = ("update", "train", "train_q", "checked", "_descend", "_loss")
    parts = [(agent, verbs), (getattr(agent, "basis", agent), ("checked",))]
    return [name for part, names in parts for name in names if name in vars(part)
            or getattr(type(part), name) not in (getattr(OffPolicy, name), getattr(Decomposed, name))]


def create_actor(agent: Agent) -> Agent:
    """Copy the agent to the CPU, to act without waiting for the GPU; an agent of images acts itself."""
    if len(agent.obs_dims) == 3 or agent.on_policy:     # its environments are on its device
        return agent
    from algorithm.create import create_twin
    actor = create_twin(agent, "cpu")
    actor.counters.update(agent.counters)
    agent.counters = actor.counters                     # exploring steps are counted in the actor
    if hasattr(agent, "basis"):
        agent.basis.counters = actor.counters
    return actor


class _Counting:
    """Steps the optimisers by counts that are kept on the device."""

    counts: dict[str, torch.Tensor]
    number: torch.Tensor                # of the update, ()

    def descend(self, opt: Any, group: dict, gradients: dict) -> None:
        """Step one group, and count it on the device."""
        t = self.counts[group["name"]].add_(1)
        rate = opt.rate(group, t)
        opt.step_group(group, gradients, rate.float() if isinstance(rate, torch.Tensor) else rate)


class _ByHand(_Counting):
    """An update with its gradients by hand, its two halves on two streams."""

    @torch.inference_mode()
    def compute(self, policy: bool) -> Info:
        info: Info = {}
        for verb in self.verbs_of(0 if policy else 1):
            found = self.losses(verb, self.draw(verb))
            self.guard.check(self.number, found, verb.gradients)
            info |= found
            for opt, group in verb.groups:
                self.descend(opt, group, self.grads)
        return info


class _Manual(_ByHand, ManualEngine):
    def __init__(self, agent: Agent, buffer: Any):
        super().__init__(agent, buffer)
        self.pair = Streams(agent.device)


class _Autograd(Engine, _Counting):
    """An update by autograd, for agents without gradients by hand."""

    def compute(self, policy: bool) -> Info:
        agent = self.agent
        fields = draw(agent, self.buffer, agent.q_noise + agent.pi_noise * policy)
        with agent.autocast():
            loss, info = agent.losses(fields, policy)
        parameters = [parameter for _, group in agent.groups() for parameter in group["params"]]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        found = {p: g for p, g in zip(parameters, gradients, strict=True) if g is not None}
        self.guard.check(self.number, info, {self.labels[p]: g for p, g in found.items()})
        for opt, group in agent.groups():
            if not found.keys().isdisjoint(group["params"]):
                self.descend(opt, group, found)
        return {name: value.detach() for name, value in info.items()}
