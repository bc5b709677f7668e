"""A data set of Minari paid anew: read it, fit a decomposition, judge it on episodes held out, write a new data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapters.offline import check_out, episodes_of, load_dataset, spaces_of
from algorithm.create import create_decomposition_for_spaces
from algorithm.decomposition.diagnosis import Numbers, diagnose
from utils.errors import ConfigError
from utils.seeding import stream_seed
from utils.settings.algorithms import ALGORITHMS

EPISODES = 16               # of a batch offline, of methods that otherwise learn in each update of an agent
SHOWN = {"r2": "R2 of returns", "pearson_across": "correlation of returns",
         "pearson_within": "correlation of rewards of steps"}
Episode = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Order:
    """What `rrd relabel` is asked for."""

    dataset: str                        # the id of a local data set
    method: str                         # a decomposition
    out: str                            # the id of the new one
    updates: int = 2000
    holdout: float = 0.1                # share of the episodes
    settings: Mapping[str, Any] | None = None           # of the decomposition, `seed` and `device`


def relabel_dataset(order: Order, say: Callable[[str], Any], report: Callable[[int, Mapping[str, Any]], Any]) -> Any:
    """Fit, judge and relabel; return the new data set.

    Args:
        say: called with each line of the results.
        report: see `Decomposition.fit`.
    Raises:
        ConfigError: a data set, a setting or the method is wrong.
        NotFiniteError: an observation or a reward of the data set is not finite.
    """
    data = load_dataset(order.dataset)
    check_out(order.out)
    episodes = list(episodes_of(data))
    model = make_model(data, order, max(len(one["rews"]) for one in episodes))
    learned, held = split(episodes, order.holdout, model.config.seed)
    try:
        model.fit(learned, order.updates, report)
        say(judged(model, {"fitted": learned, "held out": held}))
        return model.relabel(data, order.out)
    except ConfigError:
        raise
    except ValueError as error:                         # such as a return that is no outcome
        raise ConfigError(str(error)) from None


def make_model(data: Any, order: Order, longest: int) -> Any:
    """Build the decomposition for the spaces of a data set, whose longest episode has so many steps."""
    observations, actions = spaces_of(data)
    defaults = ALGORITHMS[order.method].defaults if order.method in ALGORITHMS else {}
    many = {"fit_episodes": EPISODES} if defaults.get("fit_every") == 0 and "fit_episodes" in defaults else {}
    settings = {"test_timesteps": longest} | many | dict(order.settings or {})
    return create_decomposition_for_spaces(order.method, observation_space=observations, action_space=actions,
                                           **settings)


def split(episodes: Sequence[Episode], share: float, seed: int) -> tuple[list[Episode], list[Episode]]:
    """Return the episodes to learn from and those held out, at least one of each where a share is above 0.

    Raises:
        ConfigError: there are too few episodes.
    """
    count = 0 if share == 0 else min(max(round(share * len(episodes)), 1), len(episodes) - 1)
    if share and not count:
        raise ConfigError(f"holdout: got {share} of {len(episodes)} episode, expected two episodes at least, or "
                          "--holdout=0")
    order = np.random.default_rng(stream_seed(seed, "holdout")).permutation(len(episodes))
    return [episodes[i] for i in sorted(order[count:])], [episodes[i] for i in sorted(order[:count])]


def judged(model: Any, groups: Mapping[str, Sequence[Episode]]) -> str:
    """Return a table of how the payments compare with the rewards of the data set, by group of episodes.

    The rewards of steps are compared in episodes that pay more steps than the last one.
    """
    numbers = {name: compared(model, episodes) for name, episodes in groups.items() if episodes}
    head = f"{'':32}" + "".join(f"{f'{name} ({len(groups[name])})':>18}" for name in numbers)
    rows = [f"{text:32}" + "".join(f"{shown(found[name]):>18}" for found in numbers.values())
            for name, text in SHOWN.items()]
    return "\n".join([head, *rows])


def compared(model: Any, episodes: Sequence[Episode]) -> Numbers:
    """Return the numbers of a diagnosis of recorded episodes."""
    true = [np.asarray(one["rews"], np.float64)[:, 0] for one in episodes]
    found = diagnose([model.redistribute(one).double().cpu().numpy() for one in episodes], true, model.unit)
    dense = any(rews[:-1].any() for rews in true)
    return found if dense else found | {"pearson_within": None}


def shown(value: float | None) -> str:
    """Return a number of the table; a dash for one that is not defined."""
    return "-" if value is None else f"{value:.4f}"
