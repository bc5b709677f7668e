"""Replay of single transitions, uniform over steps; a ring of whole episodes, the base of every replay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from algorithm.decomposition.labels import check_no_bags
from algorithm.replay_buffer.storage import Fields, FrameStorage, VectorStorage, create_storage
from utils.errors import ConfigError
from utils.memory import available_bytes
from utils.seeding import stream_seed
from utils.settings.fields import Config
from utils.text import human_bytes
from utils.torch_state import methods_apart
from utils.torch_utils import resolve_device


@methods_apart("__init__", "store_episode", "sample", "draw", "episode_fields", "read_episodes", "restore")
class TransitionReplay:
    """A ring of steps; the oldest episodes are dropped whole.

    The rows of an episode follow each other (around the end of the ring, if necessary), and the episodes are in order
    of age. The storage defines what a row holds.

    All state that `sample` reads is on the device, and no decision on the host depends on its values. So a CUDA graph
    of `sample` stays valid while the ring fills and turns, as long as `layout` is the same.
    """

    def __init__(self, config: Config):
        self.capacity, self.batch_size, self.alg = config.buffer_size, config.batch_size, config.alg
        self._choose_device(config)
        self.generator = torch.Generator(self.device).manual_seed(stream_seed(config.seed, "replay"))
        self.storage.allocate()
        self.episode_of = torch.empty(self.capacity, dtype=torch.int32, device=self.device)     # row -> slot below
        self.starts, self.lengths = (torch.empty(self.capacity, dtype=torch.int32, device=self.device) for _ in "ab")
        self.returns = torch.empty(self.capacity, dtype=torch.float64, device=self.device)
        self.first_slot = self.episodes = 0         # the oldest episode's slot; the number of episodes in the ring
        self.first_row = self.steps = 0             # the oldest step's row; the number of steps in the ring
        self.steps_stored = self.episodes_stored = 0            # ever
        self.shortest, self.longest = self.capacity, 0          # episode, ever
        self.span = torch.zeros(2, dtype=torch.int64, device=self.device)           # first_row, steps

    def __len__(self) -> int:
        """The number of steps in the ring."""
        return self.steps

    @property
    def bytes_needed(self) -> int:
        """The memory of a full ring, at most (one-step episodes), and of what is kept beside it."""
        return self.bytes_beside + self.storage.bytes_needed + self.capacity * (4 + 4 + 4 + 8)

    @property
    def first_episode(self) -> int:
        """The number of the oldest episode in the ring, counted from the first one ever stored, 0."""
        return self.episodes_stored - self.episodes

    @property
    def episode_bytes(self) -> int:
        """The memory of one episode, at most."""
        return self.storage.bytes_needed * self.longest // self.capacity

    def _choose_device(self, config: Config) -> None:
        """Choose the device of the settings; by default the agent's, or the CPU if a GPU lacks the memory."""
        auto = config.buffer_device == "auto"
        self.device = resolve_device(config.device) if auto else resolve_device(config.buffer_device, "buffer_device")
        if self.device.type == "mps":                   # the returns are float64, which it lacks
            self.device = self._beside_mps(auto)
        self.storage = self.create_storage(config)
        available = available_bytes(self.device)
        if auto and self.device.type == "cuda" and available is not None and self.bytes_needed > available:
            self.device = torch.device("cpu")
            self.storage = self.create_storage(config)
        self._check_memory(config.test_timesteps)

    def create_storage(self, config: Config) -> VectorStorage | FrameStorage:
        """Create what holds the steps, on `self.device`."""
        return create_storage(config, self.device)

    @staticmethod
    def _beside_mps(auto: bool) -> torch.device:
        if not auto:
            raise ConfigError("buffer_device: got 'mps', which has no float64 for the returns; expected cpu or auto")
        return torch.device("cpu")

    @property
    def bytes_beside(self) -> int:
        """The memory that does not depend on the size of the ring."""
        return 0

    def _check_memory(self, longest: int) -> None:
        """Raise a ConfigError if the ring does not fit; it names a size that fits and holds `longest` steps."""
        available, beside = available_bytes(self.device), self.bytes_beside
        if available is None or self.bytes_needed <= available:
            return
        elsewhere = ", or --buffer_device=cpu" if self.device.type == "cuda" else ""
        fits = int(0.9 * self.capacity * (available - beside) / (self.bytes_needed - beside))
        advice = f"; --buffer_size={fits} would fit{elsewhere}" if fits >= longest else (
            f", too little for one episode of test_timesteps ({longest}); free some memory, choose another --device "
            "or --buffer_device, or lower --test_timesteps and --buffer_size")
        raise ConfigError(f"buffer_size: {self.capacity} steps need {human_bytes(self.bytes_needed)} on "
                          f"{self.device}, which has {human_bytes(available)} free{advice}")

    # Storing --------------------------------------------------------------------------------------------------

    def store_episode(self, episode: Mapping[str, np.ndarray | Tensor]) -> int:
        """Append one whole episode, in order; the oldest episodes are dropped to make room.

        Args:
            episode: `obs` (T, O), `acts` (T, A), `rews` (T, 1), `done` (T, 1), `obs_next` (T, O). `done` is 1 only
                where the task itself ended, not at a time limit. Discrete `acts` are indices (T,); for images see
                `FrameStorage.check`.
        Returns:
            the number of the episode, counted from the first one ever stored, 0.
        Raises:
            ValueError: a field is missing or misshapen, or the episode is longer than the buffer.
        """
        fields = self.check(episode)
        length = len(fields["rews"])
        if length > self.capacity:
            raise ValueError(f"episode: got {length} steps, expected at most buffer_size ({self.capacity})")
        while self.steps + length > self.capacity or not self.storage.fits(length):
            self._forget_oldest()
        self._append(fields, length, fields["rews"].double().sum())
        return self.episodes_stored - 1

    def check(self, episode: Mapping[str, np.ndarray | Tensor]) -> Fields:
        """Return the fields of an episode as tensors (T, ...); a ValueError names a wrong one."""
        check_no_bags(episode, self.alg)
        return self.storage.check(episode)

    def _append(self, fields: Fields, length: int, episode_return: Tensor) -> None:
        """Write the episode behind the newest one; there must be room."""
        slot = (self.first_slot + self.episodes) % self.capacity
        start = (self.first_row + self.steps) % self.capacity
        rows = (start + torch.arange(length, device=self.device)) % self.capacity
        self.storage.write(rows, fields)
        self.episode_of[rows] = slot
        self.starts[slot], self.lengths[slot] = start, length
        self.returns[slot] = episode_return
        self.episodes, self.steps = self.episodes + 1, self.steps + length
        self.steps_stored, self.episodes_stored = self.steps_stored + length, self.episodes_stored + 1
        self.shortest, self.longest = min(self.shortest, length), max(self.longest, length)
        self.span.copy_(torch.tensor([self.first_row, self.steps]))

    def episode_fields(self) -> Fields:
        """Return what only the replay knows and a decomposition reads with any episode (`Decomposition.of_replay`)."""
        return {}

    @property
    def newest_slot(self) -> int:
        return (self.first_slot + self.episodes - 1) % self.capacity

    @property
    def layout(self) -> tuple:
        """All values on the host that `sample` depends on; after a change it must be captured again."""
        return ()

    def _forget_oldest(self) -> None:
        length = int(self.lengths[self.first_slot])
        self.storage.forget(length)
        self.first_row, self.steps = (self.first_row + length) % self.capacity, self.steps - length
        self.first_slot, self.episodes = (self.first_slot + 1) % self.capacity, self.episodes - 1

    # Sampling -------------------------------------------------------------------------------------------------

    def sample(self, batch_size: int | None = None) -> Fields:
        """Draw a batch of transitions, uniform over the steps in the ring: `obs` (B, O), ..., `rews` and `done` (B, 1).

        Args:
            batch_size: B; None: that of the settings.
        Raises:
            ValueError: the buffer is empty or the size is not positive.
        """
        return self.storage.read(self.draw(batch_size))

    def sample_fit(self, names: Iterable[str]) -> Fields:
        """Return a batch of these fields for a decomposition's loss.

        Raises:
            ConfigError: the replay does not give one of them.
        """
        return self.chosen(self.sample(), names)

    def chosen(self, batch: Fields, names: Iterable[str]) -> Fields:
        """Return these fields of a batch; a ConfigError names one that is missing."""
        for name in (name for name in names if name not in batch):
            raise ConfigError(f"batch[{name!r}]: missing in what {type(self).__name__} gives, but the loss of "
                              f"{self.alg} reads it; expected replay= to name one that gives it")
        return {name: batch[name] for name in names}

    def draw(self, batch_size: int | None = None) -> Tensor:
        """Draw the rows of the steps of a batch, (B,), for `storage.read`."""
        return self._draw_rows(self._size(batch_size))

    def of_episode(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) rows of steps -> of their episodes, each (B,): return R, float64; length T; and the
        step's number t in it, 0 <= t < T.
        """
        slots = self.episode_of[rows].long()
        return self.returns[slots], self.lengths[slots], (rows - self.starts[slots]) % self.capacity

    def _size(self, batch_size: int | None) -> int:
        size = self.batch_size if batch_size is None else batch_size
        if not hasattr(size, "__index__") or size < 1:
            raise ValueError(f"batch_size: got {size!r}, expected an integer of at least 1")
        if not self.steps:
            raise ValueError("buffer: got no episode yet, expected at least one before sampling")
        return size

    def _draw_rows(self, size: int) -> Tensor:
        """Rows of steps drawn uniformly; their episodes are therefore drawn in proportion to length."""
        first_row, steps = self.span
        return (self._draw_below(steps, size) + first_row) % self.capacity

    def _draw_below(self, count: Tensor, size: int) -> Tensor:
        """Uniform integers in [0, count), (size,), for a count () on the device."""
        fractions = torch.rand(size, dtype=torch.float64, generator=self.generator, device=self.device)
        return (fractions * count).long()               # a double below 1 times n < 2^53 is rounded to less than n

    # Saving and restoring -------------------------------------------------------------------------------------

    def numbers(self) -> dict[str, int]:
        """Return the state of the replay without its episodes: where they are in the ring, and counts."""
        return {"steps_stored": self.steps_stored, "episodes_stored": self.episodes_stored, "steps": self.steps,
                "episodes": self.episodes, "first_row": self.first_row, "first_slot": self.first_slot,
                "first_frame": self.storage.first, "shortest": self.shortest, "longest": self.longest}

    def tensors(self) -> Fields:
        """Return the tensors of the state, such as that of the generator of the draws."""
        return {"generator": self.generator.get_state()}

    def read_episodes(self, first: int, end: int) -> Fields:
        """Return the steps of the episodes [first, end), counted from the first one ever, which must be in the ring.

        `lengths` (E,), `returns` (E,) float64, and the fields that the storage writes: `obs` (T1 + ... + TE, O), ...
        """
        slots = [(self.first_slot + number - self.first_episode) % self.capacity
                 for number in range(first, end)]
        episodes = [self.storage.read_episode(self._rows_of(slot)) for slot in slots]
        fields = {name: torch.cat([episode[name] for episode in episodes]) for name in episodes[0]}
        return fields | {"lengths": self.lengths[slots], "returns": self.returns[slots]}

    def held_episode(self, number: int) -> tuple[Tensor, float]:
        """Return the rows of the steps (T,), and the return, of an episode in the ring; 0 is the oldest."""
        slot = (self.first_slot + number) % self.capacity
        return self._rows_of(slot), float(self.returns[slot])

    def returns_differ(self) -> bool:
        """Whether the episodes in the ring have different returns."""
        returns = self.returns[[(self.first_slot + number) % self.capacity for number in range(self.episodes)]]
        return bool((returns != returns[:1]).any())

    def _rows_of(self, slot: int) -> Tensor:
        length = int(self.lengths[slot])
        return (int(self.starts[slot]) + torch.arange(length, device=self.device)) % self.capacity

    def restore(self, numbers: Mapping[str, int], tensors: Fields, episodes: Iterable[tuple[int, Fields]]) -> None:
        """Restore what `numbers`, `tensors` and `read_episodes` returned, in a new replay.

        Args:
            episodes: (number of the first, result of `read_episodes`), in order; those no longer in the ring are
                skipped.
        Raises:
            ValueError: they do not fit each other, or this replay.
        """
        self.first_row, self.first_slot = numbers["first_row"], numbers["first_slot"]
        self.storage.first = numbers["first_frame"]
        oldest = numbers["episodes_stored"] - numbers["episodes"]
        for first, fields in episodes:
            self._restore_episodes(fields, oldest - first)
        if (self.steps, self.episodes) != (numbers["steps"], numbers["episodes"]):
            raise ValueError(f"replay: got {self.steps} steps in {self.episodes} episodes, "
                             f"expected {numbers['steps']} in {numbers['episodes']}")
        for name in ("steps_stored", "episodes_stored", "shortest", "longest"):
            setattr(self, name, numbers[name])
        self.generator.set_state(tensors["generator"])

    def _restore_episodes(self, fields: Fields, skip: int) -> None:
        fields = dict(fields)
        lengths, returns = fields.pop("lengths").tolist(), fields.pop("returns")
        splits = {name: value.to(self.device).split([length + self.storage.extra(name) for length in lengths])
                  for name, value in fields.items()}
        for i, length in enumerate(lengths):
            if i < skip:
                continue
            if not 0 < length <= self.capacity - self.steps:
                raise ValueError(f"replay: got an episode of {length} steps, expected 1 to "
                             f"{self.capacity - self.steps}")
            self._append({name: parts[i] for name, parts in splits.items()}, length, returns[i])
