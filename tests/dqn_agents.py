"""DQN, and RRD and IRCR over it: small agents, and batches for them."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch
from agents import B, K, N, O

from algorithm import create_agent

A = 3
IMAGE = (12, 9, 2)
OVER = [("dqn", None), ("rrd", "dqn"), ("ircr", "dqn")]
OVER_IDS = ["dqn", "rrd-dqn", "ircr-dqn"]
each_agent = pytest.mark.parametrize(("alg", "basis"), OVER, ids=OVER_IDS)
each_kind = pytest.mark.parametrize("dims", [(O,), IMAGE], ids=["vectors", "images"])


def make(alg: str = "dqn", basis: str | None = None, **settings):
    sizes = {"obs_dims": (O,), "acts_dims": (A,), "device": "cpu"}
    return create_agent(Namespace(**sizes | {"alg": alg, "basis_alg": basis} | settings))


def make_batch(seed: int = 0, dims: tuple[int, ...] = (O,), **changes) -> dict[str, torch.Tensor]:
    """All that DQN and RRD over it read; actions are indices."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(shape, generator=g)
    return {
        "obs": randn(B, *dims), "obs_next": randn(B, *dims), "acts": torch.randint(A, (B,), generator=g),
        "rews": randn(B, 1), "done": (torch.arange(B) % 2).float()[:, None],
        "rrd_obs": randn(N, K, *dims), "rrd_obs_next": randn(N, K, *dims),
        "rrd_acts": torch.randint(A, (N, K), generator=g),
        "rrd_rews": randn(N, 1), "rrd_var_coef": torch.full((N, 1), 0.5),
    } | changes


def value_of(agent) -> torch.nn.Module:
    return agent.nets["main"]["value"]


def set_constant(layer: torch.nn.Linear, values: list[float]) -> None:
    """Make the layer return these values for any input."""
    torch.nn.init.zeros_(layer.weight)
    layer.bias.data = torch.tensor(values)


def assert_unchanged(agent, before: dict) -> None:
    torch.testing.assert_close(agent.state_dict(), before, rtol=0, atol=0)
