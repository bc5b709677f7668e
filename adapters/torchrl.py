"""Return decomposition as parts of TorchRL: transforms of its replay, a hook of its collectors, a late reward.

    decomposer = Decomposer("rrd", env)
    storage = LazyTensorStorage(100_000)
    replay = TensorDictReplayBuffer(storage=storage, transform=PaySampled(decomposer), batch_size=256)
    replay.extend(batch)                # shows the episodes to the model
    decomposer.update()                 # one step of the model's optimiser
    loss = sac(replay.sample())         # ("next", "reward") is the learned one

The environment pays the return of an episode at its end, or in any other way: only the sum is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs.transforms import Transform

from adapters.decomposer import EpisodeModel
from adapters.torchrl_episodes import Cutter, Form
from algorithm.create import create_decomposition
from algorithm.decomposition.base import Decomposition
from utils.errors import ConfigError

REWARD, CREDIT, PAID = ("next", "reward"), "credit", ("collector", "paid")
BASES = {True: "dqn", False: "sac"}         # whose defaults a decomposition takes, by whether actions are discrete


class Decomposer(EpisodeModel):
    """A decomposition beside TorchRL's agent, and the whole episodes that it learns from; see `EpisodeModel`.

    Attributes:
        form: the keys, and the scale of actions.
    """

    def __init__(self, model: str | Decomposition, env: Any, steps: int = 100_000, observation: str = "observation",
                 action: str = "action", **settings: Any):
        """
        Args:
            model: the name of a decomposition, such as "rrd", or one of `create_decomposition`.
            env: the TorchRL environment, whose specs say the sizes.
            steps: of whole episodes that are kept, at most.
            observation, action: the keys.
            settings: of the decomposition, if it is given by name, such as `rrd_sample_size=32` or `device="cuda"`.
        Raises:
            ConfigError: a setting is wrong, the specs do not fit, or the decomposition pays in another unit.
        """
        self.form = Form(env, observation, action)
        super().__init__(model if isinstance(model, Decomposition) else self._create(model, settings), steps)
        self.cutter = Cutter()

    def _create(self, name: str, settings: dict[str, Any]) -> Decomposition:
        form = self.form
        given = {"alg": name, "basis_alg": BASES[form.discrete], "obs_dims": form.obs_dims, "acts_dims": form.actions,
                 "device": "cpu", **settings}
        return create_decomposition(SimpleNamespace(**given))

    @property
    def learned(self) -> bool:
        """Whether the model has learned, or needs not to."""
        return self.ready and (self.updates > 0 or not self.model.opts)

    def observe(self, batch: TensorDictBase) -> list[tuple[TensorDictBase, Tensor]]:
        """Keep the episodes that end in a batch of a collector, [T] or [E, T]; return what `Cutter.add` does.

        Call it with each batch once, in order.
        """
        found = self.cutter.add(batch)
        for rows, _ in found:
            episode = self.form.episode(rows)
            if self.model.normalizer is not None:
                self.model.observe([{name: value.cpu() for name, value in episode.items()}])
            self.replay.store_episode(episode)
        return found

    def update(self, count: int = 1) -> dict[str, Tensor]:
        """Take so many steps of the model's optimisers; return the metrics of the last one, on the device.

        Nothing is done before an episode has ended.
        """
        return next(iter(deque(self.learn(count), maxlen=1)), {})

    @torch.no_grad()
    def rewards(self, rows: TensorDictBase) -> Tensor:
        """Return the learned rewards of rows of any shape, (*B, 1), of a Markov model; 0 before it has learned.

        Raises:
            ConfigError: the model is not Markov.
        """
        reward = rows.get(REWARD)
        if not self.learned:
            return torch.zeros_like(reward)
        return self.model.rewards(*self.form.steps(rows).values()).to(reward).view(reward.shape)

    @torch.no_grad()
    def credit(self, rows: TensorDictBase) -> Tensor:
        """Return what each step of one whole episode, (T,), is paid: (T, 1)."""
        return self.redistribute(self.form.episode(rows))[:, None].to(rows.get(REWARD))

    def state_dict(self) -> dict[str, Any]:
        """Return the model's weights, its optimisers' state, and the count of updates; the episodes are not in it."""
        return {"model": self.model.state_dict(), "opts": [opt.state_dict() for opt in self.model.opts],
                "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        for opt, own in zip(self.model.opts, state["opts"], strict=True):
            opt.load_state_dict(own)
        self.updates = state["updates"]


class PaySampled(Transform):
    """A transform of a replay: rows that are extended are shown to the model, and rows that are read are paid by it.

    Rows are paid anew whenever they are read, so payments are never old. The storage keeps the environment's rewards: a
    transform also runs on `replay[i:j]`, which is a view of it.
    """

    def __init__(self, decomposer: Decomposer):
        """
        Raises:
            ConfigError: the model pays whole episodes; `StoreCredit` is for those.
        """
        super().__init__()
        if not decomposer.model.markov:
            raise ConfigError(f"decomposer: got {decomposer.model.config.alg}, which pays a step by its whole episode; "
                              "expected StoreCredit(decomposer)")
        self.decomposer = decomposer

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        self.decomposer.observe(tensordict)
        return tensordict

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return the rows with learned rewards."""
        return paid(tensordict, self.decomposer.rewards(tensordict))


