"""Data sets of Minari: their episodes as decompositions take them, and new data sets with learned rewards.

The reward of step t belongs to its action, as in Minari. Observations are flattened as in training, actions of a Box
scaled to [-1, 1], and those of Discrete counted from 0.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from adapters.flattening import flat_rows
from envs.spaces import flat_space, is_flattenable, is_image, unscaled
from utils.errors import ConfigError
from utils.finite import all_finite, check_observation, check_reward, is_finite
from utils.installed import pip_install
from utils.text import one_line

TOGETHER = 64               # episodes that are written at once
KEPT = ("author", "author_email", "algorithm_name", "code_permalink", "requirements")       # of a data set's metadata


# Reading ------------------------------------------------------------------------------------------------------------

def import_minari() -> Any:
    """Import Minari, which reads its files by h5py.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import h5py  # noqa: F401 (Minari imports it late)
        import minari
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; `{pip_install('minari')}` installs it") from None
    return minari


def load_dataset(name: str) -> Any:
    """Return the local data set of Minari with this id.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    minari = import_minari()
    if name not in minari.list_local_datasets():
        known = ", ".join(sorted(minari.list_local_datasets())[:10]) or "none is there"
        raise ConfigError(f"dataset: got {name!r}, expected the id of a local data set ({known}); "
                          "`minari download` fetches one")
    try:
        return minari.load_dataset(name)
    except (ValueError, OSError, KeyError) as error:
        raise ConfigError(f"dataset: {name!r} cannot be read: {one_line(error)}") from None


def spaces_of(dataset: Any) -> tuple[Any, Any]:
    """Return the spaces of observations and actions as agents see them: pictures, or vectors; see `episodes_of`.

    Raises:
        ConfigError: they have none of these forms.
    """
    observations, actions = dataset.observation_space, dataset.action_space
    if not is_image(observations):
        if not is_flattenable(observations):
            raise ConfigError(f"dataset: observes {observations}, expected a space that Gymnasium flattens")
        observations = flat_space(observations)
    if isinstance(actions, Discrete):
        return observations, Discrete(int(actions.n))
    if not isinstance(actions, Box) or len(actions.shape) != 1:
        raise ConfigError(f"dataset: acts in {actions}, expected Discrete, or a Box of one dimension")
    return observations, Box(-1.0, 1.0, actions.shape, np.float32)


def episodes_of(dataset: Any) -> Iterator[dict[str, np.ndarray]]:
    """Yield the episodes of a data set of Minari as `store_episode` takes them.

    Raises:
        NotFiniteError: an observation or a reward is not finite.
    """
    for recorded in dataset.iterate_episodes():
        yield episode_of(recorded, dataset.observation_space, dataset.action_space)


def episode_of(recorded: Any, observations: Any, actions: Any) -> dict[str, np.ndarray]:
    """Return `obs`, `obs_next` (T, ...), `acts` (T, ...), `rews` and `done` (T, 1) of one of Minari's episodes."""
    seen = np.asarray(recorded.observations) if is_image(observations) else flat_rows(
        observations, recorded.observations)                                                    # (T + 1, ...)
    rews = np.asarray(recorded.rewards, np.float64).reshape(-1)
    check_numbers(seen, rews, f"of episode {recorded.id}")
    return {"obs": seen[:-1], "obs_next": seen[1:], "acts": actions_of(recorded.actions, actions),
            "rews": rews[:, None].astype(np.float32),
            "done": np.asarray(recorded.terminations, np.float32).reshape(-1, 1)}


def check_numbers(seen: np.ndarray, rews: np.ndarray, where: str) -> None:
    """Raise NotFiniteError for an observation (T + 1, ...) or a reward (T,) that is not finite."""
    if not all_finite(seen):
        step = next(t for t, obs in enumerate(seen) if not all_finite(obs))
        check_observation(seen[step], f"at step {step} {where}")
    if not all_finite(rews):
        step = next(t for t, reward in enumerate(rews) if not is_finite(reward))
        check_reward(rews[step], f"at step {step + 1} {where}")


