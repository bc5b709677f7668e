"""The agents and worlds that the tests of the TorchRL pipeline share."""

from __future__ import annotations

import dataclasses

from algorithm import create_agent
from envs.marinenav.env import MarineNav
from envs.training_env import TrainingEnv
from torchrl_gpu.marinenav_torchrl_env import MarineNavTorchRLEnv
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

ALGS = ("ac_iqn", "iqn", "marinenav_ddpg", "marinenav_dqn", "marinenav_sac", "rainbow")
DISCRETE = ("iqn", "marinenav_dqn", "rainbow")


def agent_of(alg: str, seed: int = 0, rows: int = 2, **settings):
    """A small agent for worlds of `rows` robots."""
    own = {"object_sizes": (4, 3), "hidden_sizes": (8, 8), "batch_size": 8, "warmup": 0, "random_warmup": False,
           "encoder": "objects", "eps_decay": 50}
    config = resolve({"alg": alg, "env": "MarineNav-v0", "env_type": "normal", "device": "cpu", "seed": seed,
                      "buffer_size": 500, "test_timesteps": 9, **own, **settings})
    acts = 25 if alg in DISCRETE else 2
    return create_agent(dataclasses.replace(with_sizes(config, (37,), (acts,)), rows=rows))


def worlds_of(alg: str = "ac_iqn", count: int = 2, limit: int = 9, seed: int = 0, device: str = "cpu",
              **settings) -> TrainingEnv:
    """Worlds of two robots, one core and two obstacles."""
    known = {"num_robots": 2, "num_cores": 1, "num_obstacles": 2, "min_start_goal_dis": 15.0,
             "discrete": alg in DISCRETE}
    return TrainingEnv(MarineNav(count, device, seed, **known | settings), limit, paid_at_end=False)


def env_of(alg: str = "ac_iqn", count: int = 2, **settings) -> MarineNavTorchRLEnv:
    """The same for TorchRL."""
    return MarineNavTorchRLEnv(worlds=worlds_of(alg, count, **settings))
