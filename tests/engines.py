"""Agents and engines that are compared."""

from __future__ import annotations

import contextlib
import threading
from argparse import Namespace
from collections.abc import Iterator
from unittest import mock

import numpy as np
import torch

from algorithm import batch, create_agent
from algorithm.replay_buffer import create_buffer
from utils import torch_state


def build(alg="rrd", basis="sac", obs_dim=11, act_dim=3, lengths=(20, 7, 33), device="cpu", seed=3, batch_size=16,
          **settings):
    """An agent and its replay, with random episodes of these lengths; the same each time."""
    args = Namespace(alg=alg, basis_alg=basis, obs_dims=(obs_dim,), acts_dims=(act_dim,), device=device,
                     buffer_size=500, batch_size=batch_size, train_target=2, seed=seed, **settings)
    if alg == "rrd":
        args.rrd_batch_size, args.rrd_sample_size = 24, 8
    agent, buffer, random = create_agent(args), build_buffer(args), np.random.default_rng(0)
    for length in lengths:
        normal = lambda width, rows=length: random.standard_normal((rows, width)).astype(np.float32)  # noqa: E731
        buffer.store_episode({"obs": normal(obs_dim), "obs_next": normal(obs_dim), "rews": normal(1),
                              "acts": np.tanh(normal(act_dim)), "done": np.float32(random.random((length, 1)) < 0.1)})
    agent.normalizer_update(buffer.sample())
    return agent, buffer


def build_buffer(args: Namespace):
    """The replay of `args`. It holds float32 under `float64` too; there its batches are widened."""
    if torch.float32 == torch_state.FLOAT:
        return create_buffer(args)
    with mock.patch.object(torch_state, "FLOAT", torch.float32):
        buffer = create_buffer(args)
    sample = buffer.sample
    buffer.sample = lambda *sizes: widened(sample(*sizes))
    return buffer


def widened(fields: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The fields of a batch, float32 as float64."""
    return {name: wide(value) for name, value in fields.items()}


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, float32 as float64; indices and bytes as they are."""
    return tensor.double() if tensor.is_floating_point() else tensor


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Agents, replays, engines and batches that are made here compute in float64.

    Adam divides by the size of a gradient. Where terms of a gradient cancel, its sign depends on rounding, and Adam
    turns it into a whole step: in float32 two correct programs differ by 1e-5 to 1e-1 of the way after nine updates,
    depending on the processor (`test_one_unit_in_the_last_place_moves_float32_apart`). In float64 they differ by 1e-12,
    a mistake of the mathematics by 1e-2 or more, and a bound of `SAME` between the two holds on every processor.
    oneDNN, which has no products of float64, is left out; other tests compare those.
    Every check of `algorithm.batch` makes its tensors with `to_tensor`, so one patch covers batches, steps and
    observations, in whatever module a check is called.
    """
    to_tensor = batch.to_tensor
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.object(batch, "to_tensor", lambda *args, **named: wide(to_tensor(*args, **named))), \
                mock.patch.object(torch_state, "FLOAT", torch.float64):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


SAME = 1e-9             # the largest `distance` of two states, and the relative one of two metrics, under `float64`


def distance(one: dict, other: dict, start: dict) -> float:
    """The distance of two states, relative to the way from the start, in the worst tensor that moved."""
    assert one.keys() == other.keys()
    ways = {name: float((other[name].double() - start[name].double()).norm()) for name in other}
    return max(float((one[name].double() - other[name].double()).norm()) / way for name, way in ways.items() if way > 0)


def copies(agent) -> dict:
    return {name: tensor.clone() for name, tensor in agent.state_dict().items()}


def in_threads(members, work) -> None:
    """work(i, member) of each member in a thread of its own; the first error is raised."""
    errors = []

    def run(i, member):
        try:
            work(i, member)
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(members)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
