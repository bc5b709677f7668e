"""Updates a second of AC-IQN and IQN with the published constants: `python benchmarks/marinenav/updates.py`.

Engines take turns, beside the machine's rate of matrix products: ratios hold on a machine that others use as well. The
published program makes 76 updates of AC-IQN and 125 of IQN in a second of one thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from algorithm.replay_buffer import create_buffer
from benchmarks.contestants import our_engine
from benchmarks.flags import positive
from benchmarks.flops import ceiling_of, ceilings
from benchmarks.timing import Turns, median_ratio, rate_turn, take_turns
from envs.marinenav.settings import Settings
from utils.cores import count_cores, processor
from utils.settings.fields import Config
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

OBS, CONTINUOUS, INDICES, EPISODE = 37, 2, Settings().num_actions, 1000
ENGINES = ("auto", "eager")


def settings(alg: str) -> Config:
    """The published constants of an agent."""
    config = resolve(dict(alg=alg, encoder="objects", buffer_size=20 * EPISODE, train_target=2500, device="cpu"))
    return with_sizes(config, OBS, INDICES if alg == "iqn" else CONTINUOUS, acts_discrete=alg == "iqn")


def filled(config: Config) -> Any:
    """A full replay of random steps."""
    buffer, random = create_buffer(config), np.random.default_rng(0)
    normal = lambda width: random.standard_normal((EPISODE, width)).astype(np.float32)      # noqa: E731
    acts = random.integers(0, INDICES, EPISODE) if config.discrete else np.tanh(normal(CONTINUOUS))
    for _ in range(config.buffer_size // EPISODE):
        buffer.store_episode({"obs": normal(OBS), "obs_next": normal(OBS), "rews": normal(1), "acts": acts,
                              "done": np.zeros((EPISODE, 1), np.float32)})
    return buffer


def update_flops(agent: Any) -> int:
    """Floating-point operations of one update, two for each multiply-add, without activations and losses.

    A network of quantiles has B rows of observations and actions, and B N of fractions. Of the loss: the target's
    quantiles; the quantiles, and the gradients of all weights and of all inputs but observations, cosines and actions.
    AC-IQN: the target's actions; the policy forward and backward; the quantiles that it climbs, forward and back to
    the action.
    """
    continuous = not agent.config.discrete
    of_values = products(agent.critic if continuous else agent.value, agent.config)
    total = 3 * sum(of_values.values()) + inner(of_values)
    if continuous:
        of_policy = products(agent.policy, agent.config)
        climbed = inner(of_values) - of_values["hidden_layer"] + of_values["action_encoder.0"]
        total += 3 * sum(of_policy.values()) + inner(of_policy) + sum(of_values.values()) + climbed
    return 2 * total


def products(network: nn.Module, config: Config) -> dict[str, int]:
    """Multiply-adds of each dense layer of a network, by its name."""
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear)}
    each = config.quantiles if "cos_embedding.linear" in layers else 1
    return {name: config.batch_size * (1 if "encoder" in name else each) * layer.weight.numel()
            * (network.encoder.count if "object_encoder" in name else 1) for name, layer in layers.items()}


def inner(of: dict[str, int]) -> int:
    """Multiply-adds of the layers whose inputs have a gradient."""
    return sum(count for name, count in of.items() if "encoder" not in name and "cos_embedding" not in name)


def measure(alg: str, rounds: int, seconds: float, sizes: tuple[int, ...] | None, count: int = 50) -> None:
    """Print the rates of one agent, which makes `count` updates at a time."""
    config = settings(alg)
    buffer = filled(config)
    engines = {name: our_engine(config, buffer, name) for name in ENGINES}
    turns: Turns = {f"update {name}": rate_turn(engine.run, count, seconds) for name, engine in engines.items()}
    found = take_turns(turns | ceilings(torch.device("cpu"), sizes), rounds)
    flops = update_flops(engines["eager"].agent)
    least = [flops / (1e9 * gflops) for gflops in ceiling_of(found)["ceiling_gflops"]]
    for name, engine in engines.items():
        times = found[f"update {name}"]
        print(f"{alg:8}{engine.name:8}{1 / statistics.median(times):8.0f} updates/s"
              f"{median_ratio(found['update eager'], times):8.2f} x eager{median_ratio(least, times):8.1%} of the "
              f"ceiling ({flops / 1e6:.0f} MFLOP; kernels {engine.kernels})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--quick", action="store_true", help="run for seconds, as a test; the figures are noise")
    given = parser.parse_args()
    print(f"{processor()}, {count_cores()} cores, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    for alg in ("ac_iqn", "iqn"):
        if given.quick:
            measure(alg, 1, 0.0, (256,), 1)
        else:
            measure(alg, given.rounds, 0.5, None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
