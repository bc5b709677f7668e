"""Agents of the TensorFlow reference, beside those of PyTorch, and batches for both."""

from __future__ import annotations

import functools
from argparse import Namespace

import numpy as np
import pytest
from agents import A, B, K, N, O, make_batch

from algorithm import create_agent

BASES = ("ddpg", "td3", "sac", "dqn")
PAIRS = [(alg or basis, basis if alg else None) for basis in BASES for alg in (None, "rrd", "ircr")]
IDS = [alg if basis is None else f"{alg}-{basis}" for alg, basis in PAIRS]
each_pair = pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=IDS)
IMAGE = (9, 12, 2)
CONTINUOUS = [("sac", None), ("td3", None), ("ddpg", None), ("rrd", "td3")]


def make(alg: str, basis: str | None = None, pytorch: bool = False, **settings):
    sizes = {"obs_dims": (O,), "acts_dims": (A,), "device": "cpu"}
    return create_agent(Namespace(**sizes | {"alg": alg, "basis_alg": basis, "use_pytorch": pytorch} | settings))


def make_both(alg: str, basis: str | None = None, **settings) -> tuple:
    """(PyTorch's, TensorFlow's)."""
    return make(alg, basis, pytorch=True, **settings), make(alg, basis, **settings)


def batch_for(agent, seed: int = 0, **changes) -> dict[str, np.ndarray]:
    """Arrays of all that the agent could read, the noise included."""
    batch = {name: value.numpy() for name, value in make_batch(seed).items()}
    if "dqn" in (agent.config.alg, agent.config.basis_alg):
        random = np.random.default_rng(seed)
        batch |= {"acts": random.integers(A, size=B), "rrd_acts": random.integers(A, size=(N, K))}
    if len(agent.obs_dims) == 3:
        random = np.random.default_rng(seed)
        batch |= {name: random.random((*value.shape[:-1], *agent.obs_dims), np.float32)
                  for name, value in batch.items() if name.endswith(("obs", "obs_next"))}
    return batch | changes


def everything(agent) -> dict[str, np.ndarray]:
    """All variables of a checkpoint."""
    return {name: variable.numpy() for name, variable in agent.all_variables().items()}


def assert_same(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def complaint(call, *args, **named) -> str:
    """The message of the ValueError that the call raises, which must be one line."""
    with pytest.raises(ValueError, match=r".") as caught:
        call(*args, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@functools.cache
def agents_to_refuse(alg: str, basis: str | None) -> tuple:
    """Both backends' agents; a refusal does not change them, so many tests share them."""
    return make_both(alg, basis, obs_normalization=True, **({"rrd_bias_correction": True} if alg == "rrd" else {}))
