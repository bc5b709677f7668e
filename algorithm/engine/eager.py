"""The plain engine: updates one after the other, as `Agent.update` computes them by autograd."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Agent
from algorithm.batch import Batch
from algorithm.engine.guard import check_tensors, create_guard, labels
from algorithm.schedule import Schedule
from utils.errors import ConfigError
from utils.finite import NotFiniteError
from utils.floats import widened
from utils.threads import patience, threads, worth
from utils.torch_state import methods_apart


class Sums:
    """Sums of metrics over many updates, kept on the device: nothing waits for it."""

    def __init__(self):
        self.sums: dict[tuple[str, ...], tuple[Tensor, int]] = {}
        self.failed: dict[int, NotFiniteError] = {}     # of several agents, those that are not finite any more

    def add(self, info: dict[str, Tensor], count: int = 1) -> None:
        """Add metrics, (), or sums of `count` of them."""
        names, values = tuple(info), widened(torch.stack([torch.as_tensor(value) for value in info.values()]))
        total, counted = self.sums.get(names, (0.0, 0))
        self.sums[names] = total + values, counted + count

    def items(self) -> list[tuple[str, Tensor, int]]:
        """List each name once: (name, sum (), number of summands).

        Raises:
            NotFiniteError: these are the sums of several agents, and one of them has failed.
        """
        for i, error in self.failed.items():
            raise NotFiniteError(f"agent {i + 1} of the stack: {error}")
        found: dict[str, tuple[Tensor, int]] = {}
        for names, (total, count) in self.sums.items():
            for i, name in enumerate(names):
                before, counted = found.get(name, (0.0, 0))
                found[name] = before + total[i], counted + count
        return [(name, *sums) for name, sums in found.items()]

    def of(self, i: int) -> Sums:
        """Select the sums of agent i of several; their metrics are (S,).

        Raises:
            NotFiniteError: a metric or a gradient of this agent was not finite.
        """
        if i in self.failed:
            raise self.failed[i]
        chosen = Sums()
        chosen.sums = {names: (total[:, i], count) for names, (total, count) in self.sums.items()}
        return chosen


@methods_apart("__init__", "run", "call", "check_batch", "check_state", "refresh")
class Engine:
    """Carries out the updates of an agent from its replay."""

    name = "eager"
    kernels: object = "auto"            # of gradients by hand; its text is the setting that repeats them

    def __init__(self, agent: Any, buffer: Any):
        """The agent may be of either backend; `buffer` is its replay."""
        self.agent, self.buffer = agent, buffer
        self.actor = agent              # what acts
        self.guard, self.labels = create_guard(agent), labels(agent)
        if hasattr(agent, "feed_back") and hasattr(buffer, "feed_back"):
            agent.feed_back = buffer.feed_back          # the losses that a prioritised replay draws by

    def check_batch(self, batch: Batch) -> None:
        """Check a batch of the replay, once for many updates: not every engine checks each batch.

        Raises:
            ConfigError: a field is missing or wrong.
        """
        if not isinstance(self.agent, Agent):
            return
        try:
            self.agent.checked(batch, self.agent.spec())
        except ValueError as error:
            raise ConfigError(f"alg: {self.agent.config.alg!r} cannot learn from its replay, a "
                              f"{type(self.buffer).__name__}: {error}") from error

    def run(self, updates: int) -> Sums:
        """Make updates from the replay, with a target update after each `train_target`-th; sum up their metrics.

        Raises:
            NotFiniteError: a metric or a gradient was not finite. A CPU stops at that update; CUDA, which waits for
                nothing before the last update, does not.
        """
        sums = Sums()
        with self._inspected(), threads(self.threads(torch.get_num_threads())):
            for _ in range(updates):
                sums.add(self.agent.update(self.buffer.sample))
                self.target_update()
                patience.look()
                if getattr(self.agent, "on_policy", False) and self.agent.enough():
                    break
        return self._finish(sums)

    def fit(self) -> Sums:
        """Fit the agent's decomposition to its replay, on policy before it pays a rollout; sum up the metrics.

        Raises:
            NotFiniteError: a metric or a gradient was not finite.
            ConfigError: the episodes do not fit the model, such as returns that are no outcomes.
        """
        sums = Sums()
        try:
            with self._inspected():
                for info in self.agent.fit(self.buffer, self.agent.config.train_batches):
                    sums.add(info)
                    patience.look()
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"alg: {self.agent.config.alg!r} cannot learn from its replay: {error}") from error
        return self._finish(sums)

    def threads(self, available: int) -> int:
        """How many of the available threads the products of an update are worth; all of them without dense layers."""
        modules = self.agent.nets.modules() if isinstance(self.agent, Agent) else ()
        weights = [module.weight.numel() for module in modules if isinstance(module, nn.Linear)]
        return worth(self.agent.config.batch_size, max(weights), available) if weights else available

    @contextlib.contextmanager
    def _inspected(self) -> Iterator[None]:
        """Check the agent's updates inside; updates that are made without an engine are not checked."""
        self.agent.inspect = self._inspect
        try:
            yield
        finally:
            self.agent.inspect = None

    def _inspect(self, info: dict[str, Tensor]) -> None:
        """Check the metrics and those gradients that this update has computed; the others are None."""
        gradients = {label: parameter.grad for parameter, label in self.labels.items() if parameter.grad is not None}
        self.guard.check(self.agent.updates, info, gradients)

    def _finish(self, sums: Sums) -> Sums:
        """End a run of updates; raise the error that the guard has recorded, if any."""
        for error in self.guard.found().values():
            raise error
        return sums

    def check_state(self) -> None:
        """Raise a NotFiniteError if the agent holds what must not be saved, such as an infinite moment."""
        if self.labels:
            state = {name: tensor for name, tensor in self.agent.state_dict().items() if tensor.is_floating_point()}
            check_tensors(state, f"after update {self.agent.updates}")

    def skip(self) -> None:
        """Called instead of `run` where no update is due yet: other agents may wait for this one."""

    def call(self, verb: str, batch: Batch) -> dict[str, Tensor]:
        """Compute the agent's `train`, `train_q` or `train_pi` on any batch."""
        return getattr(self.agent, verb)(batch)

    def refresh(self) -> None:
        """Copy what the agent has learned or loaded to the actor; `run` ends with it."""

    def generators(self) -> dict[str, torch.Generator]:
        """The generators of updates and of acting, without the replay's."""
        own = {} if self.actor is self.agent else {"actor": self.actor.generator}
        return {"agent": self.agent.generator} | own

    def random_states(self) -> dict[str, Tensor]:
        """The states of `generators`, to be saved."""
        return {name: generator.get_state() for name, generator in self.generators().items()}

    def set_random_states(self, states: dict[str, Tensor]) -> None:
        """Restore what `random_states` returned."""
        for name, generator in self.generators().items():
            generator.set_state(states[name])

    def target_update(self) -> None:
        """Move the targets if they are due after this update."""
        if Schedule.of(self.agent).targets_due(self.agent.updates):
            self.move_targets()

    def move_targets(self) -> None:
        """Move the targets."""
        self.agent.target_update()
