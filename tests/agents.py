"""Small agents and batches for the tests."""

from __future__ import annotations

from argparse import Namespace

import torch

from algorithm import create_agent

O, A, B, N, K = 5, 2, 8, 3, 4          # noqa: E741 (the specification's letters)
BASES = ("ddpg", "td3", "sac")
PAIRS = [(alg, None) for alg in BASES] + [(alg, basis) for alg in ("rrd", "ircr", "uniform") for basis in BASES]
IDS = [alg if basis is None else f"{alg}-{basis}" for alg, basis in PAIRS]


def make_agent(alg: str, basis: str | None = None, **settings):
    return create_agent(Namespace(alg=alg, basis_alg=basis, obs_dims=(O,), acts_dims=(A,), device="cpu", **settings))


def make_batch(seed: int = 0, **changes) -> dict[str, torch.Tensor]:
    """A batch with all that any agent reads, the noise included."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(shape, generator=g)
    batch = {
        "obs": randn(B, O), "obs_next": randn(B, O), "acts": randn(B, A).tanh(), "rews": randn(B, 1),
        "done": (torch.arange(B) % 2).float()[:, None],
        "rrd_obs": randn(N, K, O), "rrd_obs_next": randn(N, K, O), "rrd_acts": randn(N, K, A).tanh(),
        "rrd_rews": randn(N, 1), "rrd_var_coef": torch.full((N, 1), 0.5),
        "pi_noise": randn(B, A), "pi_next_noise": randn(B, A), "target_noise": (0.2 * randn(B, A)).clamp(-0.5, 0.5),
    }
    return batch | changes


def parameters(agent) -> dict[str, torch.Tensor]:
    """Copies of all tensors of an agent's state."""
    return {name: tensor.clone() for name, tensor in agent.state_dict().items()}
