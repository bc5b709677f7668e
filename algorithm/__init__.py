"""What learns: agents, decompositions, replay and engines, by name.

Importing this package imports neither PyTorch nor TensorFlow; `create_agent` imports what it was asked for.
"""

from algorithm.create import create_agent, create_decomposition, create_twin, fill_config
from algorithm.registry import check_backend, register_algorithm, register_decomposition, use_pytorch

__all__ = ["check_backend", "create_agent", "create_decomposition", "create_twin", "fill_config",
           "register_algorithm", "register_decomposition", "use_pytorch"]