def actions_of(value: Any, space: Any) -> np.ndarray:
    """Return actions as agents give them: indices (T,), or (T, A) in [-1, 1]; of a Box without bounds as they are."""
    if isinstance(space, Discrete):
        return np.asarray(value, np.int64).reshape(-1) - int(space.start)
    value = np.asarray(value, np.float32)
    bounded = np.isfinite(space.low).all() and np.isfinite(space.high).all()
    return unscaled(value, space) if bounded else value


# Writing ------------------------------------------------------------------------------------------------------------

def relabel(model: Any, dataset: Any, out: str | None) -> Any:
    """Write a data set of Minari with the same episodes and what the model pays for their steps; return it.

    The last step keeps its flags; informations and seeds are copied, reference scores, which are of other rewards, are
    not. A data set that cannot be completed is removed.

    Args:
        out: the id of the new data set.
    Raises:
        ConfigError: `out` is missing, malformed, or the id of a data set that exists.
    """
    check_out(out)
    numbers, new = iter(range(dataset.total_episodes)), None
    try:
        while some := list(islice(numbers, TOGETHER)):
            buffers = buffers_of(model, dataset, some)
            if new is None:
                new = created(dataset, out, buffers, model)
            else:
                new.update_dataset_from_buffer(buffers)
    except BaseException:
        shutil.rmtree(folder_of(out), ignore_errors=True)
        raise
    return new


def check_out(out: str | None) -> None:
    """Raise a ConfigError unless a new data set can have this id."""
    import_minari()
    from minari.dataset.minari_dataset import parse_dataset_id
    try:
        parse_dataset_id(out or "")
    except (ValueError, TypeError):
        raise ConfigError(f"out: got {out!r}, expected the id of a new data set, such as pendulum/rd-v0") from None
    if folder_of(out).exists():
        raise ConfigError(f"out: got {out!r}, which exists already; expected the id of a new data set")


def folder_of(name: str) -> Path:
    """Return the folder of the local data set with this id."""
    from minari.storage.datasets_root_dir import get_dataset_path
    return Path(get_dataset_path(name))


def buffers_of(model: Any, dataset: Any, numbers: Sequence[int]) -> list[Any]:
    """Return these episodes of a data set, paid by the model, as Minari takes them."""
    from minari.data_collector.episode_buffer import EpisodeBuffer
    indices = [int(dataset.episode_indices[number]) for number in numbers]
    about = dataset.storage.get_episode_metadata(indices)
    return [EpisodeBuffer(seed=facts.get("seed"), options=facts.get("options"), observations=one.observations,
                          actions=one.actions, rewards=paid(model, dataset, one), terminations=one.terminations,
                          truncations=one.truncations, infos=one.infos or None)
            for one, facts in zip(dataset.iterate_episodes(indices), about, strict=True)]


def paid(model: Any, dataset: Any, recorded: Any) -> np.ndarray:
    """Return what the model pays for the steps of one of Minari's episodes, (T,) float64."""
    episode = episode_of(recorded, dataset.observation_space, dataset.action_space)
    return model.redistribute(episode).double().cpu().numpy()


def created(dataset: Any, out: str, buffers: Sequence[Any], model: Any) -> Any:
    """Create the new data set with its first episodes."""
    minari, about = import_minari(), dataset.storage.metadata
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                 # of what the metadata lack
        return minari.create_dataset_from_buffers(
            out, list(buffers), **environment_of(dataset), observation_space=dataset.observation_space,
            action_space=dataset.action_space, jpeg_encoding=dataset.storage.jpeg_encoding,
            data_format=about["data_format"], description=f"{dataset.id} with the rewards of {model.config.alg}",
            **{name: about[name] for name in KEPT if about.get(name)})


def environment_of(dataset: Any) -> Mapping[str, Any]:
    """Return the environment that the new data set names, if it can be made here."""
    import gymnasium as gym
    if dataset.env_spec is None:
        return {}
    try:
        gym.make(dataset.env_spec).close()
    except Exception:                                   # its package may be missing, and may raise anything
        return {}
    return {"env": dataset.env_spec}
