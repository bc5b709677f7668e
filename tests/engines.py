"""Agents and engines that are compared."""

from __future__ import annotations

import threading
from argparse import Namespace

import numpy as np

from algorithm import create_agent
from algorithm.replay_buffer import create_buffer


def build(alg="rrd", basis="sac", obs_dim=11, act_dim=3, lengths=(20, 7, 33), device="cpu", seed=3, batch_size=16,
          **settings):
    """An agent and its replay, with random episodes of these lengths; the same each time."""
    args = Namespace(alg=alg, basis_alg=basis, obs_dims=(obs_dim,), acts_dims=(act_dim,), device=device,
                     buffer_size=500, batch_size=batch_size, train_target=2, seed=seed, **settings)
    if alg == "rrd":
        args.rrd_batch_size, args.rrd_sample_size = 24, 8
    agent, buffer, random = create_agent(args), create_buffer(args), np.random.default_rng(0)
    for length in lengths:
        normal = lambda width, rows=length: random.standard_normal((rows, width)).astype(np.float32)  # noqa: E731
        buffer.store_episode({"obs": normal(obs_dim), "obs_next": normal(obs_dim), "rews": normal(1),
                              "acts": np.tanh(normal(act_dim)), "done": np.float32(random.random((length, 1)) < 0.1)})
    agent.normalizer_update(buffer.sample())
    return agent, buffer


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
