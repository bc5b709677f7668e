"""The rollout that an on-policy agent learns from and then forgets: T steps of N environments, on its device.

Beside it stands the replay of a decomposition, if there is one, which holds whole episodes as it does off policy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from algorithm.replay_buffer.kept import NoReplay
from algorithm.replay_buffer.open_rows import KEPT, OpenRows, Whole
from utils.seeding import stream_seed
from utils.settings.fields import Config
from utils.torch_utils import resolve_device

Fields = dict[str, Tensor]
EXTRAS = ("advantages", "returns", "mask")


class RolloutBuffer:
    """Steps as they were taken, time first, (T, N, ...), and minibatches of them.

    Row t N + n of everything flattened is step t of environment n. For a policy with a memory a row is a sequence of
    `sequence` steps of one environment instead, and row k N + n is the k-th sequence of environment n.
    """

    def __init__(self, config: Config, replay: Any = None):
        """`replay`: what a decomposition is fitted on; None without one."""
        self.config, self.batch_size = config, config.batch_size
        self.replay = NoReplay() if replay is None else replay
        self.device = resolve_device(config.device)
        self.generator = torch.Generator(self.device).manual_seed(stream_seed(config.seed, "rollout"))
        self.fields: Fields = {}                        # (T, N, ...) each; allocated once
        self.length = self.rows = 0                     # steps taken in the present rollout; environments
        self.sequence = 1                               # steps of a row; see `begin`
        self.order = torch.zeros(0, dtype=torch.int64, device=self.device)      # of the rows of all epochs
        self.cursor = torch.zeros((), dtype=torch.int64, device=self.device)    # in `order`, of the next minibatch
        self.drawn = 0                                  # minibatches of this rollout so far
        self.steps_stored = 0                           # ever
        self.set_names: set[str] = set()                # the extras that the present rollout has
        self.last_obs: Tensor | None = None             # after the last step, (N, ...)
        self.last_memory: Tensor | None = None          # of a recurrent policy then, (N, S)
        self.ended: list[Whole] = []                    # the episodes that ended in it, if a decomposition pays
        self.open_rows = OpenRows() if replay is not None else None
        self.running: Tensor | None = None              # the discounted sum of each environment's rewards, (N,)
        self.sampled: tuple[str, ...] = ()              # the fields of a minibatch

    # Collecting -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin a rollout: forget the last one."""
        self.length, self.drawn, self.ended = 0, 0, []
        self.set_names.clear()

    def add(self, step: Mapping[str, Tensor]) -> None:
        """Append one step of all environments, name -> (N, ...)."""
        for name, value in step.items():
            self._place(name, value, self.length + 1)[self.length] = value
        self.rows = len(next(iter(step.values())))
        self.length, self.steps_stored = self.length + 1, self.steps_stored + self.rows

    def _place(self, name: str, value: Tensor, steps: int) -> Tensor:
        """Return the field's memory, (T, N, ...) for values (N, ...), in which so many steps have a place."""
        held = self.fields.get(name)
        if held is None or held.shape[1:] != value.shape or held.dtype != value.dtype or steps > held.shape[0]:
            size = max(steps, self.config.rollout_steps)
            grown = torch.empty(size, *value.shape, dtype=value.dtype, device=self.device)
            if self.length and held is not None:
                grown[:self.length] = held[:self.length]
            self.fields[name] = grown
        return self.fields[name]

    def __getitem__(self, name: str) -> Tensor:
        """Return a field of the steps taken, (T, N, ...)."""
        return self.fields[name][:self.length]

    def get(self, name: str) -> Tensor | None:
        """Return a field of the steps taken, (T, N, ...); None if the rollout has none of this name."""
        known = name in self.set_names if name in EXTRAS else name in self.fields
        return self[name] if known else None

    def set_extras(self, extras: Mapping[str, Tensor]) -> None:
        """Set fields that are known after the last step, those of `EXTRAS`, (T, N) each.

        Raises:
            ValueError: one has another shape.
        """
        for name, value in extras.items():
            if value.shape[:2] != (self.length, self.rows):
                raise ValueError(f"{name}: got shape {tuple(value.shape)}, expected ({self.length}, {self.rows})")
            # The same memory in each rollout, because a captured graph reads it.
            self._place(name, value[0], self.length)[:self.length] = value
            self.set_names.add(name)

    def close(self, obs: Tensor, acts: Tensor, memory: Tensor | None = None) -> int:
        """End a rollout: store the episodes that ended in it, if a decomposition learns from them; return how many.

        Args:
            obs: after its last step, (N, ...).
            acts: as the environment got them, (T, N, ...).
            memory: of a recurrent policy then, (N, S).
        """
        self.last_obs, self.last_memory = obs, memory
        over = self["terminated"] | self["truncated"]
        if self.open_rows is None:
            return int(over.sum())
        steps = {name: self[name] for name in KEPT} | {"acts": acts}
        self.ended = self.open_rows.close(steps, over, self.get("active"))
        for one in self.ended:
            self.replay.store_episode(one.fields)
        return len(self.ended)

    def scaled(self, rews: Tensor, scale: Callable[..., tuple[Tensor, Tensor]], mask: Tensor | None = None) -> Tensor:
        """Return the rewards, (T, N), scaled by an `algorithm.reward_scale.RewardScale`, over the steps of `mask`."""
        if self.running is None:
            self.running = torch.zeros(self.rows, dtype=torch.float64, device=self.device)
        over = self["terminated"] | self["truncated"]
        scaled, self.running = scale(rews, over, self.running, mask)
        return scaled

    # Minibatches ----------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """The rows of the rollout."""
        return self.length * self.rows // self.sequence

    @property
    def rows_per_batch(self) -> int:
        """The rows of a minibatch, but for a shorter last one."""
        return max(self.batch_size // self.sequence, 1)

    @property
    def per_epoch(self) -> int:
        """The minibatches of a pass over the rollout."""
        return math.ceil(self.count / self.rows_per_batch)

    @property
    def updates(self) -> int:
        """The updates that are due on the rollout."""
        return self.config.n_epochs * self.per_epoch

    def begin(self, names: Sequence[str], sequence: int = 1, permutations: Tensor | None = None) -> None:
        """Begin the passes over the rollout.

        Args:
            names: the fields of a minibatch.
            sequence: steps of a row, a divisor of T; 1: rows are steps.
            permutations: the order of the rows in each epoch, (epochs, rows); drawn if None.
        """
        self.sampled, self.sequence = tuple(names), sequence
        if permutations is None:
            permutations = torch.stack([torch.randperm(self.count, generator=self.generator, device=self.device)
                                        for _ in range(self.config.n_epochs)])
        permutations = permutations.to(self.device).flatten()
        if len(self.order) == len(permutations):
            self.order.copy_(permutations)              # a captured graph reads this memory
        else:
            self.order = permutations.clone()
        self.cursor.zero_()
        self.drawn = 0

    def first_batch(self) -> Fields:
        """Return the first minibatch, without using it up."""
        return self.read(self.order[:min(self.rows_per_batch, self.count)])

    def sample(self) -> Fields:
        """Return the next minibatch: rows (B, ...), or sequences (L, B, ...) with the state before each, (B, S)."""
        size = self.rows_per_batch
        left = self.count - self.drawn % self.per_epoch * size
        index = self.order.index_select(0, self.cursor + torch.arange(min(size, left), device=self.device))
        self.cursor += len(index)
        self.drawn += 1
        return self.read(index)

    def read(self, index: Tensor) -> Fields:
        """Return the fields of these rows, (B,)."""
        if self.sequence == 1:
            return {name: self.fields[name].flatten(0, 1).index_select(0, index) for name in self.sampled}
        k, n = index // self.rows, index % self.rows
        return {name: self.fields[name][k * self.sequence, n] if name == "states" else self._sequences(self[name], k, n)
                for name in self.sampled}

    def _sequences(self, field: Tensor, k: Tensor, n: Tensor) -> Tensor:
        """(T, N, ...) -> the k-th sequences of the environments n, (L, B, ...)."""
        return field.unflatten(0, (-1, self.sequence))[k, :, n].transpose(0, 1)

    def iterate_minibatches(self, batch_size: int, names: Sequence[str]) -> Iterator[Fields]:
        """Yield the minibatches of one pass in a random order; the last one may be shorter."""
        order = torch.randperm(self.length * self.rows, generator=self.generator, device=self.device)
        self.sampled, self.sequence = tuple(names), 1
        yield from (self.read(index) for index in order.split(batch_size))

    def sequence_length(self) -> int:
        """Return the steps of a sequence: the greatest divisor of T that is at most `batch_size`."""
        return max(size for size in range(1, min(self.length, self.batch_size) + 1) if self.length % size == 0)

    @property
    def layout(self) -> tuple:
        """What, when it changes, makes another computation of `sample`."""
        places = tuple(self.fields[name].data_ptr() for name in self.sampled)
        return (self.length, self.rows, self.sequence, self.order.data_ptr(), *places)

    # The replay beside it -------------------------------------------------------------------------------------

    @property
    def bytes_needed(self) -> int:
        """What the rollout takes, roughly, and the replay."""
        step = 2 * math.prod(self.config.obs_dims) + 8
        return 4 * self.config.timesteps * step + self.replay.bytes_needed

    def store_episode(self, episode: Mapping[str, Any]) -> None:
        """Append a whole episode to the replay."""
        self.replay.store_episode(episode)

    def sample_fit(self, names: Iterable[str]) -> Fields:
        """Return a batch of these fields for a decomposition's loss, from its replay.

        Raises:
            ConfigError: the replay does not give one of them.
        """
        return self.replay.sample_fit(names)

    def note_errors(self, errors: Tensor) -> None:
        """Take how badly the model predicts the episodes that its replay drew last, (N,)."""
        self.replay.note_errors(errors)

    def returns_differ(self) -> bool:
        """Whether the episodes that the replay holds have different returns."""
        return self.replay.returns_differ()

    @property
    def storage(self) -> Any:
        """Where the replay keeps its steps."""
        return self.replay.storage

    @property
    def episodes(self) -> int:
        """The episodes that the replay holds."""
        return self.replay.episodes

    @property
    def episodes_stored(self) -> int:
        """The episodes that the replay has ever held."""
        return self.replay.episodes_stored

    @property
    def first_episode(self) -> int:
        """The number of the oldest episode that the replay holds."""
        return self.replay.first_episode

    @property
    def episode_bytes(self) -> int:
        """What one episode of the replay takes, at most."""
        return self.replay.episode_bytes

    def episode_fields(self) -> Fields:
        """Return what only the replay knows of an episode."""
        return self.replay.episode_fields()

    def held_episode(self, number: int) -> tuple[Tensor, float]:
        """Return the rows and the return of an episode that the replay holds."""
        return self.replay.held_episode(number)

    def read_episodes(self, first: int, end: int) -> Fields:
        """Return episodes of the replay, to be saved."""
        return self.replay.read_episodes(first, end)

    # Saving: of the rollout nothing, for it is used up ----------------------------------------------------------

    def numbers(self) -> dict[str, int]:
        """Return the counts."""
        return {"rollout_steps_stored": self.steps_stored, **self.replay.numbers()}

    def tensors(self) -> Fields:
        """Return the generator's state, and the replay's tensors."""
        own = {"rollout_generator": self.generator.get_state()}
        own |= {} if self.running is None else {"rollout_running": self.running}
        own |= {} if self.open_rows is None else self.open_rows.tensors()
        return own | self.replay.tensors()

    def restore(self, numbers: Mapping[str, int], tensors: Fields, episodes: Iterable[tuple[int, Fields]]) -> None:
        """Restore what `numbers`, `tensors` and `read_episodes` gave."""
        self.steps_stored = numbers["rollout_steps_stored"] + 0         # a TypeError unless it is a number
        self.generator.set_state(tensors["rollout_generator"])
        if "rollout_running" in tensors:
            self.running = tensors["rollout_running"].to(self.device)
        if self.open_rows is not None:
            self.open_rows.restore(tensors, self.device)
        self.replay.restore(numbers, tensors, episodes)
