"""Tensor environments: rows, groups, settings, state, and what a task may not return."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Tuple
from gymnasium.utils.env_checker import check_env
from tasks import Team, Walk

from envs import make_env
from envs.build import build_env
from envs.point_mass import PointMassRL
from envs.push_cube import PushCubeRL
from envs.registration import register_env, tensor_class
from envs.tensor import TensorEnv
from envs.training_env import TrainingEnv
from utils.errors import ConfigError
from utils.settings.resolve import resolve

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def acts_of(env: TensorEnv, steps: int, seed: int = 0) -> torch.Tensor:
    """Actions for each step, (T, N, ...)."""
    draws = torch.rand(steps, env.num_envs, *env.action_space.shape, generator=torch.Generator().manual_seed(seed))
    return (draws * 2 - 1 if env.action_space.shape else (draws * 2).long()).to(env.device)


def play(env: TensorEnv, acts: torch.Tensor) -> list[tuple]:
    """What happens: (active, obs of the step, rews, terminated, truncated, obs after the reset) of each step."""
    found = []
    for one in acts:
        active = env.active
        obs, rews, terminated, truncated, _ = env.step(one)
        found.append((active, obs, rews, terminated, truncated, env.reset(terminated | truncated)))
    return found


def flat(found) -> list[torch.Tensor]:
    return [tensor for step in found for one in step
            for tensor in (one.values() if isinstance(one, dict) else [one])]


def same(one: list[tuple], other: list[tuple]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(flat(one), flat(other), strict=True))


def training(task: TensorEnv) -> TrainingEnv:
    return TrainingEnv(task, 5, True)


KINDS = {"walk": lambda device, seed=0: Walk(5, device, seed), "team": lambda device, seed=0: Team(4, device, seed),
         "push cube": lambda device, seed=0: PushCubeRL(5, device, seed, episode_length=6),
         "point mass": lambda device, seed=0: PointMassRL(5, device, seed, max_episode_steps=6),
         "training": lambda device, seed=0: training(Walk(5, device, seed)),
         "training of a team": lambda device, seed=0: training(Team(4, device, seed))}


@pytest.fixture(params=[*KINDS])
def make(request):
    return KINDS[request.param]


@pytest.mark.parametrize("device", DEVICES)
def test_shapes_dtypes_and_device(make, device):
    if device == "cuda" and isinstance(make(device), Team):
        pytest.skip("a task for the CPU")
    env = make(device)
    obs = env.reset()
    obs_next, rews, terminated, truncated, info = env.step(acts_of(env, 1)[0])
    for one in (obs, obs_next):
        for tensor in one.values() if isinstance(one, dict) else [one]:
            assert (len(tensor), tensor.dtype, tensor.device.type) == (env.num_envs, torch.float32, device)
    assert (rews.shape, rews.dtype) == ((env.num_envs,), torch.float32)
    assert (terminated.dtype, truncated.dtype) == (torch.bool, torch.bool)
    assert set(info.get("metrics", {})) == set(env.metrics)
    assert env.generator.device.type == device


def test_the_seed_determines_everything(make):
    runs = []
    for seed in (1, 1, 2):
        env = make("cpu", seed)
        env.reset()
        runs.append(play(env, acts_of(env, 30)))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


@pytest.mark.parametrize("after", [0, 1, 4, 23])
def test_a_state_restores_the_middle_of_the_episodes(make, after):
    env, acts = make("cpu", 3), acts_of(make("cpu"), 60)
    env.reset()
    play(env, acts[:after])
    saved = env.state()
    whole = play(env, acts[after:])
    assert saved.keys() == env.state().keys()
    other = make("cpu", 9)
    assert not other.restore(saved).any()
    assert same(play(other, acts[after:]), whole)


def test_a_saved_state_is_a_copy(make):
    env = make("cpu", 3)
    env.reset()
    saved = env.state()
    before = {name: tensor.clone() for name, tensor in saved.items()}
    play(env, acts_of(env, 20))
    assert all(torch.equal(saved[name], before[name]) for name in saved)
    other = make("cpu", 4)
    other.restore(saved)
    play(other, acts_of(env, 20))
    assert all(torch.equal(saved[name], before[name]) for name in saved)


def test_a_state_of_another_number_of_rows_is_refused():
    env = Walk(3)
    env.reset()
    with pytest.raises(ConfigError, match=r"^env: got a state with torch.float32 \(3,\) as place, expected .* \(4,\)"):
        Walk(4).restore(env.state())


# Rows -----------------------------------------------------------------------------------------------------------------

def test_only_the_rows_of_the_mask_begin_anew():
    env = PointMassRL(6)
    before = env.reset()
    mask = torch.tensor([True, False, True, False, False, False])
    after = env.reset(mask)
    assert torch.equal(after[~mask], before[~mask])
    assert (after[mask, :2] != before[mask, :2]).all()
    assert torch.equal(env.obs, after)
    assert torch.equal(env.reset(torch.zeros(6, dtype=torch.bool)), after)


def test_a_row_that_is_not_reset_keeps_what_it_observed():
    """Also where observing draws noise for all rows."""
    class Noisy(Walk):
        def observe(self):
            return super().observe() + self.uniform(-1, 1, self.num_envs, 2)
    env = Noisy(4)
    env.reset()
    obs, *_ = env.step(torch.zeros(4, 1))
    mask = torch.tensor([True, False, False, True])
    after = env.reset(mask)
    assert torch.equal(after[~mask], obs[~mask])
    assert (after[mask] != obs[mask]).all()


def test_elsewhere_all_rows_are_drawn_and_some_written():
    """What a GPU does, on the CPU: the number of rows is not asked for."""
    env = PointMassRL(6, seed=1)
    env.on_cpu = False
    before = env.reset()
    mask = torch.tensor([True, False, True, False, False, False])
    assert torch.equal(env.reset(~mask)[mask], before[mask])
    after = env.reset(torch.zeros(6, dtype=torch.bool))
    assert torch.equal(after, env.obs)
    runs = []
    for _ in range(2):
        one = PointMassRL(6, seed=1, max_episode_steps=4)
        one.on_cpu = False
        one.reset()
        runs.append(play(one, acts_of(one, 30)))
    assert same(*runs)
    assert all((step[1][:, 4:6] != runs[0][0][1][:, 4:6]).any(1).all() for step in runs[0][4:8])


def test_the_last_observation_of_an_episode_is_not_lost():
    env = Walk(3, limit=2)
    env.reset()
    env.step(torch.zeros(3, 1))
    obs, _, _, truncated, _ = env.step(torch.zeros(3, 1))
    kept = obs.clone()
    assert truncated.all()
    assert torch.equal(obs[:, 1], torch.full((3,), 0.2))
    new = env.reset(truncated)
    assert torch.equal(obs, kept)
    assert torch.equal(new[:, 1], torch.zeros(3))


def test_a_reset_changes_nothing_that_info_holds():
    env = PointMassRL(4, max_episode_steps=3)
    env.reset()
    for acts in torch.ones(3, 4, 2):
        *_, truncated, info = env.step(acts)
    kept = {name: value.clone() for name, value in info["metrics"].items()}
    env.reset(truncated)
    assert all(torch.equal(info["metrics"][name], kept[name]) for name in kept)
    assert (kept["path_length"] > 0).all()
    assert (env.path_length == 0).all()


def test_a_group_begins_anew_when_all_of_its_rows_are_over():
    env = Team(2)
    first = env.reset()["others"]
    assert env.row_group.tolist() == [0, 0, 0, 1, 1, 1]
    seen = []
    for _ in range(3):
        active = env.active
        *_, terminated, truncated, _ = env.step(torch.zeros(6, dtype=torch.int64))
        obs = env.reset(terminated | truncated)
        seen.append((active.tolist()[:3], terminated.tolist()[:3], torch.equal(obs["others"], first)))
    assert seen == [([True, True, True], [True, False, False], True), ([False, True, True], [False, True, False], True),
                    ([False, False, True], [False, False, True], False)]
    assert env.active.all()
    assert (env.count == 0).all()


def test_groups_end_apart_and_may_differ_in_size():
    env = Team(2, size=2)
    env.reset()
    assert env.active.tolist() == [True, True, False] * 2
    env.configure(size=1)
    mask = torch.tensor([True] * 3 + [False] * 3)
    assert env.beginning(mask).tolist() == mask.tolist()
    env.reset(mask)
    assert env.active.tolist() == [True, False, False, True, True, False]
    half = torch.tensor([False] * 3 + [True, False, False])                 # another row of the group is active
    assert not env.beginning(half).any()


# Settings -------------------------------------------------------------------------------------------------------------

def test_a_setting_changes_with_the_next_episode_or_at_once():
    env = Walk(4)
    env.reset()
    env.configure(limit=2, speed=0.0)
    before = env.obs[:, 0]
    obs, *_ = env.step(torch.ones(4, 1))
    assert torch.equal(obs[:, 0], before)                                   # speed: at once
    mask = torch.tensor([True, False, False, True])
    env.reset(mask)
    for _ in range(2):
        *_, truncated, _ = env.step(torch.zeros(4, 1))
    assert truncated.tolist() == mask.tolist()                              # limit: with the next episode
    other = Walk(4)
    other.restore(env.state())
    assert other.settings == env.settings
    assert other.settings["limit"] == 2
    assert isinstance(other.settings["limit"], int)
    assert other.settings["pair"] == (1, 2)
    assert torch.equal(other.of_row("limit"), torch.tensor([2.0, 7, 7, 2]))


@pytest.mark.parametrize(("given", "message"), [
    ({"limmit": 3}, r"Walk has no setting 'limmit'; did you mean limit\?"),
    ({"zzz": 3}, r"Walk has no setting 'zzz'; expected one of far, limit,"),
    ({"limit": 2.5}, "Walk's setting limit: got 2.5, expected an integer"),
    ({"limit": 0}, "Walk's setting limit: got 0, expected 1 to 1000"),
    ({"far": -1}, r"Walk's setting far: got -1, expected at least 0\.0"),
    ({"far": "x"}, "Walk's setting far: got 'x', expected a number"), ({"name": 3}, "got 3, expected text"),
    ({"on": "perhaps"}, "got 'perhaps', expected true or false"), ({"pair": [1]}, r"got \[1\], expected 2 numbers"),
    ({"pair": 3}, "got 3, expected 2 numbers")])
def test_a_wrong_setting_is_refused(given, message):
    with pytest.raises(ConfigError, match=f"^env: .*{message}"):
        Walk(2, **given)
    env = Walk(2)
    with pytest.raises(ConfigError, match=message):
        env.configure(**given)
    assert env.settings == Walk(2).settings


# What a task returns --------------------------------------------------------------------------------------------------

def wrong(change) -> TensorEnv:
    """A Walk whose step is changed."""
    class Wrong(Walk):
        def _step(self, acts):
            return change(*super()._step(acts))
    return Wrong(3)


@pytest.mark.parametrize(("change", "message"), [
    (lambda o, r, d, t, i: (o[:, :1], r, d, t, i), r"float32 of shape (3, 1) as obs, expected float32 of shape (3, 2)"),
    (lambda o, r, d, t, i: (o.double(), r, d, t, i), "float64 of shape (3, 2) as obs"),
    (lambda o, r, d, t, i: (o.numpy(), r, d, t, i), "a ndarray as obs"),
    (lambda o, r, d, t, i: (o, r[:, None], d, t, i), "float32 of shape (3, 1) as rews, expected float32 of shape (3,)"),
    (lambda o, r, d, t, i: (o, r.double(), d, t, i), "float64 of shape (3,) as rews"),
    (lambda o, r, d, t, i: (o, r, d.float(), t, i), "float32 of shape (3,) as terminated, expected bool"),
    (lambda o, r, d, t, i: (o, r, d, t[:2], i), "bool of shape (2,) as truncated"),
    (lambda o, r, d, t, i: (o, r, d, t, None), "a NoneType as info, expected a dict"),
    (lambda o, r, d, t, i: (o, r, d, t, i | {"metrics": {"distance": r}}), "distance as info['metrics'], expected"),
    (lambda o, r, d, t, i: (o, r, d, t, i | {"rewards": {"near": r[:1]}}), "shape (1,) as info['rewards']['near']"),
    (lambda o, r, d, t, i: (o, r, d, t), "a tuple from _step, expected (obs, rews, terminated, truncated, info)")])
def test_a_step_of_another_shape_or_dtype_is_refused(change, message):
    env = wrong(change)
    env.reset()
    with pytest.raises(ConfigError) as error:
        env.step(torch.zeros(3, 1))
    assert str(error.value).startswith("env: Wrong gives ")
    assert message in str(error.value)


@pytest.mark.parametrize("acts", [torch.zeros(3), torch.zeros(2, 1), torch.zeros(3, 1, dtype=torch.int64), [0, 0, 0]])
def test_actions_of_another_shape_are_refused(acts):
    env = Walk(3)
    env.reset()
    with pytest.raises(ConfigError, match=r"^acts: got .*, expected floats of shape \(3, 1\)"):
        env.step(acts)


@pytest.mark.parametrize(("name", "space", "message"), [
    ("observation_space", Tuple([Box(0, 1)]), "observes Tuple"), ("action_space", Box(-1, 1, (2, 2)), "acts in Box"),
    ("observation_space", None, "has no observation_space")])
def test_spaces_that_no_algorithm_reads_are_refused(name, space, message):
    class Odd(Walk):
        def setup(self):
            super().setup()
            setattr(self, name, space)
    with pytest.raises(ConfigError, match=f"^env: Odd {message}"):
        Odd(2)


# In Gymnasium ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["PointMassRL-v0", "Walk-v0"])
@pytest.mark.usefixtures("forget")
@pytest.mark.filterwarnings("ignore:.*Box.*space.*:UserWarning")
def test_one_row_is_an_environment_of_gymnasium(name):
    register_env("Walk-v0")(Walk)
    env = gym.make(name)
    check_env(env.unwrapped, skip_render_check=name == "Walk-v0")
    assert env.spec.id == name
    seen = [[env.reset(seed=seed)[0].tolist(), *(env.step(env.action_space.high)[0].tolist() for _ in range(3))]
            for seed in (5, 5, 6)]
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.usefixtures("forget")
def test_a_registered_task_is_made_with_settings_one_row_or_many():
    register_env("Walk-v0")(Walk)
    env = gym.make("Walk-v0", far=9.0, max_episode_steps=3)                 # Gymnasium's own limit
    assert env.unwrapped.task.settings["far"] == 9
    env.reset(seed=0)
    assert [env.step(np.zeros(1))[3] for _ in range(3)] == [False, False, True]
    rows = gym.make_vec("Walk-v0", num_envs=4, far=9.0)
    assert isinstance(rows, Walk)
    assert (rows.num_envs, rows.settings["far"], rows.spec.id) == (4, 9.0, "Walk-v0")
    assert tensor_class("Walk-v0") is Walk
    assert tensor_class("PointMassRL-v0") is PointMassRL
    assert tensor_class("CartPole-v1") is None


@pytest.mark.usefixtures("forget")
def test_a_limit_may_come_with_the_registration():
    register_env("Short-v0", max_episode_steps=4)(PointMassRL)
    assert gym.make_vec("Short-v0", num_envs=2).settings["max_episode_steps"] == 4
    assert gym.make("Short-v0").unwrapped.task.settings["max_episode_steps"] == 4
    assert gym.make_vec("Short-v0", num_envs=2, max_episode_steps=5).settings["max_episode_steps"] == 5
    config = resolve({"alg": "sac", "env": "Short-v0", "num_envs": 3})
    for task in (make_env(config).unwrapped.task, build_env(config).task):
        assert task.settings["max_episode_steps"] == 4
    with pytest.raises(ValueError, match="Walk has no such setting"):
        register_env("Walk-v0", max_episode_steps=4)(Walk)


@pytest.mark.usefixtures("forget")
def test_an_id_is_registered_once():
    register_env("Walk-v0")(Walk)
    register_env("Walk-v0")(Walk)                                           # the module is imported again
    with pytest.raises(ValueError, match="'Walk-v0' is registered, expected another id"):
        register_env("Walk-v0")(Team)
    register_env("Walk-v0", override=True)(Team)
    assert tensor_class("Walk-v0") is Team


def test_info_of_one_row_is_numbers():
    env = gym.make("PointMassRL-v0", success_threshold=9.0)
    env.reset(seed=0)
    *_, terminated, truncated, info = env.step(np.zeros(2, np.float32))
    assert (terminated, truncated, info["success"], info["metrics"]["success"]) == (True, False, True, 1.0)
    assert info["final_position"].shape == (2,)
    assert sum(info["rewards"].values()) < 1


def test_a_team_is_not_one_row():
    env = gym.make("PointMassRL-v0", task=Team)
    with pytest.raises(ConfigError, match="3 rows a group, expected one"):
        env.reset()


# In a run -------------------------------------------------------------------------------------------------------------

def test_actions_are_scaled_episodes_limited_and_returns_paid_at_the_end():
    env, task = training(Walk(3, far=0.5, limit=100)), Walk(3, far=0.5, limit=100)
    assert torch.equal(env.reset(), task.reset())
    assert (env.action_space.low, env.action_space.high) == (-1, 1)
    total = torch.zeros(3)
    for step in range(1, 6):
        acts = torch.full((3, 1), 0.75)
        obs, rews, terminated, truncated, info = env.step(acts)
        expected, true, *_ = task.step(acts * 2)
        total += true
        assert torch.equal(obs, expected)
        assert torch.equal(info["true_rews"], true)
        assert torch.allclose(info["return"].float(), total)
        assert truncated.tolist() == [step == 5] * 3
        assert torch.allclose(rews, total if step == 5 else torch.zeros(3))
    env.reset(terminated | truncated)
    assert (env.steps.tolist(), env.returns.tolist()) == ([0] * 3, [0] * 3)


def test_a_reward_that_is_not_finite_is_paid_at_once():
    env = training(wrong(lambda o, r, d, t, i: (o, r * torch.tensor([1, torch.nan, 1]), d, t, i)))
    env.reset()
    assert env.step(torch.ones(3, 1))[1].isfinite().tolist() == [True, False, True]


def test_parts_of_a_dict_are_concatenated_in_alphabetical_order():
    env = training(Team(2))
    obs = env.reset()
    assert env.parts == {"others": slice(0, 1), "self": slice(1, 3)}
    assert env.observation_space.shape == (3,)
    assert torch.equal(obs[:, env.parts["self"]], env.task.obs["self"])
    assert torch.equal(obs, env.obs)


def test_a_row_of_a_group_that_is_truncated_waits_for_the_others():
    env = TrainingEnv(Team(1), 1, False)
    env.reset()
    *_, terminated, truncated, _ = env.step(torch.zeros(3, dtype=torch.int64))
    assert (terminated.tolist(), truncated.tolist()) == ([True, False, False], [True] * 3)
    assert not env.active.any()
    env.reset(terminated | truncated)
    assert env.active.all()
    assert (env.task.count == 0).all()


def test_bounds_that_are_not_symmetric_are_rescaled_and_infinite_ones_refused():
    def bounded(low: float, high: float) -> type:
        class Bounded(Walk):
            def setup(self):
                super().setup()
                self.action_space = Box(low, high, (1,), np.float32)
        return Bounded
    acts = training(bounded(0, 3)(2))._own(torch.tensor([[-1.0], [0.5]]))
    torch.testing.assert_close(acts, torch.tensor([[0.0], [2.25]]))
    with pytest.raises(ConfigError, match=r"Bounded acts in .*, expected finite bounds"):
        training(bounded(-np.inf, 1)(2))
