"""Our contestants: agents by engine, whole runs, and the TensorFlow reference. Others' are in `stable_baselines`."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections import defaultdict
from typing import Any

import numpy as np
import torch

from algorithm import create_agent
from algorithm.engine import Engine, create_engine
from algorithm.replay_buffer import create_buffer
from benchmarks.task import ACTS, EPISODE, OBS
from envs import make_env, sizes
from learner import Evaluator, Learner
from learner.collector import Collector
from record.logger import Mean
from utils.settings.fields import Config
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

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
