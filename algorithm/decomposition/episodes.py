"""Whole episodes as models of decompositions read them; an episode is a mapping as `store_episode` takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from algorithm.batch import Array
from algorithm.decomposition.labels import BAG_RETURN, BAGS, bags_of_ends, own_bags, summed
from algorithm.decomposition.whole import LABEL_END, bags_from, bags_of, label_ends, last_alone
from algorithm.draws import draw_steps, pad, variance_coefficient
from utils.settings.fields import Config

Episode = Mapping[str, Array]
STEP = ("obs", "acts", "obs_next")
FIELDS = (*STEP, "rews")


def observed_steps(episode: Episode) -> dict[str, Array]:
    """Return an episode with `obs` and `obs_next`; those of `frames` (T + C, H, W) are stacks (T, H, W, C), views."""
    if "frames" not in episode or "acts" not in episode:
        return dict(episode)
    frames = np.asarray(episode["frames"])
    stacks = np.lib.stride_tricks.sliding_window_view(frames, len(frames) - len(episode["acts"]), axis=0)
    rest = {name: value for name, value in episode.items() if name != "frames"}
    return rest | {"obs": stacks[:-1], "obs_next": stacks[1:]}


def hold(episode: Episode) -> dict[str, Array]:
    """Return the fields of one episode that a model learns from, raw; of those the labels may be missing.

    Raises:
        ValueError: a field is missing, or the fields do not have one entry for each step.
    """
    steps = observed_steps(episode)
    check_fields(steps, FIELDS)
    length = len(steps["acts"])
    labels = {LABEL_END: label_ends(steps[LABEL_END], length)} if LABEL_END in steps else {}
    if BAGS in steps:
        labels |= dict(zip((BAGS, BAG_RETURN), own_bags(steps, length), strict=True))
    return {name: steps[name] for name in FIELDS} | labels


def check_fields(steps: Episode, names: Sequence[str]) -> None:
    """Raise a ValueError if one of these fields is missing, or does not have as many entries as the actions."""
    for name in names:
        if name not in steps:
            raise ValueError(f"episode[{name!r}]: missing, expected it beside {', '.join(steps) or 'no fields'}")
    length = len(steps["acts"])
    for name in names:
        if len(steps[name]) != length or not length:
            raise ValueError(f"episode[{name!r}]: got {len(steps[name])} steps, expected {length or 'at least 1'}")


def inside(steps: Episode, mask: Tensor) -> dict[str, Array]:
    """Return the fields of N padded episodes with zeros where the mask (N, L) is False, on the mask's device.

    Raises:
        ValueError: a field (N, L, ...) and the mask differ in their first two sizes.
    """
    found = dict(steps)
    for name in (name for name in FIELDS if name in steps):
        value = torch.as_tensor(steps[name], device=mask.device)
        if mask.ndim != 2 or value.shape[:2] != mask.shape:
            raise ValueError(f"mask: got shape {tuple(mask.shape)}, expected (N, L), the first two sizes of {name} "
                             f"{tuple(value.shape)}")
        found[name] = value.masked_fill(~mask.view(*mask.shape, *[1] * (value.ndim - 2)), 0)
    return found


def one(value: Array) -> Array:
    """Return a field of one episode as that of N = 1 episodes."""
    return value[None] if isinstance(value, Tensor) else np.asarray(value)[None]


def length_of(episode: Episode) -> int:
    """Return T."""
    return len(episode["rews"])


def return_of(episode: Episode) -> float:
    """Return R, the sum of the rewards that the agent sees, added up in double precision."""
    rews = episode["rews"]
    return float(rews.double().sum()) if isinstance(rews, Tensor) else float(np.asarray(rews, np.float64).sum())


def draw_episodes(episodes: Sequence[Episode], count: int, generator: torch.Generator) -> list[Episode]:
    """Draw `count` episodes with replacement, each in proportion to its length."""
    ends = torch.tensor([length_of(episode) for episode in episodes]).cumsum(0)
    steps = (torch.rand(count, dtype=torch.float64, generator=generator) * ends[-1]).long()
    return [episodes[number] for number in torch.searchsorted(ends, steps, right=True).tolist()]


def steps_of(episode: Episode, steps: Tensor) -> dict[str, Tensor]:
    """Return `obs`, `acts` and `obs_next` of these steps (K,), each (K, ...), as they are."""
    chosen = {name: episode[name] for name in STEP}
    return {name: value[steps.to(value.device)] if isinstance(value, Tensor)
            else torch.from_numpy(np.ascontiguousarray(np.asarray(value)[steps.numpy()]))
            for name, value in chosen.items()}


def whole_episodes(episodes: Sequence[Episode]) -> dict[str, Tensor]:
    """Return N whole episodes in one batch, padded with zeros to the longest, L steps.

    Returns:
        `ep_obs`, `ep_obs_next` (N, L, O), `ep_acts` (N, L, A) or (N, L); `ep_inside` (N, L), 1 inside of an episode;
        `ep_return` and `ep_length` (N, 1); `ep_bags` (M, 3) and `ep_bag_return` (M, 1), see `bags_from`.
    """
    lengths = [length_of(episode) for episode in episodes]
    whole = [steps_of(episode, torch.arange(length)) for episode, length in zip(episodes, lengths, strict=True)]
    fields = {f"ep_{name}": pad([one[name] for one in whole]) for name in whole[0]}
    inside = pad([torch.ones(length) for length in lengths])
    return fields | labels_of(episodes, inside) | {
        "ep_inside": inside, "ep_return": torch.tensor([[return_of(episode)] for episode in episodes]),
        "ep_length": torch.tensor([[float(length)] for length in lengths])}


def labels_of(episodes: Sequence[Episode], inside: Tensor) -> dict[str, Tensor]:
    """Return `ep_bags` (M, 3) and `ep_bag_return` (M, 1) of N episodes; without `label_end` each is one bag.

    Args:
        inside: 1 inside of an episode, (N, L).
    """
    if any(BAGS in episode for episode in episodes):
        return own_labels_of(episodes)
    ends = pad([episode.get(LABEL_END, last_alone(length_of(episode))) for episode in episodes])
    bags = bags_from(ends, inside > 0, max(int(ends.sum(1).max()), 1))
    rews = pad([torch.as_tensor(episode["rews"]).double().reshape(-1) for episode in episodes])
    labels = bags_of({"ep_bags": bags, "ep_bag_return": torch.zeros(len(bags), 1)}).sums(rews)
    return {"ep_bags": bags, "ep_bag_return": labels.float()[:, None]}


def own_labels_of(episodes: Sequence[Episode]) -> dict[str, Tensor]:
    """Return `ep_bags` and `ep_bag_return` of N episodes of which some have `bags`; rows left over have no step."""
    found = []
    for episode in episodes:
        if BAGS in episode:
            found.append((episode[BAGS], episode[BAG_RETURN]))
        else:
            where = bags_of_ends(episode.get(LABEL_END, last_alone(length_of(episode))))
            found.append((where, summed(where, torch.as_tensor(episode["rews"]))))
    where, labels = (pad(some) for some in zip(*found, strict=True))                                # (N, M, 2), (N, M)
    number = torch.arange(len(where))[:, None, None].expand(*where.shape[:2], 1)
    return {"ep_bags": torch.cat([number, where], -1).flatten(0, 1), "ep_bag_return": labels.float().reshape(-1, 1)}


def draw_sequences(config: Config, episodes: Sequence[Episode], generator: torch.Generator) -> dict[str, Tensor]:
    """Draw N sub-sequences of K steps, as `SubsequenceReplay.sample` does from the episodes that it holds, and R."""
    size = config.rrd_sample_size
    chosen = draw_episodes(episodes, config.rrd_batch_size // size, generator)
    lengths = torch.tensor([length_of(episode) for episode in chosen])                              # (N,)
    steps = draw_steps(lengths, size, max(int(lengths.max()), size), generator, repeat=True)
    drawn = [steps_of(*pair) for pair in zip(chosen, steps, strict=True)]
    sequences = {f"rrd_{name}": torch.stack([one[name] for one in drawn]) for name in drawn[0]}
    returns = torch.tensor([return_of(episode) for episode in chosen], dtype=torch.float64)
    return sequences | {"ep_return": returns.float()[:, None], "rrd_rews": (returns / lengths).float()[:, None],
                        "rrd_var_coef": variance_coefficient(size, lengths).float()[:, None]}
