"""MarineNav as an environment of TorchRL: a batch of worlds, each with several robots, as tensors on one device.

The worlds are those of `envs.marinenav`; here their tensors get TorchRL's keys. A robot that has collided, arrived or
run out of time is done and takes no part any more (`active`); its world begins anew when all of its robots are done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from envs.curriculum import Curriculum, Schedule
from envs.curriculum_forms import of_form
from envs.marinenav import published
from envs.marinenav.env import MarineNav
from envs.marinenav.layout import Layout
from envs.task_settings import checked
from envs.training_env import TrainingEnv
from learner.staging import Staged
from utils.errors import ConfigError
from utils.settings.marinenav_form import LONGEST, ROBOTS
from utils.text import one_line

OWN, OBJECT = 7, 5              # numbers of a robot itself, and of each object that it sees
OnStep = Callable[[Mapping[str, Any], Tensor], Any]


class MarineNavTorchRLEnv(EnvBase):
    """E worlds of up to R robots that see up to M objects; the batch is [E].

    Keys: `self_state` [E, R, 7], `objects_state` [E, R, M, 5], `objects_mask` [E, R, M] bool, `active` [E, R, 1] bool,
    whether a robot takes part in the next step; `action` [E, R, 2] in [-1, 1], or [E, R, 1] int64; `reward`, `done`,
    `terminated` and `truncated` [E, R, 1]. After its own end a robot has reward 0 and stays done. A place that has no
    robot, in a world with fewer than R, is never active.

    Attributes:
        env: the worlds by themselves, an `envs.training_env.TrainingEnv`; a robot is a row.
        steps: joint actions of each world so far, by which a schedule begins its stages.
        on_step: called as (info, active) after each step: what the worlds tell of it; the rows that took part, (N,).
    """

    batch_locked = True

    def __init__(self, seed: int = 0, schedule: Mapping[str, Any] | None = None, is_eval_env: bool = False,
                 device: torch.device | str = "cpu", max_obj_num: int = 5, env_batch_size: int = 1, *,
                 discrete: bool = False, worlds: TrainingEnv | None = None, curriculum: Curriculum | None = None,
                 processes: int = 1, **settings: Any):
        """Build the worlds, which `reset` begins.

        Args:
            seed: of all draws of training worlds; those of evaluation are frozen by a seed of their own.
            schedule: lists of the same length by name: `timesteps`, or for evaluation `num_episodes`, and `num_robots`,
                `num_cores`, `num_obstacles`, `min_start_goal_dis`.
            is_eval_env: whether the worlds are frozen: each reset of all begins the same ones, as many as `schedule`
                says, or `env_batch_size`.
            max_obj_num: M.
            env_batch_size: E.
            discrete: whether actions are indices.
            worlds: existing worlds, instead of all the above; `curriculum` is theirs.
            processes: how many processes have such worlds, whose steps a schedule counts together.
            settings: others of `envs.marinenav.settings.Settings`.
        Raises:
            ConfigError: a setting or the schedule is invalid.
        """
        if worlds is None:
            known = {"max_obj_num": max_obj_num, "discrete": discrete, **settings}
            worlds, curriculum = _built(seed, schedule, is_eval_env, torch.device(device), env_batch_size, known)
        super().__init__(device=worlds.device, batch_size=torch.Size([worlds.num_groups]))
        self.env, self.processes, self.steps, self.continues = worlds, processes, 0, False
        self.staged = Staged(worlds, curriculum)
        self.curriculum_text = json.dumps(schedule) if schedule and not is_eval_env else "none"
        self.on_step: OnStep | None = None
        self.robots, self.most = worlds.rows_per_group, worlds.task.rules.max_obj_num
        self.discrete = worlds.task.rules.discrete
        self._make_specs()

    def _make_specs(self) -> None:
        """Say what each key holds."""
        shape, kind = (*self.batch_size, self.robots), {"device": self.device}
        flag = {"n": 2, "dtype": torch.bool, **kind}
        number = {"dtype": self.env.dtype, **kind}
        self.observation_spec = Composite(
            self_state=Unbounded(shape=(*shape, OWN), **number),
            objects_state=Unbounded(shape=(*shape, self.most, OBJECT), **number),
            objects_mask=Categorical(shape=(*shape, self.most), **flag), active=Categorical(shape=(*shape, 1), **flag),
            shape=self.batch_size, **kind)
        self.action_spec = (Categorical(self.env.task.rules.num_actions, shape=(*shape, 1), dtype=torch.int64, **kind)
                            if self.discrete else Bounded(-1.0, 1.0, shape=(*shape, 2), **number))
        self.reward_spec = Unbounded(shape=(*shape, 1), **number)
        self.done_spec = Composite({name: Categorical(shape=(*shape, 1), **flag)
                                    for name in ("done", "terminated", "truncated")}, shape=self.batch_size, **kind)

    # What TorchRL calls ---------------------------------------------------------------------------------------------

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        """Take one joint action of all worlds; nothing is read back to the host."""
        acts = tensordict.get("action").flatten(0, 1)
        took_part = self.env.active
        obs, rews, terminated, truncated, info = self.env.step(acts[:, 0] if self.discrete else acts)
        self.steps += 1
        self._tell(info, took_part, (terminated | truncated) & took_part)
        task, gone = self.env.task, ~took_part
        terminated = terminated | gone & (task.collision | task.reach_goal).flatten()
        done = ~self.env.active
        return self._packed(obs, done, terminated).set("reward", self._column(rews.masked_fill(gone, 0)))

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDict:
        """Begin anew the worlds whose robots are all in `_reset`, or done; all worlds without that entry."""
        rows = self._asked(tensordict)
        if self.continues and self.env.obs is not None:         # a restored state goes on
            self.continues = False
            return self._packed(self.env.obs, torch.zeros_like(self.env.active))
        if self.steps and isinstance(self.staged.curriculum, Schedule):
            self._advance(torch.ones_like(self.env.active), {"metrics": {}, "return": self.env.returns,
                                                             "length": self.env.steps})
        obs = self.env.reset(rows)
        done = torch.zeros_like(self.env.active) if rows is None else ~self.env.active & ~rows
        return self._packed(obs, done)

    def _set_seed(self, seed: int | None) -> None:
        """Seed the draws of the worlds."""
        if seed is not None:
            self.env.generator.manual_seed(seed)

    def any_done(self, tensordict: TensorDictBase) -> bool:
        """Return whether a world begins anew, and write which ones to `_reset`; see `EnvBase.any_done`.

        Here the host waits for the device, once a step: TorchRL itself decides whether to call `reset`.
        """
        begins = self.env.beginning(tensordict.get("done").flatten())
        if not begins.any():
            return False
        tensordict.set("_reset", self._column(begins))
        return True

    # Helpers --------------------------------------------------------------------------------------------------------

    def _asked(self, tensordict: TensorDictBase | None) -> Tensor | None:
        """Return the rows of `_reset`, (N,), which may have one flag for a robot or for a world."""
        flags = None if tensordict is None else tensordict.get("_reset", None)
        if flags is None:
            return None
        return flags.reshape(*self.batch_size, -1).expand(-1, self.robots).flatten()

    def _packed(self, obs: Tensor, done: Tensor, terminated: Tensor | None = None) -> TensorDict:
        """Return observations (N, O), and flags (N,), by their keys."""
        terminated = torch.zeros_like(done) if terminated is None else terminated & done
        own, objects, seen = obs.unflatten(0, (-1, self.robots)).split(
            [OWN, OBJECT * self.most, self.most], -1)
        flags = {"active": self.env.active, "done": done, "terminated": terminated, "truncated": done & ~terminated}
        return TensorDict({"self_state": own, "objects_state": objects.unflatten(-1, (self.most, OBJECT)),
                           "objects_mask": seen > 0, **{name: self._column(flag) for name, flag in flags.items()}},
                          batch_size=self.batch_size, device=self.device)

    def _column(self, values: Tensor) -> Tensor:
        """(N,) -> [E, R, 1]."""
        return values.view(*self.batch_size, self.robots, 1)

    def _tell(self, info: Mapping[str, Any], took_part: Tensor, over: Tensor) -> None:
        """Pass on what a step told; stages that follow from episodes are advanced here, which reads them."""
        if self.on_step is not None:
            self.on_step(info, took_part)
        if self.staged.curriculum is not None and not isinstance(self.staged.curriculum, Schedule):
            self._advance(over, info)

    def _advance(self, over: Tensor, info: Mapping[str, Any]) -> None:
        self.staged.update(over, info, self.steps * self.processes)

    # Frozen worlds --------------------------------------------------------------------------------------------------

    def reset_with_eval_config(self, config: Mapping[str, Any]) -> TensorDictBase:
        """Begin all worlds as one of `eval_configs.json` says; return what `reset` does.

        Raises:
            ConfigError: it is not of that form, or has more robots or other settings than this environment.
        """
        try:
            layout, given = published.read_world(config)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise ConfigError(f"eval_config: {one_line(error)}; expected one world of eval_configs.json") from None
        task, robots = self.env.task, layout.sizes()[0]
        if robots > self.robots:
            raise ConfigError(f"eval_config: got {robots} robots, expected at most {self.robots}, with which the "
                              "environment was made")
        own = task.checked({name: value for name, value in given.items() if name != "max_obj_num"})
        before, task.given = task.given, _repeated(layout, self.batch_size[0], self.robots).to(task.dtype, task.device)
        try:
            task.configure(**own)
            task.next_world = torch.zeros_like(task.next_world)
            return self.reset()
        finally:
            task.given = before

    # Saved state ----------------------------------------------------------------------------------------------------

    def worlds_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what `restore_worlds` takes: JSON values, and tensors on the CPU."""
        return {"steps": self.steps, "curriculum": self.staged.state()}, self.env.state()

    def restore_worlds(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
        """Restore what `worlds_state` returned; the next `reset` continues there. Returns the rows that are lost, (N,).
        """
        self.steps = values["steps"] + 0                                    # a TypeError unless it is a number
        self.staged.restore(values["curriculum"])
        lost = self.env.restore(tensors)
        self.continues = True
        return lost


def _built(seed: int, schedule: Mapping[str, Any] | None, is_eval_env: bool, device: torch.device, worlds: int,
           settings: dict[str, Any]) -> tuple[TrainingEnv, Curriculum | None]:
    """Return new worlds, and their curriculum."""
    most = max((schedule or {}).get("num_robots", [settings.get("num_robots", ROBOTS)]))
    settings = checked("MarineNav", MarineNav.SETTINGS, MarineNav.LIMITS, settings | {"num_robots": most})
    task = MarineNav(worlds, device, seed, torch.float32, **settings)
    if is_eval_env:
        task = task.frozen(worlds, schedule)
    env = TrainingEnv(task, LONGEST, paid_at_end=False)
    return env, of_form(schedule, task) if schedule and not is_eval_env else None


def _repeated(layout: Layout, count: int, robots: int) -> Layout:
    """Return one world `count` times, with room for so many robots."""
    _, cores, obstacles = layout.sizes()
    return layout.padded(robots, cores, obstacles).take(torch.zeros(count, dtype=torch.int64))


