"""The programs that are measured: our agents by engine, Stable-Baselines3's, and the TensorFlow reference."""

from __future__ import annotations

import dataclasses
import importlib
import warnings
from argparse import Namespace
from collections import defaultdict
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from algorithm import create_agent
from algorithm.engine import Engine, create_engine
from algorithm.replay_buffer import create_buffer
from envs import make_env, sizes
from learner import Evaluator, Learner
from learner.collector import Collector
from record.logger import Mean
from utils.installed import pip_install
from utils.settings.fields import Config
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

OBS, ACTS, EPISODE = 27, 8, 1000
BATCH = 256
WIDTHS = {"sac": [256, 256], "td3": [256, 256], "ddpg": [400, 300]}     # ours, which SB3's networks get
NO_SB3 = ("stable-baselines3: {why}, so nothing is compared with it; "
          f"{pip_install('bench')} installs it")


def import_sb3() -> tuple[ModuleType | None, str | None]:
    """(Stable-Baselines3, None), or (None, a note that names the extra that installs it)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("stable_baselines3"), None
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "stable_baselines3"
        return None, NO_SB3.format(why="is not installed" if absent else f"cannot be imported here ({error})")


# Ours ---------------------------------------------------------------------------------------------------------------

def settings(name: str, device: str, steps: int, obs_dim: int = OBS, **changes: Any) -> Config:
    """The settings of "sac", "rrd-sac" or another, for observations (obs_dim,) and a replay of `steps`."""
    alg, _, basis = name.partition("-")
    config = resolve(dict(alg=alg, basis_alg=basis or None, buffer_size=steps, device=device, **changes))
    return with_sizes(config, obs_dim, ACTS)


def filled_buffer(config: Config):
    """A full replay of random steps, in episodes of 1000."""
    buffer, random = create_buffer(config), np.random.default_rng(0)
    shapes = dict(obs=config.obs_dims[0], acts=ACTS, rews=1, obs_next=config.obs_dims[0])
    length = min(EPISODE, config.buffer_size)
    episode = {name: random.standard_normal((length, width)).astype(np.float32) for name, width in shapes.items()}
    episode |= {"acts": np.tanh(episode["acts"]), "done": np.zeros((length, 1), np.float32)}
    for _ in range(config.buffer_size // length):
        buffer.store_episode(episode)
    return buffer


def our_engine(config: Config, buffer: Any, engine: str = "auto", use_pytorch: bool = True) -> Engine:
    """An engine with an agent of its own; the replay may be shared, since updates only draw from it."""
    chosen = Namespace(**vars(config) | dict(engine=engine, use_pytorch=use_pytorch))
    agent = create_agent(chosen)
    agent.normalizer_update(buffer.sample())
    return create_engine(dataclasses.replace(config, engine=engine), agent, buffer)[0]


class OurRun:
    """A run of the learner that can be continued again and again; it keeps its metrics and writes no file."""

    def __init__(self, name: str, env: str, device: str, longest: int, every: int, precision: str = "fp32"):
        """Begin with an episode of `longest` steps; then alternate `every` steps and as many updates."""
        config = settings(name, device, 100_000, env=env, timesteps=every, train_batches=every, test_rollouts=0,
                          warmup=longest, test_timesteps=longest, total_timesteps=longest, precision=precision)
        world = make_env(config)
        config = sizes(config, world)
        agent, buffer = create_agent(config), create_buffer(config)
        self.engine = engine = create_engine(config, agent, buffer)[0]
        collector = Collector(world, engine.actor, config.seed)
        self.learner = Learner(config, collector, engine, Evaluator(config, make_env(config), engine.actor), _Record())
        self.learner.learn()

    def __call__(self, steps: int) -> None:
        config = self.learner.config
        self.learner.config = dataclasses.replace(config, total_timesteps=config.total_timesteps + steps)
        self.learner.learn()


class _Record:
    """Has the methods of `record.run.Run`; sums metrics as it does."""

    def __init__(self):
        self.logger, self.means = self, defaultdict(Mean)

    def add(self, info: dict) -> None:
        for name, value in info.items():
            self.means[name].add(value)

    def add_sums(self, sums: Any) -> None:
        for name, total, count in sums:
            self.means[name].add(total, count)

    def sums(self) -> dict:
        return {}

    def progress(self, steps: int) -> None:
        pass

    def record(self, *_: Any) -> None:
        pass

    def save(self, *_: Any) -> None:
        pass


# Stable-Baselines3 --------------------------------------------------------------------------------------------------

class Spaces(gym.Env):
    """An environment of spaces only, for a model that only updates and acts."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (ACTS,), np.float32)


