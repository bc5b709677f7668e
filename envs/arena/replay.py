"""Compute the figures of a reference case of Arena again, through the classes that training uses.

    python -m envs.arena.replay CASE.npz --out OUT.npz [--mode free|forced] [--device cpu|cuda]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from envs.arena.env import Arena
from envs.arena.luck import Draws
from envs.arena.rules import ENEMIES, SPAWNERS, STAGES, TRIES
from utils.cases import Arrays, Case, replay_main
from utils.errors import ConfigError

INFO = ("phase", "enemies_destroyed", "spawners_destroyed", "total_enemies_destroyed", "total_spawners_destroyed",
        "player_health", "episode_reward", "episode_steps", "win", "win_step", "first_spawner_kill_step")


def env_case(case: Case) -> Arrays:
    """Play the actions of a case with its random numbers.

    Mode "free" plays one game from `init/*`. Mode "forced" plays a row for each step, from the state before it.
    """
    return Replay(case).forced() if case.options["mode"] == "forced" else Replay(case).free()


class Replay:
    """A case of kind `env`, and its environment."""

    def __init__(self, case: Case):
        self.case, self.device = case, torch.device(case.options["device"])
        self.acts = self._tensor("actions", None).long()
        self.steps = len(self.acts)
        self.stages = self._tensor("stage", self.steps).long() + 1
        if not ((self.stages >= 0) & (self.stages < len(STAGES))).all():
            raise ConfigError(f"case: got stage {case.arrays['stage'].tolist()}, expected -1 to {len(STAGES) - 2}")
        self.draws = self._draws()

    def free(self) -> Arrays:
        """Play one game."""
        env = self._env(1)
        found = {}
        if self.case.meta.get("natural_start"):
            env.set_stages(self.stages[:1])
            jitter = self._tensor("draw/init_jitter", SPAWNERS, 2).T[..., None]
            env.give(Draws(*(part[..., :1] for part in self.draws[:3]), jitter))
            obs = env.reset()
            found = {f"init/{name}": value[0].cpu().numpy() for name, value in env.lists().items()}
            found["init/obs"] = obs[0].cpu().numpy()
        else:
            env.set_lists(self._start())
        steps = [self._step(env, slice(t, t + 1)) for t in range(self.steps)]
        return self._cut(found | {name: np.concatenate([step[name] for step in steps]) for name in (steps or [{}])[0]})

    def forced(self) -> Arrays:
        """Play each step from the state before it."""
        env = self._env(self.steps)
        before = {name: torch.cat([first, self._list("state", name, self.steps)[:-1]])
                  for name, first in self._start().items()}
        env.set_lists(before)
        return self._cut(self._step(env, slice(None)))

    def _env(self, count: int) -> Arena:
        shaping = "delta" if self.case.meta.get("shaping", True) else "off"
        return Arena(count, self.device, dtype=torch.float64, style=self.case.meta.get("style", 1), shaping=shaping)

    def _step(self, env: Arena, steps: slice) -> Arrays:
        env.set_stages(self.stages[steps])
        env.give(Draws(*(part[..., steps] for part in self.draws)))
        obs, rews, terminated, truncated, info = env.step(self.acts[steps])
        found = {"obs": obs, "reward": rews, "terminated": terminated, "truncated": truncated,
                 "damage/dealt": info["damage_dealt"], "damage/taken": info["damage_taken"],
                 **{f"component/{name}": value for name, value in info["rewards"].items()},
                 **{f"info/{name}": info[name] for name in INFO}}
        found |= {f"state/{name}": value for name, value in env.lists().items()}
        return {name: value.cpu().numpy() for name, value in found.items()}

    def _cut(self, found: Arrays) -> Arrays:
        """Return what was computed with as many places of shots as the case has, or as many as are needed."""
        places = len(self.case.arrays["init/proj_alive"])
        if "state/proj_alive" in found:
            places = max(places, found["state/proj_alive"].sum(1).max(initial=0))
        return {name: value.take(range(places), axis=name.startswith("state/")) if "/proj_" in name else value
                for name, value in found.items()}

    # Reading --------------------------------------------------------------------------------------------------------

    def _start(self) -> dict[str, Tensor]:
        names = [name.removeprefix("init/") for name in self.case.arrays if name.startswith("init/")]
        return {name: self._list("init", name)[None] for name in names if name != "obs"}

    def _list(self, kind: str, name: str, *count: int) -> Tensor:
        """Return one of the lists, (*count, ...)."""
        like = self.case.arrays[f"init/{name}"]
        return self._tensor(f"{kind}/{name}", *count, *like.shape)

    def _tensor(self, name: str, *shape: int | None) -> Tensor:
        return torch.as_tensor(self.case.take(name, *shape), device=self.device)

    def _draws(self) -> list[Tensor]:
        """Return the parts of Draws of all steps, (..., T), 0 where nothing was drawn."""
        fire = self._tensor("draw/fire", self.steps, ENEMIES)
        angle = self._tensor("draw/spawn_angle", self.steps, SPAWNERS, TRIES + 1)
        distance = self._tensor("draw/spawn_dist", self.steps, SPAWNERS, TRIES)
        jitter = self._tensor("draw/jitter", self.steps, SPAWNERS, 2).transpose(1, 2)
        return [part.movedim(0, -1).nan_to_num(0.0) for part in (fire, angle, distance, jitter)]


KINDS = {"env": env_case}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return replay_main("python -m envs.arena.replay", __doc__.partition("\n")[0], KINDS, argv,
                       {"mode": ("free", "forced"), "device": ("cpu", "cuda")})


if __name__ == "__main__":
    sys.exit(main())
