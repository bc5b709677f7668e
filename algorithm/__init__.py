"""Agents, decompositions, replay and engines, by name.

Importing this package imports neither PyTorch nor TensorFlow; `create_agent` imports what the chosen algorithm needs.
"""

import importlib
from typing import Any

import python_check  # noqa: F401 (first: it exits where Python is too old)
from algorithm.create import (
    create_agent,
    create_agent_for_spaces,
    create_decomposition,
    create_twin,
    fill_config,
)
from algorithm.registry import check_backend, register_algorithm, register_decomposition, use_pytorch
from utils.settings.setting import Setting

# What is imported when it is first used, because it needs PyTorch: name -> module.
LATER = {"ActorCritic": "algorithm.policy.actor_critic", "Policy": "algorithm.policy.base",
         **dict.fromkeys(("MLP", "VLAPlaceholderPolicy", "build_mlp_from_cfg", "build_policy", "get_policy_class",
                          "get_registered_policy_names"), "algorithm.policy.published"),
         **dict.fromkeys(("BaseAlgorithm", "build_algo", "get_registered_algo_names", "register_algo"),
                         "algorithm.basis_alg.published_torch"),
         "RolloutBuffer": "algorithm.replay_buffer.published", "register_policy": "algorithm.policy"}

__all__ = ["MLP", "ActorCritic", "BaseAlgorithm", "Policy", "RolloutBuffer", "Setting", "VLAPlaceholderPolicy",
           "build_algo", "build_mlp_from_cfg", "build_policy", "check_backend", "create_agent",
           "create_agent_for_spaces", "create_decomposition", "create_twin", "fill_config", "get_policy_class",
           "get_registered_algo_names", "get_registered_policy_names", "register_algo", "register_algorithm",
           "register_decomposition", "register_policy", "use_pytorch"]


def __getattr__(name: str) -> Any:
    """Import a name of `LATER` when it is first used."""
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(LATER[name]), name)
    return value
