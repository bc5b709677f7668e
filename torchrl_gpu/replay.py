"""The package's replays over TorchRL's: which rows are drawn, and by what priority, is decided here; rows lie there.

`replay.buffer` is a `TensorDictReplayBuffer` whose memory is a `LazyTensorStorage` on the device. An episode is written
when it is over, so a window of n steps never leaves the episode of one robot. Keys: `observation`, `action`, `index`,
and below `next` `observation`, `reward`, `done` and `terminated`; from a prioritised replay also `weight` and
`discount`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.data.replay_buffers import Storage
from torchrl.data.replay_buffers.samplers import Sampler
from torchrl.envs.transforms import Transform

from algorithm.registry import load_replay_class
from algorithm.replay_buffer.prioritized import PrioritizedReplay
from algorithm.replay_buffer.storage import Fields, VectorStorage
from algorithm.replay_buffer.transition import TransitionReplay
from utils.errors import ConfigError
from utils.settings.fields import Config

# Fields of a batch here -> keys there.
KEYS: dict[str, Any] = {"obs": "observation", "acts": "action", "rews": ("next", "reward"),
                        "done": ("next", "terminated"), "obs_next": ("next", "observation")}
CHUNK = 65_536                  # rows that are written at once where a ring is filled
MORE = {"discount": "discount", "weight": "weight", "rows": "index"}        # of a prioritised replay


def create_torchrl_buffer(config: Config) -> TorchRLReplay:
    """Create the replay of an agent, from resolved settings with sizes.

    Raises:
        ConfigError: its algorithm needs another kind of replay.
    """
    kinds = {TransitionReplay: TorchRLReplay, PrioritizedReplay: PrioritizedTorchRLReplay}
    kind = kinds.get(load_replay_class(config.alg))
    if kind is None or len(config.obs_dims) != 1:
        raise ConfigError(f"alg: got {config.alg!r}, expected one that learns from single steps of vectors, such as "
                          "ac_iqn or rainbow; adapters/torchrl.py pays TorchRL's own replay by a decomposition")
    return kind(config)


class TensorDictStorage(VectorStorage):
    """The rows of a replay in TorchRL's; see `VectorStorage`."""

    def __init__(self, config: Config, device: torch.device, replay: TorchRLReplay):
        """replay: draws the rows."""
        super().__init__(config, device)
        self.batch_size, self.replay = config.batch_size, replay

    @property
    def bytes_needed(self) -> int:
        return self.capacity * (4 * sum(self.widths.values()) + 8 + 1)         # `index` and `done`

    def allocate(self) -> None:
        """Make the buffer, whose memory TorchRL allocates when the first episode is stored."""
        self.buffer = TensorDictReplayBuffer(
            storage=LazyTensorStorage(self.capacity, device=self.device), sampler=ReplaySampler(self.replay),
            batch_size=self.batch_size, transform=self.replay.transform())

    def write(self, rows: Tensor, fields: Fields) -> None:
        """Append the rows of an episode: those are the next ones of TorchRL's writer."""
        self.replay.storing = True
        try:
            self.buffer.extend(as_tensordict(fields))
        finally:
            self.replay.storing = False

    def fill(self) -> None:
        """Write zeros into all rows: TorchRL reads only those that it has counted from the first one on."""
        blank = {name: torch.zeros(CHUNK, width, device=self.device) for name, width in self.widths.items()}
        rows = as_tensordict(blank | ({"acts": blank["acts"].long()} if self.discrete else {}))
        for first in range(0, self.capacity, CHUNK):
            index = torch.arange(first, min(first + CHUNK, self.capacity), device=self.device)
            self.buffer.storage.set(index, rows[:len(index)].clone().set("index", index))

    def read(self, rows: Tensor) -> Fields:
        return fields_of(self.buffer.storage.get(rows), self.discrete)

    def rewards(self, rows: Tensor) -> Tensor:
        return self.buffer.storage.get(slice(None)).get(KEYS["rews"])[rows, 0]


