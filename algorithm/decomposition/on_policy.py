"""An on-policy agent whose rollouts are paid by a decomposition; the agent itself, its basis, does all else.

A rollout is paid before its advantages are computed, and the decomposition is fitted before it pays. If it is Markov,
every step is paid by itself. Else whole episodes that ended in the rollout are paid, and the steps of the others do not
count: their return is not known yet, so nothing is paid of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Info
from algorithm.basis_alg.on_policy_torch import OnPolicy
from algorithm.batch import Array
from algorithm.decomposition.agent import of_basis
from algorithm.decomposition.base import PICTURES, VECTORS, Decomposition
from algorithm.decomposition.fitting import burst
from algorithm.draws import pad
from algorithm.replay_buffer.open_rows import Whole
from algorithm.replay_buffer.rollout import RolloutBuffer
from utils.errors import ConfigError
from utils.optimizers import TFOptimizer

OF_BASIS = (
    "config", "obs_dims", "act_dim", "acts_shape", "device", "generator", "weights_generator", "nets", "counters",
    "policy", "memory", "recurrent", "step_info", "explore_info", "inspect", "normalizer", "pi_delay_freq",
    "policy_batch", "q_noise", "pi_noise", "noise_spec", "draw_noise", "add_noise", "randn", "spec", "checked",
    "prepare", "normalize", "normalizer_update", "autocast", "losses", "train", "update", "refused", "enough",
    "act", "evaluate_step", "step", "step_metrics", "begin_episode", "explore_metrics", "for_env", "collect_rollout",
    "finish_rollout", "set_advantages", "begin_updates",
)


@of_basis(*OF_BASIS)
class DecomposedOnPolicy(OnPolicy):
    """A basis, and a decomposition that pays its rollouts."""

    def __init__(self, basis: OnPolicy, decomposition: Decomposition):
        """Join them; the basis' networks then contain the decomposition's, and the basis prepares its observations.

        Raises:
            ConfigError: the decomposition says of no step or episode what it is paid.
        """
        check_pays(basis.config, decomposition)
        self.basis, self.decomposition = basis, decomposition
        decomposition.noise_generator = basis.generator
        decomposition.normalizer, decomposition.prepare = None, self._prepared
        basis.nets.update(decomposition.parts())
        basis.payer = self.payments

    def _prepared(self, name: str, value: Tensor) -> Tensor:
        return self.basis.prepare(name, value)

    @property
    def opts(self) -> list[TFOptimizer]:
        """The optimisers of both."""
        return [*self.basis.opts, *self.decomposition.opts]

    @property
    def train_info(self) -> tuple[str, ...]:
        """The metrics of both."""
        return (*self.basis.train_info, *(self.decomposition.metrics if self.fits else ()))

    @property
    def fits(self) -> bool:
        """Whether the decomposition learns."""
        return bool(self.decomposition.joint and self.decomposition.opts)

    def fit(self, buffer: RolloutBuffer, updates: int) -> Iterator[Info]:
        """Yield the metrics of each of so many updates of the decomposition, from the replay of whole episodes."""
        if self.fits and buffer.episodes:
            yield from burst(self.decomposition, buffer, self.config.fit_updates or updates, self.inspect)

    def payments(self, buffer: RolloutBuffer) -> tuple[Tensor, Tensor | None]:
        """Return what each step of a rollout is paid, (T, N), and which steps count; see `OnPolicy.pay`."""
        rews = torch.zeros_like(buffer["rews"])
        if self.fits and not buffer.episodes:           # nothing is learned yet
            return rews, torch.zeros_like(rews, dtype=torch.bool)
        if self.decomposition.markov:
            return self._pay_steps(buffer, rews), None
        paid = torch.zeros_like(rews, dtype=torch.bool)
        for some in groups(buffer.ended, PICTURES if len(self.obs_dims) == 3 else VECTORS):
            for one, values in zip(some, self._pay_episodes(buffer, some), strict=True):
                steps = slice(max(one.start, 0), one.end)
                rews[steps, one.row] = values[-(steps.stop - steps.start):].to(rews.dtype)
                paid[steps, one.row] = True
        return rews, paid

    def _pay_steps(self, buffer: RolloutBuffer, rews: Tensor) -> Tensor:
        """Pay each step by itself."""
        most = max((PICTURES if len(self.obs_dims) == 3 else VECTORS) // buffer.rows, 1)
        for start in range(0, buffer.length, most):
            span = slice(start, start + most)
            steps = (buffer["obs"][span], self.for_env(buffer["acts"][span]), buffer["obs_next"][span])
            rews[span] = self.decomposition.rewards(*steps)[..., 0]
        return rews

    def _pay_episodes(self, buffer: RolloutBuffer, some: Sequence[Whole]) -> list[Tensor]:
        """Return the payments of whole episodes, (L,) each."""
        model = self.decomposition
        fields = [one.fields | {"acts": self.for_env(one.fields["acts"])} for one in some]
        known = {name: value for name, value in buffer.episode_fields().items() if name in model.of_replay}
        if type(model).redistribute is not Decomposition.redistribute:      # a user's own may pay one at a time
            return [torch.as_tensor(model.redistribute(one | known), device=self.device) for one in fields]
        lengths = [len(one["rews"]) for one in fields]
        mask = pad([torch.ones(length, dtype=torch.bool, device=self.device) for length in lengths])
        joined = {name: pad([one[name] for one in fields]) for name in fields[0]}
        joined |= {name: value.expand(len(fields), *value.shape) for name, value in known.items()}
        paid = model.redistribute(joined, mask)
        return [row[:length] for row, length in zip(paid, lengths, strict=True)]

    def end_updates(self, buffer: RolloutBuffer, skipped: int = 0) -> None:
        """Count the rollout's observations; see `OnPolicy.end_updates`."""
        self.basis.end_updates(buffer, skipped)

    def identity(self) -> dict[str, str]:
        """Return what must agree between a checkpoint and the agent that loads it, of both."""
        return self.basis.identity() | self.decomposition.identity

    def rewards(self, obs: Array, acts: Array, obs_next: Array) -> Tensor:
        """Return the reward of steps with raw observations, (..., 1); see `Decomposition.rewards`."""
        return self.decomposition.rewards(obs, acts, obs_next)

    def redistribute(self, episode: Mapping[str, Array], mask: Array | None = None) -> Tensor:
        """Return what each step of an episode is paid, (T,); see `Decomposition.redistribute`."""
        return self.decomposition.redistribute(episode, mask)


def check_pays(config, model: Decomposition) -> None:
    """Raise a ConfigError if a decomposition says of no step or episode what it is paid, or hides observations."""
    if config.mask_policy:
        raise ConfigError(f"mask_policy: got True over {config.basis_alg}, expected an off-policy basis such as sac")
    needed = "predict" if model.markov else "credit"
    if getattr(type(model), needed) is getattr(Decomposition, needed) \
            and type(model).redistribute is Decomposition.redistribute:
        raise ConfigError(f"basis_alg: got {config.basis_alg!r}, but {config.alg} cannot pay a rollout: "
                          f"{type(model).__name__} has no {needed}; expected one, or an off-policy basis such as sac")


def groups(ended: Sequence[Whole], most: int) -> Iterator[list[Whole]]:
    """Yield episodes of similar lengths together, at most so many steps with their padding, at least one episode."""
    some: list[Whole] = []
    for one in sorted(ended, key=lambda one: one.end - one.start):
        if some and (len(some) + 1) * (one.end - one.start) > most:
            yield some
            some = []
        some.append(one)
    if some:
        yield some
