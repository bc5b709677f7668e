"""Gather whole rollouts from a tensor environment, for an agent that learns on policy."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from algorithm.collecting import observed
from algorithm.replay_buffer.rollout import RolloutBuffer
from envs.curriculum import Curriculum
from envs.tensor import TensorEnv
from learner.drops import DROPPED, Drops
from learner.staging import Dense, Staged
from utils.finite import NotFiniteError
from utils.settings.fields import Config


def rollout_columns(config: Config) -> list[str]:
    """Return the columns of the episodes that training has gathered."""
    return ["train/return", "train/length", *([DROPPED] if config.on_nan == "drop" else [])]


class Rollouts:
    """The collector of an on-policy agent: N environments on one device, and the agent's memory of their episodes."""

    def __init__(self, env: TensorEnv, agent: Any, curriculum: Curriculum | None = None, drops: Drops | None = None):
        """`env` is reset here; its actions are in [-1, 1] or indices. It counts dropped episodes by `drops`."""
        self.env, self.agent, self.num_envs, self.drops = env, agent, env.num_envs, drops or Drops()
        self.steps = 0                                  # of each environment
        self.dense, self.staged = Dense(env), Staged(env, curriculum)
        self.env.reset()
        self.memory = agent.policy.initial_state(self.num_envs) if agent.recurrent else None
        zeros = torch.zeros(self.num_envs, dtype=torch.float64, device=env.device)
        self.returns, self.lengths = zeros, zeros.clone()           # of the open episodes, by the true rewards
        self.ended: list[Tensor] = []                   # returns, lengths, whether they ended, (3, N), of each step
        self.recent: deque[tuple[float, float]] = deque(maxlen=100)     # return and length of the last episodes

    def gather(self, count: int, buffer: RolloutBuffer) -> tuple[int, int]:
        """Take a rollout of `count` environment steps, rounded up to whole steps of all environments.

        Returns:
            (environment steps taken, episodes that ended).
        Raises:
            NotFiniteError: an observation or a reward is not finite.
        """
        steps = math.ceil(count / self.num_envs)
        self.ended = []
        self.taken = 0                                  # steps of this rollout
        buffer.open()
        if self.agent.begins_anew:                      # the open episodes are not continued
            self.returns, self.lengths = torch.zeros_like(self.returns), torch.zeros_like(self.lengths)
        self.memory = self.agent.collect_rollout(self.env, buffer, steps, self._on_step, self.memory)
        check_finite(buffer, self.steps)
        self.steps += steps
        ended = buffer.close(observed(self.env), self.agent.for_env(buffer["acts"]), self.memory)
        return steps * self.num_envs, ended

    def _on_step(self, obs: Tensor, acts: Tensor, rews: Tensor, over: Tensor, info: Mapping[str, Any],
                 obs_next: Tensor) -> None:
        """Count a step of all environments; nothing waits for the device."""
        self.taken += 1
        active = self.env.active | over
        self.returns = self.returns + torch.where(active, info.get("true_rews", rews), 0.0)
        self.lengths = self.lengths + active
        if not self.env.on_cpu or over.any():           # elsewhere, to ask is to wait
            counted = over & ~info["lost"] if "lost" in info else over
            self.ended.append(torch.stack([self.returns, self.lengths, counted.double()]))
            self.returns, self.lengths = (x.masked_fill(over, 0.0) for x in (self.returns, self.lengths))
        self.dense.add(info, active)
        self.staged.update(over, info, self.steps + self.taken)

    def agreed(self, yes: bool) -> bool:
        """Return whether all processes of the run say yes; here there is one."""
        return yes

    def log(self, logger: Any) -> None:
        """Log what the last rollout told: each step of what the environment tells, and the episodes that ended."""
        self.dense.log(logger, self.steps)
        self.staged.log(logger)
        self.drops.log(logger)
        if not self.ended:
            return
        returns, lengths, counted = torch.stack(self.ended, 1).cpu()                # (T, N) each, one transfer
        ended = torch.stack([returns, lengths], -1)[counted > 0]                    # (episodes, 2), in their order
        self.recent.extend(map(tuple, ended.tolist()))
        if len(ended):
            logger.add_sums([("train/return", ended[:, 0].sum(), len(ended)),
                             ("train/length", ended[:, 1].sum(), len(ended))])

    def charts(self) -> dict[str, float]:
        """Return the means of the last 100 episodes, by the names of `record.charts`; nothing before the first one."""
        if not self.recent:
            return {}
        returns, lengths = (sum(values) / len(values) for values in zip(*self.recent, strict=True))
        return {"charts/episode_reward_avg_100": returns, "charts/episode_length_avg_100": lengths}

    # Saved state ----------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what the open episodes are restored from: (values, tensors)."""
        own = {"returns": self.returns, "lengths": self.lengths}
        own |= {} if self.memory is None else {"memory": self.memory}
        env = {f"env/{name}": tensor for name, tensor in self.env.state().items()}
        values = {"steps": self.steps, "curriculum": self.staged.state(), "dropped": self.drops.count,
                  "recent": list(self.recent)}
        return values, own | env

    def restore(self, values: dict[str, Any], tensors: Mapping[str, Tensor]) -> int:
        """Restore the open episodes; return how many could not be restored and are dropped."""
        self.steps = values["steps"] + 0                                    # a TypeError unless it is a number
        self.staged.restore(values["curriculum"])
        self.drops.count = values.get("dropped", 0)     # states of earlier versions do not say it
        self.recent.extend(map(tuple, values.get("recent", [])))
        lost = self.env.restore({name.removeprefix("env/"): tensor for name, tensor in tensors.items()
                                 if name.startswith("env/")})
        device = self.env.device
        self.returns, self.lengths = (tensors[name].to(device).masked_fill(lost, 0) for name in ("returns", "lengths"))
        if self.memory is not None:
            self.memory = tensors["memory"].to(device).masked_fill(lost[:, None], 0)
        return int(lost.sum())


def check_finite(buffer: RolloutBuffer, steps: int) -> None:
    """Raise a NotFiniteError for the first observation or reward of a rollout that is not finite.

    Args:
        steps: of each environment before the rollout.
    """
    for name, what in (("obs", "observation"), ("obs_next", "observation"), ("rews", "reward")):
        values = buffer[name]
        if not values.is_floating_point() or values.sum().isfinite() or values.isfinite().all():
            continue
        bad = ~values.isfinite().reshape(*values.shape[:2], -1).all(-1)
        active = buffer.get("active")
        bad = bad if active is None else bad & active
        for t, n in bad.nonzero().tolist()[:1]:
            value = values[t, n].reshape(-1)
            at = int(np.flatnonzero(~value.isfinite().cpu().numpy())[0])
            place = f"[{at}]" if name != "rews" else ""
            raise NotFiniteError(f"{what}{place}: got {float(value[at])} in environment {n + 1} of {buffer.rows} at "
                                 f"its step {steps + t + 1}; expected finite numbers")
