"""Return decomposition in Stable-Baselines3: buffers that pay by a decomposition, and a callback that logs it.

`return_decomposition.sb3` is this module; it needs the extra `sb3`.
"""

from __future__ import annotations

from utils.errors import ConfigError
from utils.installed import pip_install

try:
    import stable_baselines3  # noqa: F401
except ModuleNotFoundError:
    raise ConfigError(f"stable-baselines3 is not installed; {pip_install('sb3')} installs it") from None

from adapters.sb3_callback import DecompositionCallback
from adapters.sb3_replay import DecomposedReplayBuffer
from adapters.sb3_rollout import DecomposedRolloutBuffer

__all__ = ["DecomposedReplayBuffer", "DecomposedRolloutBuffer", "DecompositionCallback"]
