"""Train the agents of MarineNav with TorchRL's environment, collector and replay.

Updates, schedule, evaluation and record are those of `learner`: what is here only joins them to TorchRL.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from algorithm import create_agent
from envs.build import build_env, task_of
from envs.curriculum_forms import open_curriculum
from envs.marinenav.env import MarineNav
from envs.marinenav.files import write_worlds
from envs.marinenav.frozen import SEED
from envs.training_env import TrainingEnv
from learner.episodes import own_draws
from learner.learner import Callback
from learner.parts import Parts, build
from learner.training import TrainedRun, learn
from learner.worlds import PlayedWorlds, WorldPlayer
from torchrl_gpu.collecting import TorchRLCollector, collecting
from torchrl_gpu.following import follow, steps_of
from torchrl_gpu.marinenav_torchrl_env import MarineNavTorchRLEnv
from torchrl_gpu.processes import Processes, joined
from torchrl_gpu.replay import create_torchrl_buffer
from utils import global_draws
from utils.cases import write_case
from utils.display import Display
from utils.errors import ConfigError
from utils.seeding import stream_seed
from utils.settings.algorithms import is_discrete
from utils.settings.fields import Config
from utils.settings.marinenav_form import AGENT_TYPES
from utils.stop import Stop
from utils.threads import prepare_threads
from utils.torch_state import apart
from utils.torch_utils import resolve_device

ALGS = tuple(AGENT_TYPES.values())


@apart
def train(config: Config, stop: Stop, callback: Callback | None = None, env: MarineNavTorchRLEnv | None = None,
          agent: Any = None, worlds: TrainingEnv | None = None) -> TrainedRun:
    """Train by these settings, which are those of `train.py`, and keep the same record.

    Args:
        callback: see `learner.learner.Learner`.
        env, agent: existing ones, in place of those of the settings.
        worlds: what evaluation plays, in place of those of the settings.
    Raises:
        ConfigError: a setting is wrong, or not possible here; nothing was written.
        CheckpointError: the saved state of a run to be resumed is damaged or in use.
        NotFiniteError, OSError: the run failed.
        Stopped: `stop` was set, and the run has saved its state.
    """
    prepare_threads()
    check(config)
    with joined(str(resolve_device(config.device))) as (processes, device), global_draws.seeded(config.seed):
        parts = _parts(dataclasses.replace(config, device=device), processes, agent, worlds)
        common = stop if processes.count == 1 else Stop()
        opening = partial(opened, env, processes, partial(processes.vote, stop, common))
        if processes.rank:
            directory, steps = processes.told()
            return TrainedRun(directory, follow(parts, opening, directory, steps, processes, common), [])
        with Display() as display:
            return learn(parts, display.view(config.run_length), common, callback, opening,
                         lambda run: processes.told((run.directory, steps_of(run.saved))))


def check(config: Config) -> None:
    """Raise a ConfigError for settings that this pipeline does not take."""
    if task_of(config) is not MarineNav:
        raise ConfigError(f"env: got {config.env!r}, expected MarineNav-v0: other environments train by train.py")
    if config.alg not in ALGS:
        raise ConfigError(f"alg: got {config.alg!r}, expected one of {', '.join(ALGS)}; decompositions are transforms "
                          "of TorchRL's replay in adapters/torchrl.py")
    if config.seeds:
        raise ConfigError("seeds: not read here; expected --seed")


def _parts(config: Config, processes: Processes, agent: Any, worlds: TrainingEnv | None) -> Parts:
    """Build the parts of one process; `agent` and `worlds` replace those of the settings."""
    def make_agent(config: Config) -> Any:
        made = agent or create_agent(config)
        made.config = processes.of_one(config)
        processes.join(made)
        return made

    def make_buffer(config: Config) -> Any:
        buffer = create_torchrl_buffer(processes.of_one(config))
        processes.own_draws(buffer.generator, config.seed, "replay")
        return buffer
    parts = build(config, make_agent, make_buffer)
    parts.worlds = worlds or parts.worlds
    return parts


@contextlib.contextmanager
def opened(env: MarineNavTorchRLEnv | None, processes: Processes, vote: Callable[[], Any], config: Config,
           example: gym.Env, agent: Any, say: Callable[[str], None] = lambda line: None) -> Iterator[TorchRLCollector]:
    """Open the collector of `env`, or of the worlds of the settings; see `learner.collector.open_collector`."""
    if env is None:
        worlds = build_env(config, example, say)
        env = MarineNavTorchRLEnv(worlds=worlds, curriculum=open_curriculum(config.curriculum, worlds))
    env.processes = processes.count
    processes.own_draws(env.env.generator, config.seed, "env")
    with collecting(env, agent, config, processes, vote) as collector:
        yield collector


class TorchRLTrainer:
    """The trainer by its published names; `train` above is what it does.

    Attributes:
        config: the settings of the run.
        run: the run that `learn` has made; None before.
    """

    def __init__(self, train_env: MarineNavTorchRLEnv, eval_env: MarineNavTorchRLEnv | None,
                 eval_schedule: Mapping[str, Any] | None, rl_agent: Any, device: torch.device | str = "cpu",
                 UPDATE_EVERY: int = 4, learning_starts: int = 2000, target_update_interval: int = 10_000,
                 exploration_fraction: float = 0.25, initial_eps: float = 0.6, final_eps: float = 0.05,
                 buffer_size: int = 1_000_000, batch_size: int = 64, imitation: bool = False, il_agent: Any = None):
        """
        Args:
            train_env: not reset yet.
            eval_env: made with `is_eval_env`; None: the worlds of `eval_schedule`, or ten of the training's.
            rl_agent: one of `create_agent`.
            UPDATE_EVERY, learning_starts, target_update_interval, exploration_fraction: in steps of one world, the last
                one as a share of the run; the targets are copied once every so many steps.
        Raises:
            ConfigError: a value is wrong.
        """
        if imitation or il_agent is not None:
            raise ConfigError("imitation: got True, expected False: there is no agent that imitates")
        self.env, self.eval_env, self.agent, self.fraction = train_env, eval_env, rl_agent, exploration_fraction
        kwargs = {"num_robots": train_env.robots, "discrete": is_discrete(rl_agent.config.alg)}
        self.config = dataclasses.replace(
            rl_agent.config, env="MarineNav-v0", env_type="normal", num_envs=train_env.batch_size[0],
            rows=train_env.robots, env_kwargs=kwargs, curriculum=train_env.curriculum_text, device=str(device),
            test_timesteps=train_env.env.limit, timesteps=UPDATE_EVERY, train_batches=1, warmup=learning_starts,
            random_warmup=False, train_target=max(1, target_update_interval // UPDATE_EVERY), eps_l=initial_eps,
            eps_r=final_eps, buffer_size=max(buffer_size, train_env.env.limit), batch_size=batch_size,
            eval_worlds=None if eval_schedule is None else dict(eval_schedule))
        self.run: TrainedRun | None = None
        self.played: list[tuple[int, PlayedWorlds]] = []

    def learn(self, total_timesteps: int, eval_freq: int, eval_log_path: str | Path, verbose: bool = True,
              ) -> TrainedRun:
        """Train, evaluate every `eval_freq` steps, and keep the record in the directory `eval_log_path`.

        Args:
            verbose: whether the run is displayed.
        Raises:
            ConfigError, NotFiniteError, OSError, Stopped: see `train`.
        """
        self.config = dataclasses.replace(
            self.config, total_timesteps=total_timesteps, iterations=max(1, eval_freq // self.config.timesteps),
            eps_decay=max(1, round(self.fraction * total_timesteps)), run_dir=str(eval_log_path))
        quiet = contextlib.nullcontext() if verbose else contextlib.redirect_stdout(io.StringIO())
        with Stop() as stop, quiet:
            self.run = train(self.config, stop, env=self.env, agent=self.agent,
                             worlds=self.eval_env and self.eval_env.env)
        return self.run

    def evaluation(self) -> PlayedWorlds:
        """Play all worlds of `eval_env` greedily; what they brought is kept for `save_evaluation`."""
        config = self.config
        with own_draws(self.agent, stream_seed(config.seed, "test actions")):
            player = WorldPlayer(self.eval_env.env, self.agent, config.gamma)
            self.played.append((self.env.steps, player.play(stream_seed(config.seed, "test env"))))
        return self.played[-1][1]

    def save_evaluation(self, eval_log_path: str | Path) -> None:
        """Write what each `evaluation` brought to `evaluations.npz` in this directory."""
        tables = [played.summaries() for _, played in self.played]
        columns = {name: np.stack([table[name] for table in tables]) for name in tables[0]}
        steps = np.array([steps for steps, _ in self.played])
        write_case(Path(eval_log_path) / "evaluations.npz", {"timesteps": steps, **columns})

    def save_eval_config(self, eval_log_path: str | Path) -> None:
        """Write the worlds of `eval_env` to `eval_configs.json` in this directory."""
        task = self.eval_env.env.task
        write_worlds(Path(eval_log_path) / "eval_configs.json", task.given, task.rules, as_published=True, seed=SEED)

    def linear_eps(self, total_timesteps: int, steps: int) -> float:
        """Return the share of random actions after so many steps of a run of this length."""
        config = self.config
        share = min(steps / max(1, round(self.fraction * total_timesteps)), 1)
        return config.eps_l + (config.eps_r - config.eps_l) * share
