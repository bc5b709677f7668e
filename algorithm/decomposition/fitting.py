"""Decompositions with no agent: a model learns from recorded episodes, and pays the steps of a data set anew."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from algorithm.batch import Array, check_batch, check_loss
from algorithm.decomposition.episodes import Episode, hold, observed_steps
from algorithm.decomposition.labels import BAG_RETURN, BAGS, check_no_bags, takes_bags
from algorithm.decomposition.scale import ReturnScale
from algorithm.decomposition.whole import LABEL_END

Info = dict[str, Tensor]
Report = Callable[[int, Info], Any]        # how many updates there were, and the metrics of the last one
LABELS = (LABEL_END, BAGS, BAG_RETURN)
MINARI = "adapters.offline"                             # the module that reads and writes Minari's data sets


def episodes_in(dataset: Any) -> Iterable[Episode]:
    """Return the episodes of a data set, as `store_episode` takes them; those of Minari are read one by one."""
    return importlib.import_module(MINARI).episodes_of(dataset) if is_minari(dataset) else dataset


def is_minari(dataset: Any) -> bool:
    """Whether a data set is one of Minari's."""
    return hasattr(dataset, "iterate_episodes")


def fit(model: Any, dataset: Any, updates: int, report: Report | None) -> dict[str, float]:
    """Train a model on the episodes of a data set; see `Decomposition.fit`."""
    held = [hold(episode) for episode in episodes_in(dataset)]
    if not held:
        raise ValueError("episodes: got none, expected at least one")
    for episode in held if not takes_bags(model.config.alg) else ():
        check_no_bags(episode, model.config.alg)
    model.observe(held)
    sums: dict[str, Tensor] = {}
    for number in range(updates if model.opts else 0):
        info = model.update(model.draw(held))
        for name, value in info.items():
            sums[name] = sums.get(name, 0.0) + value
        if report is not None:
            report(number + 1, info)
    return {name: float(value) / updates for name, value in sums.items()}


def burst(model: Any, replay: Any, updates: int, inspect: Callable[[Info], None] | None) -> Iterator[Info]:
    """Yield the metrics of each update of a burst: so many, none if the model is not ready, fewer once it is satisfied.
    """
    names = tuple(model.loss_spec())
    for _ in range(updates if model.ready(replay) else 0):
        yield model.update(replay.sample_fit(names), inspect)
        if model.episode_errors is not None:
            replay.note_errors(model.episode_errors)
        if model.satisfied():
            break


def step(model: Any, batch: Mapping[str, Array], inspect: Callable[[Info], None] | None) -> Info:
    """Take one step of a model's optimisers; see `Decomposition.update`."""
    checked = check_batch(batch, model.loss_spec(), {}, model.device)
    model.check(checked)
    if isinstance(scale := getattr(model, "scale", None), ReturnScale) and scale.counts:
        scale.count(checked["ep_return"])
    loss, info = check_loss(model, "loss", model.loss({name: model.prepare(name, value)
                                                       for name, value in checked.items()}))
    for opt in model.opts:
        opt.zero_grad(set_to_none=True)
    loss.backward()
    if inspect is not None:
        inspect(info)
    for opt in model.opts:
        opt.step()
    return {name: value.detach() for name, value in info.items()}


def relabel(model: Any, dataset: Any, out: str | None) -> Any:
    """Pay the steps of a data set; see `Decomposition.relabel`."""
    if is_minari(dataset):
        return importlib.import_module(MINARI).relabel(model, dataset, out)
    return relabelled(model, dataset)


def relabelled(model: Any, episodes: Iterable[Episode]) -> Iterator[dict[str, Array]]:
    """Yield the episodes with what the model pays as `rews`, (T, 1) float32; labels on intervals are gone."""
    for episode in episodes:
        rest: Mapping[str, Array] = {name: value for name, value in episode.items() if name not in LABELS}
        yield {**rest, "rews": model.redistribute(observed_steps(episode)).float().cpu().numpy()[:, None]}
