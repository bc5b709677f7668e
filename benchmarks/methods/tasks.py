"""Four tasks whose right credit is known, as episodes that are paid at the end; tests/reference/methods/sanity_*.npz.

A table of rewards (5 states, 2 actions), a chain of 13 places with coins, watches to be repaired, a key and a door.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent.parent.parent / "tests" / "reference" / "methods"
TASKS = ("tabular", "chain", "key_door", "watch_repair")
Episode = dict[str, np.ndarray]


def task_of(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a task."""
    with np.load(FOLDER / f"sanity_{name}.npz") as file:
        return dict(file)


def r2(found: np.ndarray, true: np.ndarray) -> float:
    """Return 1 - sum (true - found)^2 / sum (true - mean true)^2."""
    return 1 - float(np.square(found - true).sum() / np.square(true - true.mean()).sum())


def one_hot(numbers: np.ndarray, count: int) -> np.ndarray:
    """Return numbers below `count` as float32 vectors."""
    return np.eye(count, dtype=np.float32)[numbers]


def late(total: float, length: int) -> np.ndarray:
    """Return rewards (T, 1) that pay the return in the last step."""
    rews = np.zeros((length, 1), np.float32)
    rews[-1] = total
    return rews


def table(task: dict[str, np.ndarray]) -> list[Episode]:
    """Return the episodes of the table of rewards, whose next state says nothing."""
    found = []
    for states, actions, length, total in zip(task["states"], task["actions"], task["length"], task["return"],
                                              strict=True):
        obs = one_hot(states[:length], 5)
        found.append({"obs": obs, "obs_next": obs, "acts": one_hot(actions[:length], 2), "rews": late(total, length)})
    return found


def sequences(name: str, task: dict[str, np.ndarray] | None = None) -> list[Episode]:
    """Return the episodes of another task as a model of sequences sees them."""
    task = task_of(name) if task is None else task
    if name == "key_door":
        seen, acts = one_hot(np.pad(task["observations"], ((0, 0), (0, 1))), 3), task["actions"][..., None]
    elif name == "chain":
        seen, acts = one_hot(task["states"], 13), task["actions"][..., None]
    else:
        counts = np.cumsum(np.pad(task["events"], ((0, 0), (1, 0), (0, 0))), 1)
        length = counts.shape[1]
        fixed = np.concatenate([one_hot(task["brand"], 4), task["repaired"][:, None]], 1)[:, None].repeat(length, 1)
        time = np.tile(np.arange(length) / length, (len(fixed), 1))[..., None]
        seen, acts = np.concatenate([fixed, counts, time], 2), task["repaired"][:, None, None].repeat(length - 1, 1)
    seen, acts = np.float32(seen), np.float32(acts)
    return [{"obs": obs[:-1], "obs_next": obs[1:], "acts": one, "rews": late(total, len(one))}
            for obs, one, total in zip(seen, acts, task["return"], strict=True)]


def truth_of(name: str, task: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Return what the steps of each episode are worth, (T,): `reward` of the step alone, `credit` of predictions."""
    found = {} if name == "tabular" else {"credit": list(task["true/redistribution"])}
    if name == "tabular":
        found["reward"] = [task["true/reward_table"][states[:length], actions[:length]] for states, actions, length in
                           zip(task["states"], task["actions"], task["length"], strict=True)]
    elif name == "chain":
        found["reward"] = list(task["true/reward_table"][task["states"][:, :-1], task["actions"]])
    return found
