"""MarineNav: boats that cross currents and each other's way, as a tensor environment; a robot is a row."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from envs.marinenav import world
from envs.marinenav.boat import thrust_change
from envs.marinenav.files import read_worlds
from envs.marinenav.frozen import COUNT, SEED, freeze, stages_of
from envs.marinenav.layout import Layout, empty
from envs.marinenav.perception import Noise
from envs.marinenav.sampler import sample, shortfall
from envs.marinenav.settings import DEFAULTS, LIMITS, Settings
from envs.registration import register_env
from envs.tensor import Step, TensorEnv
from utils.errors import ConfigError

LAYOUT = tuple(Layout.__dataclass_fields__)
STATE = tuple(name for name in world.State.__dataclass_fields__ if name != "active")


@register_env("MarineNav-v0")
class MarineNav(TensorEnv):
    """Worlds of several robots; a group is a world, a row a robot.

    Observation (7 + 6 M,): goal x, y, velocity u, v, yaw rate, thrust left, right; M objects of x, y, velocity x, y,
    radius, the nearest first; M times 1 where there is an object, 0 where there is none. All in the frame of the boat.
    Action (2,), changes of the left and the right thrust; or the index of a pair of them, if `discrete`.

    `info["state"]` (N,) is an index of `world.INFO`. A robot that has collided or arrived takes no part any more.
    """

    SETTINGS: ClassVar = DEFAULTS
    LIMITS: ClassVar = LIMITS
    STATE = (*LAYOUT, *STATE, "seconds", "energy", "next_world")
    rewards = ("time", "progress", "rules", "collision", "goal")
    metrics = ("success", "all_succeeded", "collision", "time", "energy", "distance_to_goal")
    metadata: ClassVar = TensorEnv.metadata | {"render_fps": 8}       # two steps a second: four times as fast

    def setup(self) -> None:
        self.given: Layout | None = None                # worlds of a file, which resets take in order
        if self.settings["worlds"]:
            layout, settings = read_worlds(self.settings["worlds"])
            self.given = layout.to(self.dtype, self.device)
            self.settings |= settings
        self.rows_per_group = self.settings["num_robots"]
        self._use_settings()
        size = (self.rules.observation_size,)
        self.observation_space = Box(-math.inf, math.inf, size, np.float32)
        self.action_space = (Discrete(self.rules.num_actions) if self.rules.discrete else
                             Box(-1.0, 1.0, (2,), np.float32))
        layout = empty(self.num_groups, *self._sizes(), self.dtype, self.device)
        self._keep(layout, world.begin(layout, self.rules, with_current=False))
        self.seconds, self.energy = self.zeros(), self.zeros()
        self.next_world = torch.zeros((), dtype=torch.int64, device=self.device)
        self.tracks: dict[int, list[Tensor]] = {}       # of worlds that were rendered: where the robots have been

    def configure(self, **settings: Any) -> None:
        """Change settings. What worlds are sampled by is in effect when a world begins anew, the rest at once.

        Raises:
            ConfigError: a setting is unknown or invalid, or cannot change any more.
        """
        made = hasattr(self, "rules")
        found = self.checked(settings)
        for name in ("discrete", "worlds", "max_obj_num") if made else ():
            if found.get(name, self.settings[name]) != self.settings[name]:
                raise ConfigError(f"{name}: got {found[name]!r}, expected {self.settings[name]!r}: it cannot change in "
                                  "an environment that is made")
        if made and self.given is None and found.get("num_robots", 1) > self.rows_per_group:
            raise ConfigError(f"num_robots: got {found['num_robots']}, expected at most {self.rows_per_group}, with "
                              "which the environment was made")
        self.settings |= found
        if made:
            self._use_settings()

    def _use_settings(self) -> None:
        self.rules = Settings(**self.settings)
        self.noise = Noise(self.rules, self.dtype, self.device) if self.rules.noise else None

    def _sizes(self) -> tuple[int, int, int]:
        return self.rows_per_group, self.rules.num_cores, self.rules.num_obstacles

    # The state ------------------------------------------------------------------------------------------------------

    def layout(self) -> Layout:
        """Return what the worlds were at their beginning."""
        return Layout(**{name: getattr(self, name) for name in LAYOUT})

    def world_state(self) -> world.State:
        """Return the worlds at this time."""
        tensors = {name: getattr(self, name) for name in STATE}
        return world.State(active=self.active.view(self.num_groups, -1), **tensors)

    def _keep(self, layout: Layout | None, state: world.State) -> None:
        tensors = (layout.tensors() if layout else {}) | state.tensors()
        for name in (*LAYOUT, *STATE) if layout else STATE:
            setattr(self, name, tensors[name])

    def restore(self, state: Mapping[str, Tensor]) -> Tensor:
        """Restore what `state` returned; see `TensorEnv`."""
        if self.obs is None:
            self.reset()
        sizes = [state[name].shape[1] for name in ("start", "cores", "obstacles") if name in state]
        if len(sizes) == 3:                             # a curriculum may have made room for more cores
            self._keep(self.layout().padded(*sizes), self.world_state())
        found = super().restore(state)
        self._use_settings()
        return found

    # Episodes -------------------------------------------------------------------------------------------------------

    def _reset(self, rows: Tensor) -> Tensor:
        worlds = rows.view(self.num_groups, -1)[:, 0].nonzero()[:, 0]
        layout = self._next(len(worlds))
        begun = world.begin(layout, self.rules, with_current=self.given is not None)
        begun, view = world.observe(begun, layout, self._draw(layout), self.rules)
        self._keep(self.layout().put(worlds, layout), self.world_state().put(worlds, begun))
        self.active = self.active & (self.robot_exists.flatten() | ~rows)
        self.seconds, self.energy = (one.masked_fill(rows, 0) for one in (self.seconds, self.energy))
        for one in self.tracks.keys() & set(worlds.tolist()):
            self.tracks[one] = [self.pose[one].clone()]
        return self.zeros(self.rules.observation_size).masked_scatter(rows.unsqueeze(1), flat(view))

    def _next(self, count: int) -> Layout:
        """The worlds that begin now: sampled, or the next ones of the file, from the first again after the last."""
        if self.given is not None:
            order = torch.arange(count, device=self.device) + self.next_world
            self.next_world = self.next_world + count
            return self.given.take(order % len(self.given.start))
        layout, _ = sample(count, self.rules, self.dtype, self.generator)
        if not layout.robot_exists.any(1).all():
            raise ConfigError(f"min_start_goal_dis: got {self.rules.min_start_goal_dis:g}, but no robot found room in "
                              f"{self.rules.proposals} proposals; expected a smaller distance")
        if line := shortfall(layout, self.rules):
            logging.getLogger("envs.marinenav").info(line)
        return layout.padded(*self._sizes())

    def frozen(self, count: int, schedule: Mapping[str, Any] | None = None, seed: int | None = None) -> MarineNav:
        """Return an environment whose worlds are frozen: a reset of all begins the same ones.

        Args:
            count: the number of worlds: of the file `worlds`, from the first again after its last, or sampled.
            schedule: what they are sampled by instead, see `frozen.stages_of`; it says their number.
            seed: of worlds that are sampled by the settings; None, and with a schedule: `frozen.SEED`.
        """
        if self.given is not None:
            layout = self.given.take(torch.arange(count, device=self.device) % len(self.given.start))
        else:
            stages = stages_of(schedule) if schedule else [{COUNT: count}]
            layout = freeze(stages, self.settings, SEED if seed is None or schedule else seed)
        sizes = dict(zip(("num_robots", "num_cores", "num_obstacles"), layout.sizes(), strict=True))
        env = type(self)(len(layout.start), self.device, 0, self.dtype, **self.settings | sizes | {"worlds": ""})
        env.given = layout.to(self.dtype, self.device)
        return env

    def path(self) -> Tensor:
        """Where the robots are, (N, 13): pose, velocity through the water and over ground, 0, 0, thrust.

        The published trajectories have the angles of the thrusters in the places of both zeros.
        """
        still = torch.zeros_like(self.thrust)
        return torch.cat([self.pose, self.velocity_r, self.velocity, still, self.thrust], -1).flatten(0, 1)

    def _draw(self, layout: Layout) -> Tensor | None:
        robots, _, obstacles = layout.sizes()
        shape = (len(layout.start), robots, obstacles + robots)
        return self.noise.draw(shape, self.generator) if self.noise else None

    def _step(self, acts: Tensor) -> Step:
        if not self.rules.discrete:
            acts = acts.to(self.dtype).clamp(-1, 1)
        layout, state = self.layout(), self.world_state()
        change = thrust_change(acts, self.rules, self.dtype).view(self.num_groups, -1, 2)
        after, view, step = world.step(state, layout, change, self._draw(layout), self.rules)
        self._keep(None, after)
        acted = state.active
        self.seconds = self.seconds + acted.flatten() * self.rules.period
        self.energy = self.energy + world.energy(after, acted, self.rules).flatten()
        for one, track in self.tracks.items():
            track.append(self.pose[one].clone())
        info = {"rewards": self._parts(step, acted), "metrics": self._metrics(), "state": step.info.flatten()}
        return (flat(view), step.reward.flatten(), step.terminated.flatten(), step.truncated.flatten(), info)

    def _parts(self, step: world.Step, acted: Tensor) -> dict[str, Tensor]:
        """The parts of the reward, (N,) each."""
        rules, no = self.rules, torch.zeros_like(step.reward)
        parts = {"time": no + rules.timestep_penalty, "progress": step.progress,
                 "rules": rules.COLREGs_penalty * step.penalty,
                 "collision": torch.where(step.info == 2, rules.collision_penalty, no),
                 "goal": torch.where(step.info == 3, rules.goal_reward, no)}
        return {name: torch.where(acted, part, no).flatten() for name, part in parts.items()}

    def _metrics(self) -> dict[str, Tensor]:
        """The episode so far, (N,) each; `all_succeeded` is of the whole world."""
        arrived = self.reach_goal & ~self.collision
        everyone = (arrived | ~self.robot_exists).all(1, keepdim=True).expand_as(arrived)
        distance = world.distance_to_goal(self.world_state(), self.layout())
        found = {"success": arrived, "all_succeeded": everyone, "collision": self.collision,
                 "distance_to_goal": distance}
        return ({name: value.flatten().to(self.dtype) for name, value in found.items()}
                | {"time": self.seconds, "energy": self.energy})

    def render(self, row: int = 0) -> np.ndarray:
        """Draw the world of a row: the map, the current, wakes, obstacles, boats and goals; RGB, uint8 (H, W, 3)."""
        from envs.marinenav.drawing import draw_world
        one = row // self.rows_per_group
        self.tracks.setdefault(one, [self.pose[one].clone()])
        return draw_world(self.layout(), self.world_state(), one, torch.stack(self.tracks[one]), self.rules)


def flat(view: world.View) -> Tensor:
    """Return observations as rows, (N, 7 + 6 M)."""
    sight = view.sight
    parts = [view.own, sight.objects.flatten(2), sight.seen.to(view.own.dtype)]
    return torch.cat(parts, -1).flatten(0, 1)
