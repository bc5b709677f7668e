"""From the outcome of an episode to a reward for each of its turns, as functions of arrays.

For agents whose dialogue or use of tools is judged once, at its end: a turn is a step, and its features are what is
known of it, such as the mean of a language model's last hidden states over the turn's tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box

from algorithm.create import create_decomposition_for_spaces
from algorithm.decomposition.rrd import RRD

OUTCOME = dict(likelihood="bernoulli", outcome_credit="probability", obs_normalization=True, fit_episodes=32)


class Turns(NamedTuple):
    """What `turn_rewards` returns.

    rewards: by how much each turn raises the predicted probability of success, (N, L) float32, 0 where the mask is.
    probability: of success after the last turn, (N,) float32.
    model: the model, with which another call continues.
    """

    rewards: np.ndarray
    probability: np.ndarray
    model: RRD


def turn_rewards(features: Any, outcomes: Any, mask: Any = None, *, updates: int = 500, model: RRD | None = None,
                 **settings: Any) -> Turns:
    """Fit a model of outcomes to episodes, and return the reward of each of their turns.

    A turn with features x_t adds f(x_t) to the log-odds of success: P(y = 1) = sigma(b + sum_t f(x_t)), fitted by
    cross-entropy. Its reward is sigma(b + f(x_1) + ... + f(x_t)) - sigma(b + f(x_1) + ... + f(x_{t-1})); those of an
    episode add up to the predicted probability of success less that of an episode without turns, sigma(b).

    Args:
        features: (N, L, D) floats, of N episodes of at most L turns.
        outcomes: (N,), 1 for success and 0 for failure, or a probability.
        mask: whether a turn belongs to its episode, bool (N, L), the turns first; None: all do.
        updates: steps of Adam, each on `fit_episodes` episodes; 0 only predicts.
        model: of an earlier call, which is trained on; a new one if None.
        settings: of a new model, such as `reward_hidden_sizes=(64,)`, `r_lr=1e-3`, `seed=1`, `device="cuda"`.
    Raises:
        ValueError: a shape is wrong, or an outcome is not in [0, 1].
        ConfigError: a setting is unknown or wrong.
    """
    features, outcomes, inside = checked(features, outcomes, mask)
    if model is None:
        model = create_decomposition_for_spaces(
            "rd", observation_space=Box(-np.inf, np.inf, features.shape[2:]), action_space=Box(-1, 1, (1,)),
            **OUTCOME | {"device": "cpu"} | settings)
    if updates:
        model.fit([episode_of(*one) for one in zip(features, outcomes, inside, strict=True)], updates)
    acts, rews = np.zeros((*inside.shape, 1), np.float32), np.zeros((*inside.shape, 1), np.float32)
    paid = model.redistribute({"obs": features, "obs_next": features, "acts": acts, "rews": rews}, inside)
    start = model.outcome.bias.detach().sigmoid()
    return Turns(paid.cpu().numpy(), (paid.sum(1) + start).cpu().numpy(), model)


def episode_of(features: np.ndarray, outcome: float, inside: np.ndarray) -> dict[str, np.ndarray]:
    """Return one episode as `Decomposition.fit` takes it: features (L, D) and a mask (L,) -> T turns, paid at the end.
    """
    obs = features[inside]
    rews = np.zeros((len(obs), 1), np.float32)
    rews[-1] = outcome
    return {"obs": obs, "obs_next": obs, "acts": np.zeros((len(obs), 1), np.float32), "rews": rews}


def checked(features: Any, outcomes: Any, mask: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (N, L, D) and outcomes (N,), float32, and the mask (N, L); a ValueError names a wrong one."""
    features, outcomes = (np.asarray(torch.as_tensor(value).detach().cpu().float()) for value in (features, outcomes))
    if features.ndim != 3:
        raise ValueError(f"features: got shape {features.shape}, expected (N, L, D)")
    if outcomes.shape != features.shape[:1]:
        raise ValueError(f"outcomes: got shape {outcomes.shape}, expected {features.shape[:1]}, one for each episode")
    if not ((outcomes >= 0) & (outcomes <= 1)).all():
        wrong = outcomes[~((outcomes >= 0) & (outcomes <= 1))][0]
        raise ValueError(f"outcomes: got {wrong:g}, expected numbers from 0, failure, to 1, success")
    inside = np.ones(features.shape[:2], bool) if mask is None else np.asarray(torch.as_tensor(mask).cpu()).astype(bool)
    if inside.shape != features.shape[:2]:
        raise ValueError(f"mask: got shape {inside.shape}, expected {features.shape[:2]}")
    if not inside[:, 0].all() or (inside[:, 1:] > inside[:, :-1]).any():
        raise ValueError("mask: got an episode without turns, or with a gap, expected the turns of each to come first")
    return features, outcomes, inside