class TorchRLReplay(TransitionReplay):
    """Single steps, drawn uniformly; `sample` is that of TorchRL's buffer."""

    storing = False                         # whether the buffer is being written by `store_episode`

    def create_storage(self, config: Config) -> TensorDictStorage:
        return TensorDictStorage(config, self.device, self)

    @property
    def buffer(self) -> TensorDictReplayBuffer:
        """TorchRL's replay."""
        return self.storage.buffer

    def transform(self) -> Transform | None:
        """Return what TorchRL applies to the rows that were drawn."""
        return None

    def drawn(self, batch_size: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw the rows of a batch, (B,), and what TorchRL adds to them by name."""
        return self.draw(batch_size), {}

    def sample(self, batch_size: int | None = None) -> Fields:
        """Draw a batch through TorchRL's buffer; see `TransitionReplay.sample`."""
        size = self._size(batch_size)
        if size == self.batch_size:
            return fields_of(self.buffer.sample(), self.storage.discrete)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")                 # of another size than the buffer was made with
            return fields_of(self.buffer.sample(size), self.storage.discrete)

    def restore(self, numbers: Mapping[str, int], tensors: Fields, episodes: Iterable[tuple[int, Fields]]) -> None:
        """Restore a saved state; the writer continues behind the restored rows. See `TransitionReplay.restore`."""
        if numbers["first_row"]:
            self.storage.fill()
        self.buffer.writer.load_state_dict({"_cursor": numbers["first_row"]})
        super().restore(numbers, tensors, episodes)


class PrioritizedTorchRLReplay(TorchRLReplay, PrioritizedReplay):
    """Windows of n steps, drawn by their priority; see `PrioritizedReplay`."""

    def transform(self) -> Transform:
        return NStep(self)

    def drawn(self, batch_size: int) -> tuple[Tensor, dict[str, Tensor]]:
        rows, weights = self.draw_weighted(batch_size)
        return rows, {"weight": weights[:, None]}


class ReplaySampler(Sampler):
    """Draws the rows of TorchRL's buffer as one of the replays above does."""

    def __init__(self, replay: TorchRLReplay):
        self.replay = replay

    def sample(self, storage: Storage, batch_size: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return rows (B,), and information by name."""
        return self.replay.drawn(batch_size)

    def extend(self, index: Tensor) -> None:
        """Refuse rows that are no whole episode of `store_episode`, whose ends the replay would not know."""
        if not self.replay.storing:
            raise ConfigError("extend: got rows by TorchRL's buffer, expected store_episode(episode) of its replay")

    add = extend

    def update_priority(self, index: Tensor, priority: Tensor, *, storage: Storage | None = None) -> None:
        """Set the priorities of rows by the losses of their transitions, (B,)."""
        self.replay.feed_back(index, priority)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: `numbers` and `tensors` of the replay are its state."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing, see `state_dict`."""

    def _empty(self) -> None:
        raise ConfigError("empty: not possible in a replay of episodes; expected a new one")

    def dumps(self, path: Any) -> None:
        """Write nothing, see `state_dict`."""

    def loads(self, path: Any) -> None:
        """Read nothing, see `state_dict`."""


class NStep(Transform):
    """Puts the return of the n steps from a row on in place of its reward, and their end in place of the next state.

    Nothing is written into what it is given, which may be a view of the storage.
    """

    def __init__(self, replay: PrioritizedReplay):
        """replay: knows where episodes end."""
        super().__init__()
        self.replay = replay

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return sampled rows with `next` at the end of their windows, and `discount`, (B, 1)."""
        found = self.replay.window_ends(tensordict.get("index"))
        after = tensordict.get("next").copy()
        for name, value in (("rews", found["rews"]), ("done", found["done"].bool()), ("obs_next", found["obs_next"])):
            after.set(KEYS[name][1], value)
        return tensordict.copy().update({"next": after, "discount": found["discount"]})


def as_tensordict(fields: Fields) -> TensorDict:
    """Return the fields of one whole episode, (T, ...), by TorchRL's keys."""
    length, device = len(fields["rews"]), fields["rews"].device
    terminated = fields["done"].bool()
    last = (torch.arange(length, device=device) == length - 1)[:, None]
    acts = fields["acts"] if fields["acts"].ndim > 1 else fields["acts"][:, None]
    after = {"observation": fields["obs_next"], "reward": fields["rews"], "terminated": terminated,
             "done": terminated | last}
    return TensorDict({"observation": fields["obs"], "action": acts, "next": TensorDict(after, [length])}, [length],
                      device=device)


def fields_of(rows: TensorDictBase, discrete: bool) -> Fields:
    """Return rows, (B,), as the batch of an agent."""
    found = {name: rows.get(key) for name, key in KEYS.items()}
    found |= {"done": found["done"].float()} | ({"acts": found["acts"][:, 0]} if discrete else {})
    return found | {name: rows.get(key) for name, key in MORE.items() if "weight" in rows.keys()}  # noqa: SIM118