class StoreCredit(Transform):
    """A transform of a replay that keeps whole episodes alone, with what each step is paid in the key "credit".

    Extend the replay by the batches of the collector as they are, [T] or [E, T]: what it stores are the episodes that
    have ended in it, flat. Payments are those of the model when the episode ended; `pay_anew` renews them.
    """

    def __init__(self, decomposer: Decomposer):
        super().__init__()
        self.decomposer = decomposer

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase | None:
        """Return the whole episodes, None if there are none."""
        found = [rows for rows, _ in self.decomposer.observe(tensordict)]
        if not found:
            return None
        return torch.cat([rows.copy().set(CREDIT, self.decomposer.credit(rows)) for rows in found])

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return the rows with their credit as reward."""
        return paid(tensordict, tensordict.get(CREDIT))

    def pay_anew(self, replay: Any) -> int:
        """Pay the episodes in a replay by the model as it is now; return how many.

        Args:
            replay: a TorchRL replay with this transform, whose storage has one dimension.
        """
        rows, count = replay.storage.get(slice(None)), 0
        for span in episodes_in(rows, getattr(replay.writer, "_cursor", 0)):
            rows.get(CREDIT)[span] = self.decomposer.credit(rows[span])
            count += 1
        return count


class PayRollouts:
    """The `postproc` of a collector whose batches an on-policy loss learns from: fit, then pay, before any advantage.

    A Markov model pays all steps; another one those of the episodes that end in the batch. `("collector", "paid")`,
    (*B,), says which: learn from `batch[batch["collector", "paid"]]`, or let the collector give whole episodes.
    """

    def __init__(self, decomposer: Decomposer, updates: int):
        """updates: of the model before each batch is paid."""
        self.decomposer, self.updates = decomposer, updates

    def __call__(self, batch: TensorDictBase) -> TensorDictBase:
        """Return the batch, [T] or [E, T], with the rewards that the model pays."""
        decomposer, reward = self.decomposer, batch.get(REWARD)
        found = decomposer.observe(batch)
        decomposer.update(self.updates)
        done = torch.full(batch.batch_size, decomposer.learned and decomposer.model.markov, device=reward.device)
        if decomposer.model.markov:
            return paid(batch, decomposer.rewards(batch)).set(PAID, done)
        rewards = torch.zeros_like(reward)
        for rows, numbers in found if decomposer.learned else ():
            rewards.view(-1)[numbers] = decomposer.credit(rows)[-len(numbers):, 0]
            done.view(-1)[numbers] = True
        return paid(batch, rewards).set(PAID, done)


class LateReward(Transform):
    """A transform of an environment that pays the return of an episode at its end, and nothing before.

    It stands behind `RewardSum()`, whose "episode_reward" it reads.
    """

    def _call(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        if (reward := next_tensordict.get("reward", None)) is None:
            return next_tensordict
        late = torch.where(next_tensordict.get("done"), next_tensordict.get("episode_reward"), 0.0)
        return next_tensordict.set("reward", late.to(reward))


def paid(rows: TensorDictBase, rewards: Tensor) -> TensorDictBase:
    """Return rows with other rewards, (*B, 1); what is given, and a storage that it is a view of, stays as it is."""
    return rows.copy().set("next", rows.get("next").copy().set("reward", rewards))


def episodes_in(rows: TensorDictBase, cursor: int) -> Iterator[slice]:
    """Yield the whole episodes in the rows of a ring of whole episodes, (S,).

    Left out are the one that the writer has cut, and the one that goes on at the other end of the ring.

    Args:
        cursor: the row that is written next: behind it lie the oldest rows.
    """
    ends = rows.get(("next", "done")).reshape(-1).nonzero()[:, 0].tolist()
    starts = [0, *(end + 1 for end in ends)]
    wrapped = bool(ends) and ends[-1] < len(rows) - 1
    for start, end in list(zip(starts, ends, strict=False))[wrapped:]:
        if not start < cursor <= end:
            yield slice(start, end + 1)
