"""MarineNav as TorchRL's environment: its specs, its ends and beginnings, and that its worlds are the package's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from boats import SMALL
from torchrl.envs import check_env_specs
from torchrl.envs.utils import step_mdp

from envs.curriculum_forms import of_form
from envs.marinenav.env import MarineNav
from envs.marinenav.files import write_worlds
from envs.training_env import TrainingEnv
from torchrl_gpu.marinenav_torchrl_env import MarineNavTorchRLEnv
from utils.errors import ConfigError

SCHEDULE = SMALL["training_schedule"]


def worlds(count=2, limit=6, seed=0, **settings) -> TrainingEnv:
    known = {"num_robots": 2, "num_cores": 1, "num_obstacles": 2, "min_start_goal_dis": 15.0}
    return TrainingEnv(MarineNav(count, seed=seed, **known | settings), limit, paid_at_end=False)


def env_of(count=2, limit=6, curriculum=None, **settings) -> MarineNavTorchRLEnv:
    own = worlds(count, limit, **settings)
    return MarineNavTorchRLEnv(worlds=own, curriculum=curriculum and of_form(curriculum, own))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("discrete", [False, True])
def test_the_specs_say_what_the_environment_gives(discrete, device):
    env = MarineNavTorchRLEnv(seed=3, schedule=SCHEDULE, env_batch_size=3, discrete=discrete, device=device)
    check_env_specs(env)
    assert env.batch_size == (3,)
    assert env.action_spec.shape == ((3, 3, 1) if discrete else (3, 3, 2))
    assert env.action_spec.dtype == (torch.int64 if discrete else torch.float32)
    assert {name: tuple(env.reset()[name].shape) for name in ("self_state", "objects_state", "objects_mask")} == {
        "self_state": (3, 3, 7), "objects_state": (3, 3, 5, 5), "objects_mask": (3, 3, 5)}


def test_a_rollout_is_that_of_the_worlds_by_themselves():
    """Every step and every reset, over several episodes of both worlds, with the same seed and actions."""
    ours, env = worlds(3, seed=5), MarineNavTorchRLEnv(worlds=worlds(3, seed=5))
    obs, td, generator, ended = ours.reset(), env.reset(), torch.Generator().manual_seed(1), 0
    for _ in range(20):
        active = ours.active
        flat = torch.cat([td["self_state"], td["objects_state"].flatten(-2), td["objects_mask"].float()], -1)
        assert torch.equal(flat.flatten(0, 1), obs)
        assert torch.equal(td["active"].flatten(), active)
        acts = torch.rand(6, 2, generator=generator) * 2 - 1
        obs, rews, terminated, truncated, _ = ours.step(acts)
        stepped, td = env.step_and_maybe_reset(td.set("action", acts.view(3, 2, 2)))
        after = stepped["next"]
        last = torch.cat([after["self_state"], after["objects_state"].flatten(-2), after["objects_mask"].float()], -1)
        assert torch.equal(last.flatten(0, 1), obs)         # of the end, not of the next episode's beginning
        assert torch.equal(after["reward"].flatten(), rews)
        for name, flags in (("terminated", terminated), ("truncated", truncated)):
            assert torch.equal(after[name].flatten()[active], flags[active])
        assert torch.equal(after["done"].flatten(), ~ours.active)
        ended += int(after["done"].all(1).sum())
        obs = ours.reset((terminated | truncated) & active)
    assert ended >= 6


def test_a_world_begins_anew_when_all_of_its_robots_are_done():
    """A robot that waits stays done and is paid nothing; the other world goes on."""
    env = env_of(count=2, limit=50)
    td = env.reset()
    place = env.env.task.layout().goal[0, 0]
    env.env.task.pose[0, 0, :2] = place                                 # the first robot is at its goal
    stepped, td = env.step_and_maybe_reset(td.set("action", torch.zeros(2, 2, 2)))
    assert stepped["next", "terminated"].squeeze(-1).tolist() == [[True, False], [False, False]]
    assert td["done"].squeeze(-1).tolist() == [[True, False], [False, False]]
    assert td["active"].squeeze(-1).tolist() == [[False, True], [True, True]]
    stepped, td = env.step_and_maybe_reset(td.set("action", torch.ones(2, 2, 2)))
    assert (stepped["next", "reward"][0, 0], stepped["next", "terminated"][0, 0]) == (0, True)
    before, steps = td["self_state"].clone(), env.env.steps.clone()
    env.env.task.pose[0, 1, :2] = env.env.task.layout().goal[0, 1]
    stepped, td = env.step_and_maybe_reset(td.set("action", torch.zeros(2, 2, 2)))
    assert stepped["next", "done"][0].all()
    assert not td["done"].any()
    assert td["active"].all()
    assert (td["self_state"][0] != before[0]).any(-1).all()
    assert env.env.steps.tolist() == [0, 0, *(steps[2:] + 1).tolist()]
    assert torch.equal(td["self_state"][1], stepped["next", "self_state"][1])


@pytest.mark.parametrize("flags", [[[[True], [True]], [[False], [False]]], [True, False]], ids=["robots", "worlds"])
def test_a_reset_of_one_world_leaves_the_others(flags):
    env = env_of(count=2, limit=50)
    td = env.reset()
    for _ in range(3):
        td = step_mdp(env.step(td.set("action", torch.ones(2, 2, 2))))
    before = td["self_state"].clone()
    td = env.reset(td.set("_reset", torch.tensor(flags)))
    assert torch.equal(td["self_state"][1], before[1])
    assert (td["self_state"][0] != before[0]).any(-1).all()
    assert env.env.steps.tolist() == [0, 0, 3, 3]


def test_stages_count_the_steps_of_all_worlds_and_begin_with_a_reset():
    """At 30 steps of 5 worlds a world with 3 robots begins; before it, places without a robot are never active."""
    for count, due in ((1, 30), (5, 6)):
        env = env_of(count, limit=3, curriculum=SCHEDULE, num_robots=3)
        td, there = env.reset(), []
        for _ in range(due + 3):
            there.append(int(td["active"][0].sum()))
            _, td = env.step_and_maybe_reset(td.set("action", torch.zeros(count, 3, 2)))
        assert there[:due] == [2] * due
        assert there[due:] == [3] * 3


def test_a_stage_that_follows_from_episodes_begins_after_them():
    form = {"stages": [{"settings": {"num_robots": 1}, "until": {"length": [None, 5]}, "episodes": 4}, {}]}
    env = env_of(2, limit=3, curriculum=form)
    td = env.reset()
    counts = []
    for _ in range(8):
        counts.append(int(td["active"][0].sum()))
        _, td = env.step_and_maybe_reset(td.set("action", torch.zeros(2, 2, 2)))
    assert counts == [1] * 6 + [2] * 2


def test_worlds_of_evaluation_are_frozen_and_those_of_a_file_are_played():
    env = MarineNavTorchRLEnv(schedule=SMALL["eval_schedule"], is_eval_env=True)
    assert env.batch_size == (3,)
    first, second = env.reset(), env.reset()
    assert torch.equal(first["active"], second["active"])
    assert first["active"].squeeze(-1).sum(1).tolist() == [2, 2, 4]
    assert torch.allclose(first["self_state"][..., :4], second["self_state"][..., :4])         # goals and speeds: exact
    write_worlds("worlds.json", env.env.task.given, env.env.task.rules, as_published=True, seed=253)
    world = json.loads(Path("worlds.json").read_text())[2]
    other = env_of(2, num_robots=4)
    td = other.reset_with_eval_config(world)
    assert torch.allclose(td["self_state"], first["self_state"][2:].expand(2, -1, -1), atol=1e-5)
    td = other.reset()
    assert not torch.allclose(td["self_state"], first["self_state"][2:].expand(2, -1, -1), atol=1)
    with pytest.raises(ConfigError, match="eval_config: got 4 robots, expected at most 2"):
        env_of().reset_with_eval_config(world)
    with pytest.raises(ConfigError, match=r"eval_config: .*expected one world of eval_configs\.json"):
        env_of().reset_with_eval_config({"env": {}})


def test_a_seed_gives_the_same_worlds_again():
    one, two = (MarineNavTorchRLEnv(seed=seed, num_robots=2) for seed in (0, 1))
    one.set_seed(7)
    two.set_seed(7)
    assert torch.equal(one.reset()["self_state"], two.reset()["self_state"])
