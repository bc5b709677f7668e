"""The memory of a replay: rows of vectors, or the single frames of images.

Both are rings in preallocated tensors on the agent's device, written an episode at a time, read by the row of a step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from algorithm.batch import Bytes, Spec, actions_spec, check_batch, transition_spec
from utils.settings.fields import Config

Episode = Mapping[str, np.ndarray | Tensor]
Fields = dict[str, Tensor]


def create_storage(config: Config, device: torch.device) -> VectorStorage | FrameStorage:
    """Create the storage for vectors or, if `obs_dims` has three numbers, for images."""
    return (FrameStorage if len(config.obs_dims) == 3 else VectorStorage)(config, device)


class VectorStorage:
    """One row [obs, acts, rews, done, obs_next] for each step: a whole transition, so that a batch is one gather."""

    def __init__(self, config: Config, device: torch.device):
        self.capacity, self.device, self.discrete = config.buffer_size, device, config.discrete
        self.first = 0                                  # of frames; vectors have none
        (obs_dim,), acts = config.obs_dims, actions_spec(config, "T")
        self.spec: Spec = transition_spec(config.obs_dims, acts, "T")
        self.widths = {"obs": obs_dim, "acts": 1 if self.discrete else config.acts_dims[0], "rews": 1, "done": 1,
                       "obs_next": obs_dim}

    @property
    def bytes_needed(self) -> int:
        return 4 * self.capacity * sum(self.widths.values())

    def allocate(self) -> None:
        self.rows = torch.empty(self.capacity, sum(self.widths.values()), device=self.device)

    def check(self, episode: Episode) -> Fields:
        """Return `obs`, `acts`, `rews`, `done`, `obs_next` as tensors (T, ...); a ValueError names a wrong field."""
        return check_batch(episode, self.spec, {}, self.device, "episode")

    def fits(self, length: int) -> bool:
        """Whether there is room for one more episode of `length` steps beside those in replay."""
        return True                                     # there is a row for each of the ring's steps

    def write(self, rows: Tensor, fields: Fields) -> None:
        self.rows[rows] = torch.cat([fields[name].float().reshape(len(rows), -1) for name in self.widths], dim=1)

    def forget(self, length: int) -> None:
        """Drop the oldest episode, of `length` steps."""

    def extra(self, name: str) -> int:
        """How many more entries than steps an episode has in a field."""
        return 0

    def read_episode(self, rows: Tensor) -> Fields:
        """Return the fields that were written at the rows of one episode."""
        return {name: value.contiguous() for name, value in self.read(rows).items()}

    def read(self, rows: Tensor) -> Fields:
        """Return the fields of the steps `rows`, (B,)."""
        return self.fields(self.rows.index_select(0, rows))

    def rewards(self, rows: Tensor) -> Tensor:
        """Return the rewards of the steps `rows`, of any shape, and nothing else."""
        return self.rows[rows, self.widths["obs"] + self.widths["acts"]]

    def set_reward(self, rows: Tensor, value: float) -> None:
        """Write the reward of the steps `rows`."""
        self.rows[rows, self.widths["obs"] + self.widths["acts"]] = value

    def fields(self, rows: Tensor) -> Fields:
        """(B, W) -> the named columns, views; discrete actions as indices (B,)."""
        found = dict(zip(self.widths, rows.split(list(self.widths.values()), dim=-1), strict=True))
        return found | ({"acts": found["acts"][:, 0].long()} if self.discrete else {})


class FrameStorage:
    """Each frame once, as uint8; stacks of C frames are made when they are read.

    An episode of T steps is T + C frames: the first stack's, then one a step. The ring has room for the `capacity`
    steps' frames and 1/72 more, for the first stacks; so a step of 84 x 84 takes under 7.2 kB, and where episodes are
    shorter than 72 C steps somewhat fewer steps fit.
    """

    def __init__(self, config: Config, device: torch.device):
        self.capacity, self.device = config.buffer_size, device
        self.height, self.width, self.stack = config.obs_dims
        self.size = self.capacity + max(math.ceil(self.capacity / 72), self.stack)
        self.first = self.held = 0                      # the oldest frame, and the number of frames
        acts, column = actions_spec(config, "T"), ("T", 1)
        self.spec: Spec = {"acts": acts, "rews": column, "done": column}
        self.frames_spec: Spec = {"frames": Bytes(("F", self.height, self.width))}
        self.stacks_spec: Spec = dict.fromkeys(("obs", "obs_next"), Bytes(("T", *config.obs_dims)))

    @property
    def bytes_needed(self) -> int:
        return self.size * self.height * self.width + self.capacity * (4 + 4 + 4 + 1)

    def allocate(self) -> None:
        self.frames = torch.empty(self.size, self.height * self.width, dtype=torch.uint8, device=self.device)
        self.frame_of = torch.empty(self.capacity, dtype=torch.int32, device=self.device)    # its stack's first frame
        self.acts = torch.empty(self.capacity, dtype=torch.int32, device=self.device)
        self.rews = torch.empty(self.capacity, 1, device=self.device)
        self.done = torch.empty(self.capacity, 1, dtype=torch.bool, device=self.device)

    def check(self, episode: Episode) -> Fields:
        """Return `frames` (T + C, H, W), `acts` (T,), `rews` and `done` (T, 1) as tensors.

        Instead of the frames there may be stacks, `obs` and `obs_next` (T, H, W, C), each of which is the one before
        it, moved on by one frame. Frames and stacks are uint8.

        Raises:
            ValueError: names the field that is wrong.
        """
        fields = check_batch(episode, self.spec, {}, self.device, "episode")
        if "frames" in episode:
            fields |= check_batch(episode, self.frames_spec, {}, self.device, "episode")
            length, frames = len(fields["rews"]), len(fields["frames"])
            if frames != length + self.stack:
                raise ValueError(f"episode['frames']: got {frames} frames, expected {length + self.stack}: the first "
                                 f"stack of {self.stack}, and one for each of {length} steps")
            return fields
        if "obs" not in episode:
            raise ValueError("episode['frames'], or stacks as 'obs' and 'obs_next': missing, expected frames "
                             f"(T + {self.stack}, {self.height}, {self.width})")
        stacks = check_batch(episode, self.stacks_spec | self.spec, {}, self.device, "episode")
        return fields | {"frames": self._unstack(stacks["obs"], stacks["obs_next"])}

    def _unstack(self, obs: Tensor, obs_next: Tensor) -> Tensor:
        frames = torch.cat([obs[0].permute(2, 0, 1), obs_next[..., -1]])                            # (T + C, H, W)
        restacked = frames.unfold(0, self.stack, 1)                                                 # (T + 1, H, W, C)
        for name, stacks, expected in (("obs", obs, restacked[:-1]), ("obs_next", obs_next, restacked[1:])):
            if not torch.equal(stacks, expected):
                raise ValueError(f"episode[{name!r}]: got a stack that does not continue the one before it, expected "
                                 "the one before it without its oldest frame, and one new frame")
        return frames

    def fits(self, length: int) -> bool:
        """Whether there is room for one more episode of `length` steps beside those in replay."""
        return self.held + length + self.stack <= self.size

    def write(self, rows: Tensor, fields: Fields) -> None:
        frames = fields["frames"]
        start = self.first + self.held
        self.frames[(start + torch.arange(len(frames), device=self.device)) % self.size] = frames.flatten(1)
        self.frame_of[rows] = ((start + torch.arange(len(rows), device=self.device)) % self.size).int()
        self.acts[rows], self.rews[rows], self.done[rows] = (
            fields["acts"].int(), fields["rews"], fields["done"].bool())
        self.held += len(frames)

    def forget(self, length: int) -> None:
        """Drop the oldest episode, of `length` steps."""
        self.first, self.held = (self.first + length + self.stack) % self.size, self.held - length - self.stack

    def extra(self, name: str) -> int:
        """How many more entries than steps an episode has in a field: the frames of the first stack."""
        return self.stack if name == "frames" else 0

    def read_episode(self, rows: Tensor) -> Fields:
        """Return the fields that were written at the rows of one episode."""
        frames = (int(self.frame_of[rows[0]]) + torch.arange(len(rows) + self.stack, device=self.device)) % self.size
        return {"frames": self.frames[frames].unflatten(1, (self.height, self.width)), "acts": self.acts[rows],
                "rews": self.rews[rows], "done": self.done[rows]}

    def read(self, rows: Tensor) -> Fields:
        """Return the fields of the steps `rows`, (B,); stacks are uint8 (B, H, W, C).

        `obs` and `obs_next` share the frames that they have in common, so writing into one changes the other.
        """
        frames = self._frames(self.frame_of[rows].long())                                           # (B, H, W, C + 1)
        return {"obs": frames[..., :-1], "acts": self.acts[rows].long(), "rews": self.rews[rows],
                "done": self.done[rows].float(), "obs_next": frames[..., 1:]}

    def rewards(self, rows: Tensor) -> Tensor:
        """Return the rewards of the steps `rows`, of any shape, and nothing else."""
        return self.rews[rows, 0]

    def set_reward(self, rows: Tensor, value: float) -> None:
        """Write the reward of the steps `rows`."""
        self.rews[rows, 0] = value

    def _frames(self, first: Tensor) -> Tensor:
        """(B,) the first frame of a step's stack -> the frames of both its stacks, (B, H, W, C + 1).

        A view of (B, C + 1, H, W), the layout that convolutions read.
        """
        index = (first[:, None] + torch.arange(self.stack + 1, device=self.device)) % self.size
        frames = self.frames.index_select(0, index.view(-1)).view(-1, self.stack + 1, self.height, self.width)
        return frames.permute(0, 2, 3, 1)
