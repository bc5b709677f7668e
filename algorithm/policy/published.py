"""Policies by the names of EmbodiChain's trainer; what they build is this package's.

A class that is registered there is called as `(obs_dim, action_dim, device, config)`; `algorithm.policy.create_policy`
recognises it by the names of its first two parameters.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from algorithm.policy import create_policy
from algorithm.policy.base import Drawn, Policy
from algorithm.policy.layers import MODULES
from utils.errors import ConfigError
from utils.settings.forms import policy_settings
from utils.settings.policies import POLICIES
from utils.settings.resolve import resolve
from utils.settings.sizes import of_spaces
from utils.text import did_you_mean

ACTIVATIONS = MODULES | {"swish": nn.SiLU}


class MLP(nn.Sequential):
    """Dense layers, initialised as PyTorch does."""

    def __init__(self, input_dim: int, output_dim: int, hidden_dims: Sequence[int], activation: str = "elu",
                 last_activation: str | None = None, use_layernorm: bool = False, dropout_p: float = 0.0):
        """
        Args:
            activation: after each hidden layer: relu, elu, tanh, gelu, silu or swish.
            last_activation: after the output; none if None.
            use_layernorm, dropout_p: layer normalisation before, and dropout after, each activation of a hidden layer.
        Raises:
            ConfigError: an activation is unknown.
        """
        widths, modules = [input_dim, *hidden_dims], []
        for fan_in, fan_out in itertools.pairwise(widths):
            modules += [nn.Linear(fan_in, fan_out), *([nn.LayerNorm(fan_out)] if use_layernorm else []),
                        _activation("activation", activation), *([nn.Dropout(dropout_p)] if dropout_p else [])]
        modules.append(nn.Linear(widths[-1], output_dim))
        if last_activation is not None:
            modules.append(_activation("last_activation", last_activation))
        super().__init__(*modules)

    @torch.no_grad()
    def init_orthogonal(self, gains: float | Sequence[float]) -> None:
        """Initialise the weights orthogonally, biases 0, with one gain, or one for each dense layer.

        Raises:
            ConfigError: the number of gains is another one.
        """
        layers = [module for module in self if isinstance(module, nn.Linear)]
        gains = [gains] * len(layers) if isinstance(gains, (int, float)) else list(gains)
        if len(gains) != len(layers):
            raise ConfigError(f"gains: got {len(gains)}, expected one, or {len(layers)}, one for each layer")
        for layer, gain in zip(layers, gains, strict=True):
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)


def _activation(name: str, value: Any) -> nn.Module:
    if not isinstance(value, str) or value.lower() not in ACTIVATIONS:
        raise ConfigError(f"{name}: got {value!r}, expected one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[value.lower()]()


NETWORK = ("hidden_sizes", "activation", "last_activation", "use_layernorm", "dropout_p", "orthogonal_init")


def build_mlp_from_cfg(cfg: Mapping[str, Any], in_dim: int, out_dim: int) -> MLP:
    """Build dense layers by a block `actor` or `critic` of a file, with or without `network_cfg`.

    Raises:
        ConfigError: the block is of another kind, or has an unknown key.
    """
    if (kind := cfg.get("type", "mlp")) != "mlp":
        raise ConfigError(f"type: got {kind!r}, expected mlp, the only type of actor and critic")
    given = {name: value for name, value in cfg.items() if name not in ("type", "network_cfg")}
    given |= cfg.get("network_cfg", {})
    for name in (name for name in given if name not in NETWORK):
        raise ConfigError(f"{name}: unknown key of a network{did_you_mean(name, NETWORK)}")
    if "hidden_sizes" not in given:
        raise ConfigError("hidden_sizes: missing, expected widths of the hidden layers, such as [256, 256]")
    sizes, gains = given.pop("hidden_sizes"), given.pop("orthogonal_init", None)
    mlp = MLP(in_dim, out_dim, sizes, **given)
    if gains is not None:
        mlp.init_orthogonal(gains)
    return mlp


def build_policy(block: Mapping[str, Any], obs_space: Any, action_space: Any, device: Any,
                 actor: nn.Module | None = None, critic: nn.Module | None = None) -> Policy:
    """Build the policy that a block `policy` of a file names.

    Args:
        actor, critic: of an `actor_critic`, in place of those that the block describes; (N, O) -> (N, A), (N, 1).
    Raises:
        ConfigError: the name or a key is unknown, or the spaces do not fit.
    """
    settings = policy_settings(block)
    config = of_spaces(resolve({"alg": "ppo", "device": str(device)} | settings), obs_space, action_space)
    policy = create_policy(config).to(device)
    for name, module in (("actor", actor), ("critic", critic)):
        if module is not None:
            setattr(policy, name, module.to(device))
    return policy


def get_registered_policy_names() -> list[str]:
    """Return the names that `--policy` takes."""
    return list(POLICIES)


def get_policy_class(name: str) -> Callable | None:
    """Return what builds the policy of a name; None if it is unknown."""
    from algorithm.policy import load
    return load(POLICIES[name]) if name in POLICIES else None


class VLAPlaceholderPolicy(Policy):
    """A placeholder for policies of vision, language and action: none is built in."""

    def __init__(self, config: Any, generator: torch.Generator | None = None):
        super().__init__()
        raise ConfigError("policy: 'vla' is a placeholder, which cannot act; expected another policy, or one of your "
                          "own by register_policy")

    def get_action(self, obs: Tensor, deterministic: bool = False) -> Drawn:
        """Raise NotImplementedError."""
        raise NotImplementedError

    def get_value(self, obs: Tensor) -> Tensor:
        """Raise NotImplementedError."""
        raise NotImplementedError

    def evaluate_actions(self, obs: Tensor, actions: Tensor) -> Drawn:
        """Raise NotImplementedError."""
        raise NotImplementedError
