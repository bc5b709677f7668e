"""Replay for decompositions of whole episodes: transitions, episodes with their labels, and what they are paid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from algorithm.decomposition.labels import BAGS, bags_of_ends, check_no_bags, own_bags, summed, takes_bags
from algorithm.decomposition.whole import LABEL_END, bags_from, bags_of, label_ends
from algorithm.payments import mean_reward
from algorithm.replay_buffer.bag_columns import NAMES, BagColumns, as_columns
from algorithm.replay_buffer.late_returns import LateReturns
from algorithm.replay_buffer.lessons import Lessons
from algorithm.replay_buffer.storage import Fields
from algorithm.replay_buffer.subsequence import SubsequenceReplay
from algorithm.replay_buffer.transition import TransitionReplay
from utils.settings.fields import Config
from utils.settings.resolve import check_reads

NEVER = -1                  # the version of an episode that no model has paid


def rd_replay(config: Config) -> TransitionReplay:
    """Create the replay that the `estimator` of RD draws from."""
    return (EpisodeReplay if config.estimator == "all" else SubsequenceReplay)(config)


def keeps_credit(config: Config) -> bool:
    """Whether the replay keeps what a model of whole episodes pays each step."""
    return config.credit_steps is not None and not config.on_policy and config.outcome_credit in (
        None, "probability", "residual")


class EpisodeReplay(LateReturns):
    """Adds N = fit_episodes whole episodes to a batch, if the model learns in each update.

    Labels end where `label_end` of an episode says; without it, where `reward_every` pays and at the episode's end.
    `bags` (M, 2) and `bag_return` (M, 1) of an episode are labels on any intervals instead, which may overlap.
    For models that pay whole episodes it keeps a column of payments, with the version of the model that made them: the
    mean reward of the episode until `set_credit` is called.
    """

    def __init__(self, config: Config):
        """Allocate the ring; see `TransitionReplay`."""
        check_reads(config, "fit_episodes")
        self.keeps_credit = keeps_credit(config)        # bytes_needed, which super() asks for, needs it
        super().__init__(config)
        self.count, self.joint, self.every = config.fit_episodes, not config.fit_every, config.reward_every
        self.label_end = torch.empty(self.capacity, dtype=torch.bool, device=self.device)
        self.labels = 1                                 # of an episode, at most, ever
        self.bags: BagColumns | None = None             # once an episode has brought `bags`
        size = config.lesson_size or 0
        self.lessons = Lessons(self.capacity, size, self.device) if size else None
        if self.keeps_credit:
            self.credit = torch.empty(self.capacity, device=self.device)
            self.versions = torch.empty(self.capacity, dtype=torch.int64)           # by slot, on the host

    @property
    def bytes_needed(self) -> int:
        """The memory of a full ring, with labels and payments."""
        return super().bytes_needed + self.capacity * (1 + (4 + 8) * self.keeps_credit)

    # Storing --------------------------------------------------------------------------------------------------

    def check(self, episode: Mapping[str, np.ndarray | Tensor]) -> Fields:
        """Return the fields as `TransitionReplay.check` does, and `label_end` (T,).

        Raises:
            ValueError: a field is missing or misshapen.
        """
        own = BAGS in episode
        if own and not takes_bags(self.alg):
            check_no_bags(episode, self.alg)
        fields = super().check({name: value for name, value in episode.items() if name != BAGS})
        length = len(fields["rews"])
        if own:
            fields |= as_columns(*own_bags(episode, length), length)
        if LABEL_END in episode:
            return fields | {LABEL_END: label_ends(episode[LABEL_END], length).to(self.device)}
        after = torch.arange(1, length + 1, device=self.device)
        every = length if own else self.every or length
        return fields | {LABEL_END: (after == length) | (after % every == 0)}

    def _append(self, fields: Fields, length: int, episode_return: Tensor) -> None:
        super()._append(fields, length, episode_return)
        slot = self.newest_slot
        rows = self._rows_of(slot)
        self.label_end[rows] = fields[LABEL_END]
        self.labels = max(self.labels, int(fields[LABEL_END].sum()))
        self._append_bags(fields, slot)
        if self.lessons is not None:
            self.lessons.add(slot)
        if self.keeps_credit:
            self._pay_mean(slot)

    def _append_bags(self, fields: Fields, slot: int) -> None:
        """Write the bags of an episode, if it or another one has brought any."""
        if NAMES[0] in fields:
            if self.bags is None:
                self.bags = BagColumns(self.capacity, self.device)
                for other in self._held():
                    self._write_ends(other)
            self.bags.write(self._rows_of(slot), fields)
            self.labels = max(self.labels, int((fields["bag_end"] > fields["bag_first"]).sum()))
        elif self.bags is not None:
            self._write_ends(slot)

    def _write_ends(self, slot: int) -> None:
        """Write the labels that `label_end` marks as bags."""
        rows = self._rows_of(slot)
        where = bags_of_ends(self.label_end[rows])
        self.bags.write(rows, as_columns(where, summed(where, self.storage.rewards(rows)), len(rows)))

    def _pay_mean(self, slot: int) -> None:
        """Pay the steps of an episode its mean reward, until a model pays them."""
        self.credit[self._rows_of(slot)] = mean_reward(self.returns[slot], self.lengths[slot]).float()
        self.versions[slot] = NEVER

    def _settle(self, slot: int, value: float) -> None:
        super()._settle(slot, value)
        if self.bags is not None:
            self._write_ends(slot)
        if self.keeps_credit:
            self._pay_mean(slot)

    # Sampling -------------------------------------------------------------------------------------------------

    def sample(self, batch_size: int | None = None) -> Fields:
        """Draw transitions as `TransitionReplay.sample` does, and for a model that learns jointly whole episodes.

        With payments, `rews` (B, 1) are those of the steps.
        """
        rows = self._draw_known(self._size(batch_size)) if self.keeps_credit else self.draw(batch_size)
        batch = self.storage.read(rows)
        if self.keeps_credit:
            batch |= {"rews": self.credit[rows][:, None]}
        return batch | (self.sample_episodes() if self.joint else {})

    def sample_fit(self, names: Iterable[str]) -> Fields:
        """Return a batch of these fields for a decomposition's loss; transitions have the environment's rewards."""
        return self.chosen(self.storage.read(self.draw()) | self.sample_episodes(), names)

    def sample_episodes(self) -> Fields:
        """Draw N whole episodes in proportion to their length, or to what they teach; see `lesson_size`.

        `ep_obs`, `ep_obs_next` (N, L, O), `ep_acts`, the last step again beyond an end; `ep_inside` (N, L), 1 inside;
        `ep_return`, `ep_length` (N, 1); `ep_bags` (M, 3), (episode, first step, end) of each label, and
        `ep_bag_return` (M, 1). L is a power of two, so that the shapes seldom change; rows of M may have no step.
        """
        slots = self.episode_of[self._draw_known(self.count)].long() if self.lessons is None else self._draw_lessons()
        starts, lengths = self.starts[slots, None], self.lengths[slots, None]                       # (N, 1)
        step = torch.arange(self._width, device=self.device)
        inside = step < lengths                                                                     # (N, L)
        rows = (starts + torch.minimum(step, lengths - 1)) % self.capacity
        read = self.storage.read(rows.reshape(-1))
        whole = {f"ep_{name}": read[name].unflatten(0, rows.shape) for name in ("obs", "acts", "obs_next")}
        return whole | {"ep_inside": inside.float(), "ep_return": self.returns[slots].float()[:, None],
                        "ep_length": lengths.float(), **self._labels_of(rows, inside)}

    def _draw_lessons(self) -> Tensor:
        """Draw slots by the errors and the returns of their episodes, (N,)."""
        self._size(1)                                   # raises where there is no episode
        slots = self._slots_with_returns().to(self.device)
        fractions = torch.rand(self.count, dtype=torch.float64, generator=self.generator, device=self.device)
        return self.lessons.draw(slots, self.returns[slots], fractions)

    def note_errors(self, errors: Tensor) -> None:
        """Take how badly the model predicts the episodes that were drawn last, (N,)."""
        if self.lessons is not None:
            self.lessons.note(errors)

    def _slots_with_returns(self) -> Tensor:
        """Return the slots of the episodes whose returns are known, the oldest first."""
        slots = (self.first_slot + torch.arange(self.episodes)) % self.capacity
        if not self.awaited:
            return slots
        return slots[[self.first_episode + i not in self.awaited for i in range(self.episodes)]]

    def _labels_of(self, rows: Tensor, inside: Tensor) -> Fields:
        """Return `ep_bags` and `ep_bag_return` of the rows of N episodes, (N, L)."""
        if self.bags is not None:
            return self.bags.of_batch(rows, inside, self._most_labels)
        bags = bags_from(self.label_end[rows], inside, self._most_labels)
        blank = {"ep_bags": bags, "ep_bag_return": torch.zeros(len(bags), 1)}
        paid = bags_of(blank).sums(self.storage.rewards(rows).double())
        return {"ep_bags": bags, "ep_bag_return": paid.float()[:, None]}

    @property
    def layout(self) -> tuple:
        """The sizes of a batch."""
        return (*super().layout, self._width, self._most_labels, self.bags is not None)

    @property
    def _width(self) -> int:
        """Return a power of two that no episode exceeds: it seldom changes."""
        return 1 << (max(self.longest, 1) - 1).bit_length()

    @property
    def _most_labels(self) -> int:
        return 1 << (self.labels - 1).bit_length()

    # Payments -------------------------------------------------------------------------------------------------

    def due(self, version: int, budget: int) -> list[int]:
        """Return the slots of the episodes that a model of this version is to pay.

        All that no model has paid; then, by the age of their payments, others of at most `budget` steps in all.
        """
        slots = self._slots_with_returns()
        order = slots[self.versions[slots].argsort(stable=True)]
        versions, lengths = self.versions[order], self.lengths[order.to(self.device)].cpu().long()
        old = (versions != NEVER) & (versions < version)
        within = torch.where(old, lengths, 0).cumsum(0) <= budget
        return order[(versions == NEVER) | (old & within)].tolist()

    def episode_at(self, slot: int) -> Fields:
        """Return an episode as `store_episode` takes it."""
        return self.storage.read_episode(self._rows_of(slot))

    def set_credit(self, slot: int, paid: Tensor, version: int) -> None:
        """Pay the steps of an episode, (T,), by a model of this version."""
        self.credit[self._rows_of(slot)] = paid.to(self.device, torch.float32)
        self.versions[slot] = version

    # Saving and restoring -------------------------------------------------------------------------------------

    def read_episodes(self, first: int, end: int) -> Fields:
        """Return the steps of episodes with their labels; see `TransitionReplay.read_episodes`."""
        rows = [self._rows_of(self._slot_of(number)) for number in range(first, end)]
        bags = {} if self.bags is None else self.bags.of_episode(torch.cat(rows))
        return super().read_episodes(first, end) | {LABEL_END: self.label_end[torch.cat(rows)]} | bags

    def numbers(self) -> dict[str, int]:
        """Return the counts, with the most labels of an episode."""
        return super().numbers() | {"labels": self.labels}

    def tensors(self) -> Fields:
        """Return the state with the payments, which change after they are stored: in the order of the episodes."""
        slots = list(self._held())
        errors = {} if self.lessons is None else {"lesson_errors": self.lessons.errors[slots]}
        if not self.keeps_credit:
            return super().tensors() | errors
        paid = [self.credit[self._rows_of(slot)] for slot in slots]
        return super().tensors() | errors | {"credit": torch.cat([self.credit[:0], *paid]),
                                             "versions": self.versions[slots]}

    def _held(self) -> Iterator[int]:
        """Yield the slots of the episodes held, the oldest first."""
        return ((self.first_slot + number) % self.capacity for number in range(self.episodes))

    def restore(self, numbers: Mapping[str, int], tensors: Fields, episodes: Iterable[tuple[int, Fields]]) -> None:
        """Restore the state; see `TransitionReplay.restore`."""
        super().restore(numbers, tensors, episodes)
        self.labels = numbers["labels"]
        if self.lessons is not None:
            self.lessons.errors[list(self._held())] = tensors["lesson_errors"].to(self.device)
        if self.keeps_credit:
            self.versions[list(self._held())] = tensors["versions"].cpu()
            self.credit[(self.first_row + torch.arange(self.steps, device=self.device)) % self.capacity] = \
                tensors["credit"].to(self.device)
