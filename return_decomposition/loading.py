"""Trained agents and learned rewards from the directory of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from learner.loading import find_run, load_agent, load_found, load_replay
from return_decomposition.reward import Reward


def load(run: str | Path, checkpoint: str | Path = "", device: str = "cpu") -> Any:
    """Load the agent of a run: `agent.step(obs)`, (O,) or (N, O) -> actions in [-1, 1], (A,) or (N, A).

    Args:
        run: a run's directory, such as outputs/RUN, a .safetensors file in one, a model's file, MODEL.pt, or a
            directory of the published MarineNav program's files.
        checkpoint: "best" (default; "last" if the run was never evaluated), "last", or the path of a .safetensors file.
        device: cpu, cuda, cuda:1, ..., mps or auto.
    Raises:
        ConfigError: there is no such run. Import the module that registers an algorithm of your own first.
        CheckpointError: the checkpoint is missing, damaged, or of another agent.
    """
    return load_agent(run, checkpoint, device)


def load_reward(run: str | Path, checkpoint: str | Path = "", device: str = "cpu") -> Reward:
    """Load the learned reward of a run.

    Args:
        run, checkpoint, device: as for `load`.
    Raises:
        ConfigError: there is no such run, or its algorithm decomposes no returns.
        CheckpointError: the checkpoint is missing, damaged, or of another agent.
    """
    directory, path = find_run(run, checkpoint)
    agent = load_found(directory, path, device)
    reward = Reward(agent, run=directory)
    if reward.decomposition.of_replay and (replay := load_replay(directory, agent.config)) is not None:
        reward.of_replay = replay.episode_fields()
    return reward
