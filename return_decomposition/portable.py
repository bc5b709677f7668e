"""A policy, or a learned reward, as one module of tensors, with the normaliser of observations inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from algorithm.decomposition.networks import MLPRewardNet
from algorithm.decomposition.scale import ReturnScale
from algorithm.networks import MLP
from algorithm.policy.actor_critic import ActorCritic
from utils.errors import ConfigError
from utils.normalizer import Normalizer

WHATS = ("reward", "policy")
ACTING = {"sac": "tanh", "td3": "tanh", "ddpg": "tanh", "dqn": "argmax", "ppo": "clip", "a2c": "clip", "grpo": "clip"}
ROWS = 2                    # of the example


class PortableReward(nn.Module):
    """The reward of steps: raw observations (N, O), actions (N, A) in [-1, 1] or indices (N,) -> (N, 1)."""

    inputs = ("obs", "acts", "obs_next")

    def __init__(self, agent: Any):
        """Take the decomposition of an agent."""
        super().__init__()
        self.model, self.normalizer, self.prepare = agent.decomposition, agent.normalizer, agent.prepare

    def forward(self, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """(N, O), (N, A) or (N,), (N, O) -> (N, 1)."""
        return self.model.predict(self.prepare("obs", obs), acts, self.prepare("obs_next", obs_next))


class PortablePolicy(nn.Module):
    """The greedy policy: raw observations (N, O) -> actions (N, A) in [-1, 1], or indices (N,)."""

    inputs = ("obs",)

    def __init__(self, agent: Any):
        """Take the policy of an agent."""
        super().__init__()
        self.agent, self.nets = getattr(agent, "basis", agent), agent.nets      # which hold its parameters
        self.scale = agent.config.obs_scale

    def forward(self, obs: Tensor) -> Tensor:
        """(N, O) -> (N, A), or (N,)."""
        obs = self.agent.normalize(obs / self.scale)
        if acting(self.agent) == "argmax":
            return self.agent.value(obs).argmax(1)
        return self.agent.act(obs, False)


class Dense(NamedTuple):
    """A network of dense layers, as a script of ten lines computes it.

    tensors: `0.weight`, `0.bias`, ... and `mean`, `std` of observations; clip: of normalised ones. activations: after
    each layer, "none" for none. output: what follows, of the first `size` numbers: none, tanh, clip (to [-1, 1]) or
    argmax.
    """

    tensors: dict[str, Tensor]
    activations: list[str]
    output: str
    size: int
    clip: float


def portable(agent: Any, what: str) -> PortableReward | PortablePolicy:
    """Return the module of an agent's learned reward, or of its policy.

    Raises:
        ConfigError: it has none that is a function of one step.
    """
    if what == "policy":
        if acting(agent) is None or getattr(agent, "recurrent", False):
            raise ConfigError(f"what: got 'policy' of {agent.config.basis_alg or agent.config.alg}"
                              f"{', which remembers,' * bool(acting(agent))} expected one that is a function of the "
                              f"observation, of {', '.join(ACTING)}")
        return PortablePolicy(agent).eval().requires_grad_(False)
    model = getattr(agent, "decomposition", None)
    if model is None or not model.markov:
        raise ConfigError(f"what: got 'reward' of {agent.config.alg}, which "
                          f"{'learns none' if model is None else 'pays a step by its whole episode'}; expected a "
                          "decomposition of single steps, such as rrd, or --what=policy")
    return PortableReward(agent).eval().requires_grad_(False)


def acting(agent: Any) -> str | None:
    """Return what the agent makes of its policy's output; None if it is no function of tensors known here."""
    config = agent.config
    found = ACTING.get(config.basis_alg or config.alg)
    return "argmax" if found and config.discrete else found


def example(agent: Any, inputs: Sequence[str]) -> tuple[Tensor, ...]:
    """Return example inputs of two rows, raw."""
    config, generator = agent.config, torch.Generator().manual_seed(0)
    scale = 255.0 if len(config.obs_dims) == 3 else 1.0
    drawn = {name: (torch.rand if scale > 1 else torch.randn)(ROWS, *config.obs_dims, generator=generator)
             for name in ("obs", "obs_next")}
    if config.discrete:
        drawn["acts"] = torch.arange(ROWS) % config.acts_dims[0]
    else:
        drawn["acts"] = torch.rand(ROWS, *config.acts_dims, generator=generator) * 2 - 1
    return tuple(drawn[name] * scale if name == "obs" and len(inputs) == 1 else drawn[name] for name in inputs)


def dense(agent: Any, what: str) -> Dense:
    """Return the dense layers of the reward network, or of the policy.

    Raises:
        ConfigError: it has other layers as well.
    """
    network = agent.decomposition.reward if what == "reward" and hasattr(agent.decomposition, "reward") else None
    if what == "policy":
        basis = getattr(agent, "basis", agent)
        network = basis.value if acting(agent) == "argmax" and not agent.config.on_policy else basis.policy
    if type(network) is MLPRewardNet or (what == "policy" and isinstance(network, MLP)):
        layers = network.layers
        activations = [*[network.activation] * (len(layers) - 1), "none"]
    elif type(network) is ActorCritic:
        layers, activations = sequential([*network.shared, *network.actor])
    else:
        raise ConfigError(f"format: got 'safetensors' for {type(network).__name__ if network else agent.config.alg}, "
                          "which is not of dense layers alone; expected exported or onnx")
    tensors = {f"{i}.{name}": getattr(layer, name).detach().cpu().clone() for i, layer in enumerate(layers)
               for name in ("weight", "bias")}
    if what == "reward":
        scale_output(tensors, len(layers) - 1, agent.decomposition)
    size = agent.config.acts_dims[0] if what == "policy" else 1
    scale = agent.config.obs_scale if what == "policy" else 1.0
    moments, clip = of_normalizer(agent.normalizer, agent.config.obs_dims, scale)
    return Dense(tensors | moments, activations, "none" if what == "reward" else acting(agent), size, clip)


def scale_output(tensors: dict[str, Tensor], last: int, model: Any) -> None:
    """Multiply the last layer by the model's `return_scale`: the layers then compute what it pays."""
    if isinstance(scale := getattr(model, "scale", None), ReturnScale):
        for name in ("weight", "bias"):
            tensors[f"{last}.{name}"] = scale.times(tensors[f"{last}.{name}"])


def sequential(modules: Sequence[nn.Module]) -> tuple[list[nn.Linear], list[str]]:
    """Return the dense layers among these modules, and the activation after each."""
    layers: list[nn.Linear] = []
    activations: list[str] = []
    for module in modules:
        if isinstance(module, nn.Linear):
            layers.append(module)
            activations.append("none")
        else:
            activations[-1] = type(module).__name__.lower()
    return layers, activations


def of_normalizer(normalizer: Normalizer | None, obs_dims: tuple[int, ...],
                  scale: float) -> tuple[dict[str, Tensor], float]:
    """Return `mean` and `std` (O,) of observations times `scale`, and what normalised ones are clipped to."""
    if normalizer is None or not bool((normalizer.std > 0).all()):
        return {"mean": torch.zeros(obs_dims), "std": torch.full(obs_dims, scale)}, float("inf")
    exact = normalizer.eps is not None
    moments = (normalizer.average, normalizer._deviation()) if exact else (normalizer.mean, normalizer.std)
    mean, std = (moment.detach().cpu().clone() * scale for moment in moments)
    return {"mean": mean, "std": std}, float(normalizer.norm_clip)