class Sb3:
    """An agent of Stable-Baselines3 with networks of our widths."""

    def __init__(self, sb3: ModuleType, basis: str, env: gym.Env, device: str, **kwargs: Any):
        noise = importlib.import_module("stable_baselines3.common.noise")
        logger = importlib.import_module("stable_baselines3.common.logger")
        if basis != "sac":                              # which explores by its own policy
            width = env.action_space.shape[0]
            kwargs["action_noise"] = noise.NormalActionNoise(np.zeros(width), np.full(width, 0.1))
        self.model = getattr(sb3, basis.upper())("MlpPolicy", env, batch_size=BATCH, device=device, seed=0,
                                                 policy_kwargs=dict(net_arch=WIDTHS[basis]), **kwargs)
        self.model.set_logger(logger.Logger(None, []))

    @classmethod
    def filled(cls, sb3: ModuleType, basis: str, steps: int, device: str) -> Sb3:
        """Make the model and fill its replay with random steps, as ours is filled."""
        self, random = cls(sb3, basis, Spaces(), device, buffer_size=steps), np.random.default_rng(0)
        replay = self.model.replay_buffer
        for array in (replay.observations, replay.next_observations, replay.actions, replay.rewards):
            block = random.standard_normal((min(EPISODE, steps), *array.shape[1:])).astype(np.float32)
            array[:] = np.resize(np.tanh(block) if array is replay.actions else block, array.shape)
        replay.full = True
        return self

    @property
    def replay_bytes(self) -> int:
        """The bytes of the replay's arrays."""
        return sum(array.nbytes for array in vars(self.model.replay_buffer).values() if isinstance(array, np.ndarray))

    def update(self, count: int) -> None:
        self.model.train(gradient_steps=count, batch_size=BATCH)

    def sample(self) -> None:
        self.model.replay_buffer.sample(BATCH)

    def step(self, obs: np.ndarray) -> np.ndarray:
        """Act once, exploring."""
        action, noise = self.model.predict(obs, deterministic=False)[0], self.model.action_noise
        return action if noise is None else np.clip(action + noise(), -1, 1)

    def run(self, steps: int) -> None:
        """Make `steps` more steps in the environment, with as many updates."""
        self.model.learn(steps, reset_num_timesteps=False, log_interval=None)


def sb3_run(sb3: ModuleType, env: str, device: str, longest: int, every: int) -> Sb3:
    """A run of Stable-Baselines3's SAC like `OurRun`, on the environment as Gymnasium makes it."""
    contestant = Sb3(sb3, "sac", make_bare(env, longest), device, buffer_size=100_000, learning_starts=longest,
                     train_freq=(every, "step"), gradient_steps=-1)
    contestant.run(longest)
    return contestant


def make_bare(env: str, longest: int) -> gym.Env:
    """The environment without our wrappers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return gym.make(env, max_episode_steps=longest)


# Floors -------------------------------------------------------------------------------------------------------------

class Bare:
    """The least work of sampling and acting: one gather of rows, three products."""

    def __init__(self, agent: Any, buffer: Any):
        config = agent.config
        count = config.batch_size + (config.rrd_batch_size or 0)
        self.rows = buffer.storage.rows
        self.index = torch.randint(len(buffer), (count,), device=self.rows.device)
        policy = getattr(agent, "basis", agent).policy
        layers = [layer for layer in policy.modules() if isinstance(layer, torch.nn.Linear)]
        self.layers = [(layer.bias.detach(), layer.weight.detach().t()) for layer in layers]
        self.obs = torch.randn(1, config.obs_dims[0], device=agent.device)

    def gather(self) -> torch.Tensor:
        return self.rows.index_select(0, self.index)

    @torch.inference_mode()
    def forward(self) -> torch.Tensor:
        """Pass one observation through the policy's layers."""
        h = self.obs
        for bias, weight in self.layers:
            h = torch.addmm(bias, h, weight).relu_()
        return h
