"""The base of all return decompositions: a model that pays the steps of an episode, apart from agent and replay.

An episode of T steps ends with its return R; the model says what each step is paid. It is Markov if the payment of a
step depends on (s, a, s') alone, as RRD's does; else on the whole episode, as a recurrent network's does.

Two kinds of observations occur. Raw ones are as the environment gives them (pixels as bytes or in [0, 1]). Prepared
ones are normalised, as networks read them. `loss`, `pay`, `predict` and `credit`, which a subclass writes, get prepared
ones. `rewards`, `redistribute` and `fit`, which users call, take raw ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from algorithm.batch import Array, Spec, actions_spec, check_batch, check_steps, observations, prepared
from algorithm.decomposition.episodes import (
    FIELDS,
    STEP,
    check_fields,
    draw_episodes,
    inside,
    observed_steps,
    one,
    whole_episodes,
)
from algorithm.decomposition.fitting import Report, fit, relabel, step
from utils.errors import ConfigError
from utils.normalizer import normalizer_of
from utils.optimizers import TFOptimizer
from utils.seeding import stream_seed
from utils.settings.fields import Config
from utils.settings.resolve import check_reads
from utils.torch_state import methods_apart
from utils.torch_utils import resolve_device

Info = dict[str, Tensor]
PICTURES, VECTORS = 256, 16384      # steps that `redistribute` reads at once, at most: stacks of frames are large


@methods_apart("__init__", "rewards", "redistribute", "fit", "load_state_dict")
class Decomposition(nn.Module):
    """A model of the rewards that the steps of an episode are paid."""

    markov = True                       # whether `predict` pays a step by that step alone; else `credit` pays episodes
    joint = True                        # whether each update of an agent also takes a step on `loss`; not with bursts
    unit = "reward"                     # of a payment: "reward", as the environment's, or "share" of a range
    reads: tuple[str, ...] = ()         # the settings that it reads
    metrics: tuple[str, ...] = ()       # the names of the metrics of `loss`
    of_replay: Spec = {}                # fields of an episode that only a replay knows, see `redistribute`  # noqa: RUF012
    episode_errors: Tensor | None = None    # of the last batch, (N,), for a replay that draws by them
    identity: dict[str, str] = {}       # that a checkpoint shares, beside the agent's own        # noqa: RUF012
    fit_episodes = 4                    # N, the episodes of a batch of `draw`

    def __init__(self, config: Config, generator: torch.Generator | None = None):
        """Build the model; a subclass adds its networks, and its optimisers to `self.opts`.

        Args:
            config: resolved settings, with `obs_dims` and `acts_dims`.
            generator: what the first weights are drawn from, on the CPU; one of `config.seed` if None.
        Raises:
            ConfigError: a setting of `reads` is missing.
        """
        check_reads(config, *self.reads)
        super().__init__()
        self.config, self.device = config, resolve_device(config.device)
        self.obs_dims, (self.act_dim,) = config.obs_dims, config.acts_dims
        self.weights_generator = generator or torch.Generator().manual_seed(stream_seed(config.seed, "weights"))
        self.generator = torch.Generator().manual_seed(stream_seed(config.seed, "decomposition"))   # of `fit`'s draws
        self.normalizer = normalizer_of(config).to(self.device) if config.obs_normalization else None
        self.noise_generator: torch.Generator | None = None         # an agent's, if it is joined to one
        self.opts: list[TFOptimizer] = []
        self.fit_episodes = config.fit_episodes or self.fit_episodes
        self.joint = self.joint and not config.fit_every

    # What a subclass says -------------------------------------------------------------------------------------

    def loss_spec(self) -> Spec:
        """Return the fields that `loss` reads, with their shapes."""
        return {}

    def pay_spec(self) -> Spec:
        """Return the fields that `pay` reads beside `obs`, `acts`, `obs_next` and `done`, with their shapes."""
        return {} if self.markov else {"rews": ("B", 1)}

    def check(self, batch: dict[str, Tensor]) -> None:
        """Raise a ValueError if fields that have the right shapes do not fit together."""

    def predict(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """Return the reward of steps, if the model is Markov.

        Args:
            obs, obs_next: prepared, (..., O), for any leading dimensions.
            acts: as in a batch, (..., A), or indices (...); see `encode_acts`.
        Returns:
            the rewards, in `unit`, (..., 1), with gradients.
        """
        raise NotImplementedError

    def credit(self, episodes: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Return the payments of whole episodes, if the model is not Markov.

        Args:
            episodes: prepared `obs`, `obs_next` (N, L, O), `acts`, `rews` (N, L, 1), and the fields of `of_replay`;
                raw zeros beyond the end of an episode.
            mask: whether a step belongs to its episode, bool, (N, L).
        Returns:
            the payments, in `unit`, (N, L); values beyond the end of an episode are ignored.
        """
        raise NotImplementedError

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Info]:
        """Return the loss () of a prepared batch with the fields of `loss_spec`, and the `metrics`, each ()."""
        raise NotImplementedError

    def pay(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the rewards of the steps of a prepared batch, (B, 1).

        A Markov model pays its predictions; another one the credits of the replay, the field `rews`.
        """
        if not self.markov:
            return batch["rews"]
        return self.checked_rewards(batch["obs"], batch["acts"], batch["obs_next"])

    def draw(self, episodes: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """Draw a batch for `loss` from episodes with raw observations: N whole ones, in proportion to their lengths.

        Returns:
            the fields that `algorithm.decomposition.episodes.whole_episodes` describes.
        """
        return whole_episodes(draw_episodes(episodes, self.fit_episodes, self.generator))

    def observe(self, episodes: Sequence[Mapping[str, Array]]) -> None:
        """Count the observations of all episodes before `fit` draws from them."""
        if self.normalizer is not None:
            for episode in episodes:
                both = [torch.as_tensor(np.asarray(episode[name])) for name in ("obs", "obs_next")]
                self.normalizer.update(torch.cat(both))

    def ready(self, replay: Any) -> bool:
        """Whether the episodes of a replay are enough for a burst of updates."""
        return True

    def satisfied(self) -> bool:
        """Whether a burst may end before its last update."""
        return False

    def parts(self) -> dict[str, nn.Module]:
        """Return the modules that an agent saves, by their names in its checkpoint."""
        return {"decomposition": self} if self.state_dict() else {}

    # What a subclass may use ----------------------------------------------------------------------------------

    def randn(self, *shape: int) -> Tensor:
        """Draw standard normal numbers for a loss whose batch carries none."""
        return self._draw(torch.randn, shape)

    def rand(self, *shape: int) -> Tensor:
        """Draw uniform numbers above 0 and below 1 for a loss whose batch carries none."""
        return self._draw(torch.rand, shape).clamp(1e-6, 1 - 1e-6)

    def _draw(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        source = self.noise_generator or self.generator
        return draw(shape, generator=source, device=source.device).to(self.device)

    @property
    def acts_shape(self) -> tuple[int | str, ...]:
        """The shape of a batch's actions: ("B", A), or indices ("B",)."""
        return actions_spec(self.config, "B")

    def encode_acts(self, acts: Tensor) -> Tensor:
        """Return actions as networks take them: vectors (..., A) as they are, indices (...) one-hot (..., A)."""
        return nn.functional.one_hot(acts, self.act_dim).float() if self.config.discrete else acts

    def prepare(self, name: str, value: Tensor) -> Tensor:
        """Return a raw field as networks read it. An agent puts its own `prepare` here, with its own normaliser."""
        return prepared(name, value, self.normalizer.normalize if self.normalizer is not None else lambda obs: obs)

    def checked_rewards(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """Return the result of `predict`, one reward for each step, (..., 1).

        Raises:
            ConfigError: it has another shape, which would broadcast.
        """
        rewards = self.predict(obs, acts, obs_next)
        expected = (*obs.shape[:obs.ndim - len(self.obs_dims)], 1)
        if rewards.shape != expected:
            raise ConfigError(f"predict: got shape {tuple(rewards.shape)} from {type(self).__name__}, expected "
                              f"{expected}, one reward for each step")
        return rewards

    # For users ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def rewards(self, obs: Array, acts: Array, obs_next: Array) -> Tensor:
        """Return the reward of steps, (..., 1), in `unit`; only of a Markov model.

        Args:
            obs, obs_next: raw, (..., O), for any leading dimensions; pictures (..., H, W, C) as bytes or in [0, 1].
            acts: (..., A), or indices (...).
        Raises:
            ValueError: a last dimension is wrong, the leading ones differ, or the numbers are of another kind.
            ConfigError: the model is not Markov.
        """
        if not self.markov:
            raise ConfigError(f"rewards: {type(self).__name__} pays a step by its whole episode; call "
                              "redistribute(episode)")
        steps = check_steps({"obs": obs, "acts": acts, "obs_next": obs_next}, self.obs_dims, self.acts_shape,
                            self.device)
        steps = {name: self.prepare(name, value) for name, value in steps.items()}
        return self.checked_rewards(steps["obs"], steps["acts"], steps["obs_next"])

    @torch.no_grad()
    def redistribute(self, episode: Mapping[str, Array], mask: Array | None = None) -> Tensor:
        """Return what each step of an episode is paid, in `unit`.

        Args:
            episode: as `store_episode` takes it: raw `obs`, `obs_next` (T, O), or `frames`, and `acts`. A model that is
                not Markov also reads `rews` (T, 1), whose sum is R, and the fields of `of_replay`.
            mask: for N episodes at once, whose fields are (N, L, ...): whether a step belongs to its episode, (N, L).
        Returns:
            (T,); with a mask (N, L), 0 beyond the end of an episode, whatever is there.
        Raises:
            ValueError: a field is missing or has the wrong shape or dtype.
        """
        steps = observed_steps(episode)
        check_fields(steps, STEP if self.markov else FIELDS)
        if mask is not None:
            mask = torch.as_tensor(mask, dtype=torch.bool, device=self.device)
            steps = inside(steps, mask)
            return torch.where(mask, self._of_steps(steps) if self.markov else self._of_episodes(steps, mask), 0.0)
        if not self.markov:
            mask = torch.ones(1, len(steps["acts"]), dtype=torch.bool, device=self.device)
            return self._of_episodes({name: one(value) for name, value in steps.items()}, mask)[0]
        most = PICTURES if len(self.obs_dims) == 3 else VECTORS
        spans = [slice(start, start + most) for start in range(0, len(steps["acts"]), most)]
        return torch.cat([self._of_steps({name: steps[name][span] for name in STEP}) for span in spans])

    def _of_steps(self, steps: Mapping[str, Array]) -> Tensor:
        """Return the rewards of steps with any leading dimensions, (...)."""
        return self.rewards(*(steps[name] for name in STEP))[..., 0]

    def _of_episodes(self, steps: Mapping[str, Array], mask: Tensor) -> Tensor:
        """Return what `credit` returns for N episodes, whose fields it checks and prepares, (N, L)."""
        obs = observations("N", "L", *self.obs_dims)
        spec = {"obs": obs, "obs_next": obs, "acts": actions_spec(self.config, "N", "L"), "rews": ("N", "L", 1)}
        fields = check_batch(steps, spec, self.of_replay, self.device, "episode")
        paid = self.credit({name: self.prepare(name, value) for name, value in fields.items()}, mask)
        if paid.shape != mask.shape:
            raise ConfigError(f"credit: got shape {tuple(paid.shape)} from {type(self).__name__}, expected "
                              f"{tuple(mask.shape)}, one payment for each step")
        return paid

    def fit(self, dataset: Iterable[Mapping[str, Array]] | Any, updates: int, report: Report | None = None,
            ) -> dict[str, float]:
        """Train the model on whole episodes, with no agent; another call continues.

        Args:
            dataset: episodes, each as `store_episode` takes it, see `redistribute`; or a data set of Minari.
            updates: how many steps of its optimisers on `loss`, each on a batch that `draw` gives.
            report: called after each update with its number, from 1, and its metrics.
        Returns:
            the mean of each metric over the updates; nothing of a model that learns nothing.
        Raises:
            ValueError: there is no episode, or a field is missing or has the wrong shape or dtype.
        """
        return fit(self, dataset, updates, report)

    def relabel(self, dataset: Iterable[Mapping[str, Array]] | Any, out: str | None = None) -> Any:
        """Pay the steps of a data set: the same episodes with the learned rewards, in `unit`; nothing is overwritten.

        Args:
            dataset: as for `fit`.
            out: of Minari: the id of the new data set, such as pendulum/rd-v0.
        Returns:
            an iterator of episodes with new `rews`, (T, 1) float32; of Minari the new data set, which is written.
        Raises:
            ConfigError: `out` is missing, malformed, or the id of a data set that exists.
        """
        return relabel(self, dataset, out)

    def update(self, batch: Mapping[str, Array], inspect: Callable[[Info], None] | None = None) -> Info:
        """Take one step of the optimisers on `loss`, of a batch with raw observations; return its metrics.

        Args:
            inspect: called with the metrics, and with the gradients in place, before the step.
        """
        return step(self, batch, inspect)
