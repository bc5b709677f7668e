"""Return decomposition: learn a reward for every step from the return of whole episodes.

    import return_decomposition as rd

    run = rd.train(env="Pendulum-v1", alg="rrd", basis_alg="sac", total_timesteps=20_000)
    agent = rd.load(run.directory)                  # the best checkpoint
    reward = rd.load_reward(run.directory)          # reward(obs, acts, obs_next), reward.redistribute(episode)
    env = rd.LearnedReward(env, reward)             # any library trains on the learned reward

Importing this package imports neither PyTorch nor TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

import python_check  # noqa: F401 (first: it exits where Python is too old)

if TYPE_CHECKING:
    from adapters.relabeler import Relabeler
    from adapters.turns import turn_rewards
    from algorithm import (
        ActorCritic,
        BaseAlgorithm,
        Policy,
        RolloutBuffer,
        VLAPlaceholderPolicy,
        build_algo,
        build_policy,
        register_algo,
        register_algorithm,
        register_decomposition,
    )
    from algorithm.create import create_agent_for_spaces as create_agent
    from algorithm.create import create_decomposition_for_spaces as create_decomposition
    from algorithm.policy import register_policy
    from algorithm.replay_buffer import create_buffer
    from envs import build_env, register_env
    from return_decomposition.loading import load, load_reward
    from return_decomposition.reward import LearnedReward, Reward
    from return_decomposition.training import train
    from utils.errors import CheckpointError, ConfigError, NotFiniteError, SeedsError

__version__ = "0.1.0"
OF_ALGORITHM = ("ActorCritic", "BaseAlgorithm", "Policy", "RolloutBuffer", "VLAPlaceholderPolicy", "build_algo",
                "build_policy", "register_algo")
# Modules that need other people's libraries, by the names under which they are attributes.
ADAPTERS = {"sb3": "adapters.sb3", "torchrl": "adapters.torchrl", "offline": "adapters.offline"}
FOR_SPACES = ("create_agent", "create_decomposition")
__all__ = ["ActorCritic", "BaseAlgorithm", "CheckpointError", "ConfigError", "LearnedReward", "NotFiniteError",
           "Policy", "Relabeler", "Reward", "RolloutBuffer", "SeedsError", "VLAPlaceholderPolicy", "build_algo",
           "build_env", "build_policy", "create_agent", "create_buffer", "create_decomposition", "load", "load_reward",
           "register_algo", "register_algorithm", "register_decomposition", "register_env", "register_policy", "train",
           "turn_rewards"]


def __getattr__(name: str) -> Any:
    """Import a name of `__all__`, or an adapter, when it is first used."""
    if name in ADAPTERS:
        return importlib.import_module(ADAPTERS[name])
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(_home(name), f"{name}_for_spaces" if name in FOR_SPACES else name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *ADAPTERS})


def _home(name: str) -> Any:
    """The module that defines a name of `__all__`."""
    if name in ("load", "load_reward"):
        from return_decomposition import loading as home
    elif name in ("LearnedReward", "Reward"):
        from return_decomposition import reward as home
    elif name == "Relabeler":
        from adapters import relabeler as home
    elif name == "turn_rewards":
        from adapters import turns as home
    elif name == "train":
        from return_decomposition import training as home
    elif name in FOR_SPACES:
        from algorithm import create as home
    elif name in OF_ALGORITHM:
        import algorithm as home
    elif name in ("build_env", "register_env"):
        import envs as home
    elif name == "create_buffer":
        from algorithm import replay_buffer as home
    elif name == "register_policy":
        from algorithm import policy as home
    elif name.startswith("register_"):
        from algorithm import registry as home
    else:
        from utils import errors as home
    return home
