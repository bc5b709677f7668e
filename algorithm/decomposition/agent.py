"""An agent whose batches are paid by a decomposition; the agent itself, its basis, does all else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.off_policy_torch import OffPolicy
from algorithm.batch import Array, Batch, Spec, check_loss
from algorithm.decomposition.base import Decomposition
from algorithm.decomposition.crediting import credit
from algorithm.decomposition.fitting import burst
from utils.errors import ConfigError
from utils.optimizers import TFAdam, TFRMSProp

# Read from the basis at each use, so that an override takes effect, in a subclass as well as in one agent.
OF_BASIS = (
    "config", "obs_dims", "act_dim", "acts_shape", "device", "generator", "weights_generator", "nets", "counters",
    "pi_delay_freq", "policy_batch", "critic_first", "q_noise", "pi_noise", "step_info", "explore_info", "inspect",
    "normalizer", "pi_spec", "noise_spec", "draw_noise", "add_noise", "randn", "prepare", "normalize",
    "normalizer_update", "autocast", "q_loss", "pi_loss", "train_pi", "target_pairs", "target_update", "act",
    "evaluate_step", "step", "step_metrics", "explore_metrics",
)


def of_basis(*names: str) -> Callable[[type], type]:
    """Decorator of a class: these attributes are read from, and written to, `self.basis`."""
    def add(kind: type) -> type:
        for name in names:
            setattr(kind, name, property(lambda self, name=name: getattr(self.basis, name),
                                         lambda self, value, name=name: setattr(self.basis, name, value)))
        return kind
    return add


@of_basis(*OF_BASIS)
class Decomposed(OffPolicy):
    """A basis, and a decomposition that pays its batches and learns in the same updates."""

    def __init__(self, basis: OffPolicy, decomposition: Decomposition):
        """Join them; the basis' networks then contain the decomposition's, and the basis prepares its observations."""
        check_learns(decomposition)
        self.basis, self.decomposition = basis, decomposition
        decomposition.noise_generator = basis.generator
        decomposition.normalizer, decomposition.prepare = None, self._prepared
        basis.nets.update(decomposition.parts())
        if decomposition.config.mask_policy:
            basis.policy_mask = decomposition.policy_mask
        if learns_in_bursts(decomposition):
            basis.counters |= {"bursts": 0, "burst_number": 0}      # made, and the number of the last one by its steps

    def _prepared(self, name: str, value: Tensor) -> Tensor:
        return self.basis.prepare(name, value)

    @property
    def opts(self) -> list[TFAdam | TFRMSProp]:
        """The optimisers of both."""
        return [*self.basis.opts, *self.decomposition.opts]

    @property
    def train_info(self) -> tuple[str, ...]:
        """The metrics of both."""
        joint = self.decomposition.metrics if self.decomposition.joint or learns_in_bursts(self.decomposition) else ()
        return (*self.basis.train_info, *joint)

    def q_spec(self) -> Spec:
        """Return the fields of the basis, but for `rews`, and of the decomposition."""
        fields = {name: shape for name, shape in self.basis.q_spec().items() if name != "rews"}
        joint = self.decomposition.loss_spec() if self.decomposition.joint else {}
        return fields | self.decomposition.pay_spec() | joint

    def checked(self, batch: Batch, spec: Spec) -> dict[str, Tensor]:
        """Return the batch as the basis checks and prepares it; see `OffPolicy.checked`."""
        fields = self.basis.checked(batch, spec)
        if not learns_in_bursts(self.decomposition):               # else its fields come with the bursts
            self.decomposition.check(fields)
        return fields

    def losses(self, batch: dict[str, Tensor], policy: bool) -> tuple[Tensor, Info]:
        """Return the basis' losses on the batch as it is paid, plus the decomposition's loss if that is joint."""
        with torch.no_grad():
            rews = self.decomposition.pay(batch)                                                    # (B, 1)
        loss, info = self.basis.losses(self.basis.shown(batch | {"rews": rews}), policy)
        if not self.decomposition.joint:
            return loss, info
        own, own_info = check_loss(self.decomposition, "loss", self.decomposition.loss(batch))
        return loss + own, info | own_info

    def identity(self) -> dict[str, str]:
        """Return what must agree between a checkpoint and the agent that loads it, of both."""
        return self.basis.identity() | self.decomposition.identity

    # Bursts ---------------------------------------------------------------------------------------------------

    def burst_due(self, buffer: Any) -> bool:
        """Whether the decomposition is to learn before the next updates: once every `fit_every` stored steps."""
        last = self.counters["burst_number"] if self.counters.get("bursts") else None
        return burst_due(self.decomposition, buffer, last)

    def fit(self, buffer: Any, updates: int) -> Iterator[Info]:
        """Yield the metrics of each update of a burst, `fit_updates` or so many."""
        self.counters["burst_number"] = burst_number(self.decomposition, buffer)
        yield from burst(self.decomposition, buffer, self.config.fit_updates or updates, self.inspect)
        self.counters["bursts"] += 1

    def credit(self, buffer: Any, anew: bool) -> None:
        """Pay the new episodes of a replay that keeps payments; with `anew` older ones, of `credit_steps` at most."""
        if getattr(buffer, "keeps_credit", False):
            credit(self.decomposition, buffer, self.counters["bursts"], self.config.credit_steps if anew else 0)

    # For users ------------------------------------------------------------------------------------------------

    def rewards(self, obs: Array, acts: Array, obs_next: Array) -> Tensor:
        """Return the reward of steps with raw observations, (..., 1); see `Decomposition.rewards`."""
        return self.decomposition.rewards(obs, acts, obs_next)

    def redistribute(self, episode: Mapping[str, Array], mask: Array | None = None) -> Tensor:
        """Return what each step of an episode is paid, (T,); see `Decomposition.redistribute`."""
        return self.decomposition.redistribute(episode, mask)


def learns_in_bursts(decomposition: Decomposition) -> bool:
    """Whether a model learns in bursts between the updates of an agent; see `fit_every`."""
    return bool(decomposition.config.fit_every and decomposition.opts)


def burst_number(decomposition: Decomposition, replay: Any) -> int:
    """Return how many times `fit_every` steps the replay has stored."""
    return replay.steps_stored // decomposition.config.fit_every


def burst_due(decomposition: Decomposition, replay: Any, last: int | None) -> bool:
    """Whether a model is to learn in a burst: at first, then once every `fit_every` stored steps.

    Args:
        last: the `burst_number` of the last burst; None before the first one.
    """
    return learns_in_bursts(decomposition) and (last is None or burst_number(decomposition, replay) > last)


def check_learns(decomposition: Decomposition) -> None:
    """Raise a ConfigError if a model of whole episodes would learn in each update, whose batch it does not pay."""
    config = decomposition.config
    if (config.grad_accum_steps or 1) > 1:
        raise ConfigError(f"grad_accum_steps: got {config.grad_accum_steps} with {config.alg}, whose episodes are not "
                          "split; expected 1")
    if config.fit_every == 0 and not decomposition.markov:
        raise ConfigError(f"fit_every: got 0, but {config.alg} pays whole episodes, which the replay keeps paid "
                          "between bursts; expected at least 1, such as 1000")
