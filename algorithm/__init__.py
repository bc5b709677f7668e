"""Agents, decompositions, replay and engines, by name.

Importing this package imports neither PyTorch nor TensorFlow; `create_agent` imports what the chosen algorithm needs.
"""

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

__all__ = ["Setting", "check_backend", "create_agent", "create_agent_for_spaces", "create_decomposition", "create_twin",
           "fill_config",
           "register_algorithm", "register_decomposition", "use_pytorch"]
