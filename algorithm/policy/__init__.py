"""What acts on policy: policies by name, which draw actions, value observations and evaluate actions.

Importing this package does not import PyTorch; `create_policy` imports what the chosen policy needs.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

from utils.errors import ConfigError
from utils.settings.policies import BUILT_IN, POLICIES
from utils.text import did_you_mean

__all__ = ["create_policy", "register_policy"]


def register_policy(name: str, build: Callable | None = None) -> Callable:
    """Decorate a class or function that `--policy=NAME` builds a policy with.

    It is called as `(config, generator)`, with the settings, which have the sizes `obs_dims` and `acts_dims`, and the
    generator of first weights; if its first parameters are `obs_dim` and `action_dim`, as `(obs_dim, action_dim,
    device, config)`. It returns an `algorithm.policy.base.Policy`.

    Args:
        name: the name; registering it again replaces the policy.
        build: the class, if this is no decorator: `register_policy("mine", Mine)`.
    Raises:
        ConfigError: the name is a built-in policy's or no word, or what is decorated cannot be called.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name) or name in BUILT_IN:
        raise ConfigError(f"policy: got the name {name!r}, expected a word other than {', '.join(BUILT_IN)}: "
                          '@register_policy("mine")')

    def register(build: Callable) -> Callable:
        if not callable(build):
            raise ConfigError(f"policy: @register_policy({name!r}) got a {type(build).__name__}, expected a class or "
                              "a function")
        POLICIES[name] = build
        return build
    return register if build is None else register(build)


def create_policy(config: Any, generator: Any = None) -> Any:
    """Build the policy that `config.policy` names.

    Args:
        config: resolved settings, with `obs_dims` and `acts_dims`.
        generator: draws the first weights, on the CPU; one of `config.seed` if None.
    Returns:
        an `algorithm.policy.base.Policy`, on the CPU.
    Raises:
        ConfigError: the name is unknown, what it names builds something else, or the policy does not fit the sizes.
    """
    from algorithm.policy.base import Policy, weights_generator
    name = config.policy
    if name not in POLICIES:
        raise ConfigError(f"policy: got {name!r}{did_you_mean(name, POLICIES)}, expected one of {', '.join(POLICIES)}, "
                          "or one of your own, which --import=MODULE brings")
    generator = generator or weights_generator(config)
    policy = _build(load(POLICIES[name]), config, generator)
    if not isinstance(policy, Policy):
        raise ConfigError(f"policy: {name!r} builds a {type(policy).__name__}, expected a subclass of "
                          "algorithm.policy.base.Policy")
    policy.weights_generator = generator
    return policy


def _build(build: Callable, config: Any, generator: Any) -> Any:
    """Call a policy's class; one that takes sizes draws its first weights from PyTorch's own generator, seeded here."""
    names = list(inspect.signature(build).parameters)
    if names[:2] != ["obs_dim", "action_dim"]:
        return build(config, generator)
    import torch

    from utils.torch_utils import resolve_device
    given = (config.obs_dims[0], config.acts_dims[0], resolve_device(config.device), config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return build(*given[:len(names)]).cpu()


def load(entry: str | Callable) -> Callable:
    """Return what builds a policy, given as itself or as `module:name`."""
    if not isinstance(entry, str):
        return entry
    module, _, attribute = entry.partition(":")
    return getattr(importlib.import_module(module), attribute)
