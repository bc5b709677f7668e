"""MarineNav as a tensor environment: rows, who is active, the time limit, state, settings, frozen worlds."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from envs import make_env
from envs.marinenav import world
from envs.marinenav.env import MarineNav
from envs.marinenav.files import read_worlds, write_worlds
from envs.marinenav.settings import DEFAULTS, Settings
from utils.errors import ConfigError
from utils.settings.resolve import resolve

CALM = {"num_cores": 0, "num_obstacles": 0, "noise": False}


def straight(env, thrust=1.0):
    return torch.full((env.num_envs, 2), thrust)


def play(env, steps, seed=0):
    """Random actions with resets; returns all that the environment gave."""
    draw, found = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        acts = 2 * torch.rand(env.num_envs, 2, generator=draw) - 1
        active = env.active
        obs, rews, terminated, truncated, info = env.step(acts)
        found += [obs, rews, terminated, truncated, active, info["state"], *info["metrics"].values()]
        env.reset(terminated | truncated)
        found.append(env.obs)
    return found


@pytest.mark.filterwarnings("ignore:.*infinity")
def test_one_row_passes_gymnasiums_check():
    env = gym.make("MarineNav-v0", render_mode="rgb_array").unwrapped
    check_env(env, skip_render_check=True)
    assert env.observation_space.shape == (37,)
    obs, _ = env.reset(seed=1)
    assert np.array_equal(obs, env.reset(seed=1)[0])
    assert env.render().dtype == np.uint8


def test_rows_are_robots_of_worlds():
    env = MarineNav(5, num_robots=3, seed=2)
    obs = env.reset()
    assert env.num_envs == 15
    assert obs.shape == (15, 37)
    assert env.row_group.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    goal = torch.linalg.vector_norm(obs[:, :2], dim=1)
    assert (goal >= 29.9).all()
    seen = obs[:, 32:].sum(1)
    assert torch.equal(obs[:, 7:32].view(15, 5, 5)[..., 4] > 0, torch.arange(5) < seen[:, None])


def test_a_robot_that_is_done_waits_for_its_world():
    """It is inactive, invisible and stands still until all of its world are done; then the world begins anew."""
    env = MarineNav(4, num_robots=3, seed=5, max_steps=60)
    env.reset()
    waited, begun = 0, 0
    for _ in range(130):
        place, active = env.pose.clone(), env.active.clone()
        _, rews, terminated, truncated, info = env.step(straight(env))
        still = ~active.view(4, 3)
        assert torch.equal(env.pose[still], place[still])
        assert not rews[~active].any()
        assert not (terminated | truncated)[~active].any()
        assert (info["state"][~active] >= 4).all()
        over = ~(active & ~(terminated | truncated)).view(4, 3).any(1)
        before = env.steps.clone()
        env.reset(terminated | truncated)
        assert torch.equal(env.steps == 0, over | (before == 0))
        assert env.active.view(4, 3)[over].all()
        waited, begun = waited + int(still.sum()), begun + int(over.sum())
    assert waited > 20
    assert begun > 4


def test_the_time_limit_truncates_at_the_action_after_it():
    env = MarineNav(1, num_robots=2, max_steps=3, seed=1, **CALM)
    env.reset()
    for number in range(4):
        _, _, terminated, truncated, info = env.step(straight(env, 0.0))
        assert not terminated.any()
        assert truncated.tolist() == [number == 3] * 2
    assert [world.INFO[one] for one in info["state"]] == ["too long episode"] * 2


def test_rewards_are_their_parts_and_metrics_count():
    env = MarineNav(3, num_robots=4, seed=3, goal_reward=7.0)
    env.reset()
    energy = torch.zeros(12)
    for step in range(1, 40):
        active = env.active
        _, rews, _, _, info = env.step(straight(env))
        assert torch.allclose(sum(info["rewards"].values()), rews, atol=1e-5)
        energy += 0.5 * env.thrust.abs().sum(-1).flatten() * active
        assert torch.allclose(info["metrics"]["energy"], energy)
        assert (info["metrics"]["time"][env.active] == 0.5 * step).all()


def test_the_same_seed_gives_the_same_and_a_state_resumes():
    one, two = (MarineNav(3, num_robots=2, seed=9) for _ in range(2))
    one.reset()
    two.reset()
    assert all(torch.equal(a, b) for a, b in zip(play(one, 40), play(two, 40), strict=True))
    other = MarineNav(3, num_robots=2, seed=1)
    other.restore(one.state())
    assert all(torch.equal(a, b) for a, b in zip(play(one, 60, 4), play(other, 60, 4), strict=True))


def test_a_state_with_more_cores_than_the_environment_was_made_with_is_restored():
    one, two = (MarineNav(2, seed=9, num_cores=2) for _ in range(2))
    one.reset()
    one.configure(num_cores=6, num_obstacles=12)
    play(one, 5)
    one.reset()
    two.restore(one.state())
    assert two.settings["num_cores"] == 6
    assert all(torch.equal(a, b) for a, b in zip(play(one, 30), play(two, 30), strict=True))


def test_settings_change_as_worlds_begin():
    env = MarineNav(2, num_robots=4, num_cores=3, seed=0)
    env.reset()
    env.configure(num_robots=2, num_cores=8, num_obstacles=1, min_start_goal_dis=40)
    assert int(env.layout().robot_exists.sum()) == 8
    env.reset()
    layout = env.layout()
    assert layout.robot_exists.tolist() == [[True, True, False, False]] * 2
    assert env.active.view(2, 4).tolist() == layout.robot_exists.tolist()
    assert not env.reach_goal.any()                             # a place without a robot has no goal
    assert (layout.strength != 0).sum(1).tolist() == [8, 8]
    assert layout.obstacle_exists.sum(1).tolist() == [1, 1]
    assert (torch.linalg.vector_norm(layout.goal - layout.start, dim=-1)[:, :2] >= 40).all()
    _, _, terminated, truncated, _ = env.step(straight(env))
    assert not (terminated | truncated).view(2, 4)[:, 2:].any()


@pytest.mark.parametrize(("settings", "says"), [
    ({"num_robots": 5}, "num_robots: got 5, expected at most 4"), ({"discrete": True}, "discrete"),
    ({"max_obj_num": 3}, "max_obj_num"), ({"num_core": 3}, "num_cores"), ({"dt": 0}, "dt")])
def test_settings_that_cannot_change_are_refused(settings, says):
    env = MarineNav(1, num_robots=4)
    with pytest.raises(ConfigError, match=says):
        env.configure(**settings)


def test_a_world_without_room_for_a_robot_is_refused():
    with pytest.raises(ConfigError, match="min_start_goal_dis: got 90"):
        MarineNav(1, min_start_goal_dis=90).reset()


def test_discrete_actions_are_pairs_of_changes():
    """Index 5 left + right, each of 0, -500, -1000, 500, 1000 N/s, for half a second."""
    env = MarineNav(25, discrete=True, seed=0, **CALM)
    env.reset()
    env.step(torch.full((25,), 24))
    env.step(torch.arange(25))
    half = torch.tensor([0.0, -250, -500, 250, 500])
    expected = torch.stack([half.repeat_interleave(5), half.repeat(5)], 1) + 500
    assert torch.equal(env.thrust[:, 0], expected.clamp(-500, 1000))


def test_an_agent_of_indices_is_told_of_the_setting():
    config = resolve({"alg": "iqn", "env": "MarineNav-v0"})
    with pytest.raises(ConfigError, match=r"""--env_kwargs='\{"discrete": true\}' makes them"""):
        make_env(config)


def test_actions_are_clipped_to_their_bounds():
    env = MarineNav(1, seed=0, **CALM)
    env.reset()
    env.step(torch.tensor([[3.0, -2.0]]))
    assert env.thrust[0, 0].tolist() == [500, -500]


def test_float64_is_kept():
    env = MarineNav(2, dtype=torch.float64)
    assert env.reset().dtype == torch.float64
    assert env.step(straight(env).double())[1].dtype == torch.float64


def test_frozen_worlds_are_played_in_order_with_the_current_at_once(tmp_path):
    """Three worlds in two groups: the third begins in the group that is over first, then the first again."""
    source = MarineNav(3, num_robots=2, seed=6)
    source.reset()
    layout, rules = source.layout(), source.rules
    write_worlds(tmp_path / "worlds.json", layout, rules)
    env = MarineNav(2, worlds=str(tmp_path / "worlds.json"))
    env.reset()
    assert env.rows_per_group == 2
    assert torch.equal(env.start, layout.start[:2])
    assert not torch.equal(env.velocity, env.velocity_r)        # a sampled world begins without the current
    assert torch.equal(source.velocity, source.velocity_r)
    env.reset(torch.tensor([False, False, True, True]))
    assert torch.equal(env.start, layout.start[[0, 2]])
    env.reset(torch.tensor([True, True, False, False]))
    assert torch.equal(env.start, layout.start[[0, 2]])


@pytest.mark.parametrize("as_published", [False, True])
def test_worlds_are_read_as_they_were_written(as_published, tmp_path):
    env = MarineNav(3, num_robots=4, num_cores=5, dtype=torch.float64, goal_dis=3.0, collision_penalty=-9.0)
    env.reset()
    path = tmp_path / "worlds.json"
    write_worlds(path, env.layout(), env.rules, as_published)
    layout, given = read_worlds(path)
    for name, tensor in layout.tensors().items():
        assert torch.equal(tensor, getattr(env, name)), name
    rules = Settings(**DEFAULTS | given)
    assert vars(rules) == vars(env.rules)
