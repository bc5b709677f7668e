"""Cases of converted models: what Stable-Baselines3 answers to observations, and what the converted agent answers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapters.convert_sb3 import convert_files
from adapters.sb3_files import Saved
from algorithm.model_file import load_model, write_model
from algorithm.replays.case import Case, CaseError
from utils.errors import CheckpointError


@torch.no_grad()
def convert_case(case: Case) -> dict[str, Any]:
    """`normalized_obs`, `logits`, `values`, `actions`, and the statistics, of the files beside the case.

    The model is converted, written, and read back. Actions are the most probable ones, as the environment gets them.
    With `episode_starts` the rows are one sequence.
    """
    place = Path(case.path)
    pickle = place.with_name(f"{place.stem}_vecnormalize.pkl")
    try:
        agent, stats, saved = convert_files(place.with_suffix(".zip"), pickle if pickle.is_file() else None)
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder) / "model.pt", agent, stats)
            agent = load_model(Path(folder) / "model.pt", str(case.device))
    except CheckpointError as error:
        raise CaseError(str(error)) from None
    agent.nets.to(case.dtype)
    obs = agent.normalize(observations(case, saved.parts))
    if not agent.on_policy:
        logits, values, acts = of_replay(agent, obs)
    else:
        logits, values, acts = with_memory(case, agent, obs) if agent.recurrent else of_rollouts(agent, obs)
    if saved.low is not None:
        logits, acts = in_bounds(logits, saved), in_bounds(acts.clamp(-1, 1), saved)
    found = {"normalized_obs": obs, "logits": logits, "values": values, "actions": acts}
    return found | {name: np.asarray(value).reshape(case.array(name).shape) for name, value in stats.items()
                    if name in case}


def observations(case: Case, parts: tuple[tuple[str, int], ...] | None) -> Tensor:
    """The raw observations, (B, O); the parts of a dict joined, if the case holds them one by one."""
    if parts is not None and "raw_obs" not in case:
        return torch.cat([case.tensor(f"raw_obs/{name}").flatten(1) for name, _ in parts], dim=-1)
    return case.tensor("raw_obs")


def in_bounds(acts: Tensor, saved: Saved) -> Tensor:
    """Actions in [-1, 1] as the environment gets them, in [low, high]."""
    low, high = (torch.as_tensor(bound, dtype=acts.dtype, device=acts.device) for bound in (saved.low, saved.high))
    return low + (acts + 1) / 2 * (high - low)


def of_rollouts(agent: Any, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, or means, values, and the most probable actions of a policy without memory."""
    actor, critic = agent.policy.features(obs)
    return answers(agent, actor, agent.policy.value(critic))


def with_memory(case: Case, agent: Any, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The answers of a policy with a memory to rows that are one sequence."""
    starts = case.tensor("episode_starts").to(obs.dtype) if "episode_starts" in case else obs.new_ones(len(obs))
    actor, critic, _ = agent.policy.run(obs[:, None], starts[:, None], agent.policy.initial_state(1))
    return answers(agent, actor[:, 0], agent.policy.value(critic)[:, 0])


def answers(agent: Any, actor: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The answers of features: Stable-Baselines3 keeps normalised logits."""
    chosen = agent.policy.distribution(actor)
    logits = chosen.logits.log_softmax(-1) if agent.config.discrete else chosen.mean
    return logits, values, chosen.mode()


def of_replay(agent: Any, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The answers of SAC, TD3 or DQN: of DQN the value of each action for logits, and the largest one."""
    if agent.config.discrete:
        values = agent.value(obs)
        return values, values.amax(1), values.argmax(1)
    acts = agent.act(obs, explore=False)
    values = torch.stack([critic(obs, acts)[:, 0] for critic in agent.critics.values()]).amin(0)
    return acts, values, acts
