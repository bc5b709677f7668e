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
from envs.curriculum_forms import of_form
from envs.normalize import ObsNormalizer, RewardNormalizer
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
            found = (self.stages - 1).unique().tolist()
            raise ConfigError(f"case: got stages {found}, expected -1 to {len(STAGES) - 2}")
        self.draws = self._draws()

    def free(self) -> Arrays:
        """Play one game."""
        env = self._env(1)
        found = {}
        if self.case.meta.get("natural_start"):
            env.set_stages(self.stages[:1])
            jitter = self._tensor("draw/init_jitter", SPAWNERS, 2).T[..., None].nan_to_num(0.0)
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
        before = {name: torch.cat([first, self._tensor(f"state/{name}", self.steps, *first.shape[1:])[:-1]])
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
        places = len(self.case.take("init/proj_alive", None))
        if "state/proj_alive" in found:
            places = max(places, found["state/proj_alive"].sum(1).max(initial=0))
        return {name: value.take(range(places), axis=int(name.startswith("state/"))) if "/proj_" in name else value
                for name, value in found.items()}

    # Reading --------------------------------------------------------------------------------------------------------

    def _start(self) -> dict[str, Tensor]:
        """Return the lists before the first step, of one game."""
        self.places = len(self.case.take("init/proj_alive", None))
        return {name: self._tensor(f"init/{name}", *shape)[None] for name, shape in self._shapes().items()}

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {name: value.shape[1:] for name, value in Arena().lists().items()}
        return {name: (self.places, *shape[1:]) if name.startswith("proj_") else shape
                for name, shape in shapes.items()}

    def _tensor(self, name: str, *shape: int | None) -> Tensor:
        return torch.as_tensor(self.case.take(name, *shape), device=self.device)

    def _draws(self) -> list[Tensor]:
        """Return the parts of Draws of all steps, (..., T), 0 where nothing was drawn."""
        fire = self._tensor("draw/fire", self.steps, ENEMIES)
        angle = self._tensor("draw/spawn_angle", self.steps, SPAWNERS, TRIES + 1)
        distance = self._tensor("draw/spawn_dist", self.steps, SPAWNERS, TRIES)
        jitter = self._tensor("draw/jitter", self.steps, SPAWNERS, 2).transpose(1, 2)
        return [part.movedim(0, -1).nan_to_num(0.0) for part in (fire, angle, distance, jitter)]


def normalization_case(case: Case) -> Arrays:
    """Normalise the case's observations and rewards, (T + 1, N, O) and (T, N), batch by batch.

    The moments of observations are float32, as the case's are: its first batches are divided by 1e-4.
    """
    obs = torch.as_tensor(case.take("obs", None, None, None))
    rews = torch.as_tensor(case.take("rewards", len(obs) - 1, obs.shape[1]))
    dones = torch.as_tensor(case.take("dones", *rews.shape)).bool()
    clip, eps = case.meta.get("clip", 10.0), case.meta.get("epsilon", 1e-8)
    of_obs = ObsNormalizer(obs.shape[2], clip=clip, eps=eps, dtype=torch.float32)
    of_rews = RewardNormalizer(obs.shape[1], case.meta.get("gamma", 0.99), clip=clip, eps=eps)
    found = [{"normalized_obs": of_obs.normalize(obs[0]), **_statistics(of_obs, of_rews)}]
    for t in range(len(rews)):
        found.append({"normalized_obs": of_obs.normalize(obs[t + 1]),
                      "normalized_rewards": of_rews.normalize(rews[t], dones[t]), **_statistics(of_obs, of_rews)})
    return {f"fixed/{name}": np.stack([step[name] for step in found if name in step])
            for name in dict.fromkeys([*found[0], *found[-1]])}


def _statistics(of_obs: ObsNormalizer, of_rews: RewardNormalizer) -> dict[str, Tensor]:
    """Return the moments, by the names of the file of statistics, and the returns."""
    moments = {"obs": of_obs.moments, "ret": of_rews.moments}
    return {"returns": of_rews.returns.clone()} | {
        f"{kind}_{name}": getattr(found, name).clone() for kind, found in moments.items()
        for name in ("mean", "var", "count")}


# Metric of the curriculum -> name in the case, name in the published state.
METRICS = {"spawners_destroyed": ("spawner_kills",) * 2, "win": ("wins",) * 2, "length": ("lengths", "episode_lengths"),
           "return": ("rewards", "episode_rewards"), "enemies_destroyed": ("enemy_kills",) * 2,
           "damage_dealt": ("damage_dealt",) * 2, "damage_taken": ("damage_taken",) * 2}
WIN_TIMES = 100


def curriculum_case(case: Case) -> Arrays:
    """Record the case's episodes one by one, and check for an advance after every `check_every`-th."""
    columns = {name: case.take(f"episode/{named}", None).astype(float) for name, (named, _) in METRICS.items()}
    columns["win_step"] = np.where(columns["win"] > 0, columns["length"], np.nan)
    curriculum = of_form(Arena.curriculum, Arena())
    every, stages = case.meta.get("check_every", 1), []
    for i in range(len(columns["win"])):
        curriculum.record({name: [column[i]] for name, column in columns.items()})
        if (i + 1) % every == 0:
            curriculum.advance()
        stages.append(curriculum.stage)
    times = columns["win_step"][~np.isnan(columns["win_step"])]
    return {"stage_after": np.array(stages), "metrics/win_times": times[-WIN_TIMES:],
            **{f"metrics/{named}": np.array(curriculum.values[name]) for name, (_, named) in METRICS.items()}}


KINDS = {"env": env_case, "normalization": normalization_case, "curriculum": curriculum_case}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return replay_main("python -m envs.arena.replay", __doc__.partition("\n")[0], KINDS, argv,
                       {"mode": ("free", "forced"), "device": ("cpu", "cuda")})


if __name__ == "__main__":
    sys.exit(main())
