"""PushCubeRL: its kinematics and rewards are those of the reference, and simple policies reach what they should."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from pushing import play, push
from runs import run
from saved import digest

import train
from envs import replay
from envs.push_cube import CUBE, CUBE_AT, GOAL, START, PushCubeRL, cube_of, planar, scene_xml
from envs.ur10 import forward
from utils.errors import ConfigError

CASE = Path(__file__).resolve().parent.parent / "reference" / "push_cube.npz"


def changed_case(**arrays) -> None:
    with np.load(CASE) as file:
        kept = dict(file) | arrays
    np.savez("case.npz", **{name: array for name, array in kept.items() if array is not None})


def test_kinematics_and_rewards_equal_the_reference():
    assert replay.main([str(CASE), "--out=out.npz"]) == 0
    case, out = np.load(CASE), np.load("out.npz")
    for name in ("ee", "rotation", "flange", "link_origins"):
        np.testing.assert_allclose(out[f"fk/{name}"], case[f"fk/{name}"], rtol=0, atol=1e-9)
    for name in ("reward", "reaching_reward", "place_reward", "action_penalty", "success_bonus"):
        np.testing.assert_allclose(out[f"reward/{name}"], case[f"reward/{name}"], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(out["reward/success"], case["reward/success"])
    assert 0 < case["reward/success"].mean() < 1
    assert case["reward/place_reward"].min() < 0 < case["reward/place_reward"].max()


@pytest.mark.parametrize(("setting", "value", "part"), [
    ("success_threshold", 9.0, "success"), ("place_penalty_weight", 3.0, "place_reward"),
    ("action_scale", 0.01, "action_penalty"), ("reaching_reward_weight", 1.0, "reaching_reward")])
def test_a_replay_reads_the_settings_of_its_case(setting, value, part):
    changed_case(meta=json.dumps({"kind": "push_cube", setting: value}))
    assert replay.main(["case.npz", "--out=out.npz"]) == 0
    assert not np.array_equal(np.load("out.npz")[f"reward/{part}"], np.load(CASE)[f"reward/{part}"])


@pytest.mark.parametrize(("name", "array", "message"), [
    ("fk/q", np.zeros((3, 5)), "'fk/q' is float64 of shape (3, 5), expected numbers of shape (any, 6)"),
    ("reward/goal", None, "has no 'reward/goal'"), ("reward/ee", np.zeros((2, 9, 3)), "'reward/ee' is float64"),
    ("meta", json.dumps({"kind": "push_cube", "action_scale": "x"}), "action_scale")])
def test_a_file_that_is_no_case_is_one_line_and_exit_code_2(name, array, message, capsys):
    changed_case(**{name: array})
    assert replay.main(["case.npz", "--out=out.npz"]) == 2
    assert message in capsys.readouterr().err


def test_the_arm_of_mujoco_has_the_kinematics():
    """By another program: the links' places in MuJoCo at random angles."""
    import mujoco
    model = mujoco.MjModel.from_xml_string(scene_xml(0.1))
    data = mujoco.MjData(model)
    for angles in np.random.default_rng(0).uniform(-3, 3, (10, 6)):
        data.qpos[:6] = angles
        mujoco.mj_kinematics(model, data)
        pose = forward(torch.as_tensor(angles))
        first = model.body("shoulder").id
        np.testing.assert_allclose(data.xpos[first:first + 6], pose.origins, atol=1e-9)
        np.testing.assert_allclose(data.xmat[first + 5].reshape(3, 3), pose.rotation, atol=1e-9)


def test_the_start():
    env = PushCubeRL(500, seed=3)
    obs = env.reset()
    assert torch.allclose(obs[:, :6], torch.tensor(START))
    assert torch.allclose(obs[:, 6:9], torch.tensor([-0.688286, -0.164142, 0.487008]), atol=1e-5)
    moved = obs[:, 9:12] - torch.tensor(CUBE)
    assert moved[:, :2].abs().amax(0).tolist() == pytest.approx([0.2, 0.2], abs=0.005)
    assert moved[:, 2].abs().max() == 0
    assert torch.equal(obs[:, 12:], torch.tensor(GOAL).expand(500, 3))
    env.close()


# What simple policies reach undiscounted; an episode's sd is about 0.5 without success, 5 with it -----------------

@pytest.mark.parametrize(("policy", "expected", "within"), [
    (lambda obs: torch.zeros(len(obs), 6), 0.13, 0.05), (lambda obs: torch.randn(len(obs), 6), 0.02, 0.3)])
def test_baselines_without_success(policy, expected, within):
    torch.manual_seed(0)
    reward, success, length = play(policy, 60, 0)
    assert reward == pytest.approx(expected, abs=within)
    assert (success, length) == (0, 100)


def test_a_scripted_push_succeeds():
    reward, success, length = play(push, 60, 0)
    assert success > 0.85
    assert reward == pytest.approx(18, abs=1.5)
    assert length == pytest.approx(41, abs=8)


@pytest.mark.parametrize("size", [5.0, 1e4])
def test_extreme_actions_do_not_explode(size):
    env, generator = PushCubeRL(30, seed=1), torch.Generator().manual_seed(0)
    env.reset()
    for _ in range(100):
        obs, rews, *_ = env.step(size * torch.randn(30, 6, generator=generator))
        assert obs.isfinite().all()
        assert rews.isfinite().all()
        assert env.physics[:, CUBE_AT + 7:].abs().max() < 60                        # rad/s and m/s
    env.close()


@pytest.mark.parametrize(("asked", "moved"), [(0.02, 0.02), (0.05, 0.05), (0.5, 0.08)])
def test_a_joint_moves_as_far_as_asked(asked, moved):
    env = PushCubeRL(1)
    before = env.reset()[:, 0]
    for _ in range(5):
        after = env.step(torch.tensor([[asked / 0.1, 0, 0, 0, 0, 0]]))[0][:, 0]
    assert ((after - before) / 5).item() == pytest.approx(moved, rel=0.15)
    env.close()


def test_parts_add_up_and_weights_are_read():
    env = PushCubeRL(8, seed=1, success_bonus_weight=3.0, success_threshold=9.0)
    plain = PushCubeRL(8, seed=1)
    env.reset()
    plain.reset()
    acts = torch.randn(8, 6)
    _, rews, terminated, _, info = env.step(acts)
    _, others, over, *_ = plain.step(acts)
    assert torch.allclose(sum(info["rewards"].values()), rews)
    assert torch.allclose(rews, others + 3, atol=1e-5)
    assert terminated.all()
    assert not over.any()
    env.close()
    plain.close()


def test_an_episode_is_truncated_at_its_length_and_where_the_cube_falls():
    env = PushCubeRL(3, episode_length=4)
    env.reset()
    nothing = torch.zeros(3, 6)
    assert [bool(env.step(nothing)[3].any()) for _ in range(4)] == [False, False, False, True]
    env.reset()
    env._move = lambda change: None                                     # the floor would push it out
    env.physics[1, CUBE_AT + 2] = -0.5
    assert env.step(nothing)[3].tolist() == [False, True, False]
    env.close()


def test_a_row_does_not_depend_on_the_others_nor_on_threads(monkeypatch):
    many = PushCubeRL(64, seed=2)
    many.reset()
    one = PushCubeRL(1)
    with monkeypatch.context() as patched:              # a step asks for the number, and sets it again
        patched.setattr("torch.get_num_threads", lambda: 3)
        threaded = PushCubeRL(64, seed=2)
    assert (many.rows.threads < 3, threaded.rows.threads) == (True, 3)
    one.reset()
    threaded.reset()
    one.physics, one.distance = many.physics[7:8], many.distance[7:8]
    for acts in torch.randn(20, 64, 6):
        found = many.step(acts)
        assert torch.equal(one.step(acts[7:8])[0], found[0][7:8])
        assert torch.equal(threaded.step(acts)[0], found[0])
    for env in (many, one, threaded):
        env.close()


def test_a_state_is_restored_in_the_middle_of_an_episode():
    env = PushCubeRL(4, seed=5)
    env.reset()
    acts = torch.randn(30, 4, 6)
    for act in acts[:15]:
        env.step(act)
    saved, other = env.state(), PushCubeRL(4, seed=6)
    other.restore(saved)
    for act in acts[15:]:
        ours, theirs = env.step(act), other.step(act)
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
    rows = torch.tensor([True, False, True, False])
    assert torch.equal(env.reset(rows), other.reset(rows))
    env.close()
    other.close()


def test_observations_as_a_dict():
    plain, env = PushCubeRL(3, seed=1), PushCubeRL(3, seed=1, obs_mode="dict")
    obs, parts = plain.reset(), env.reset()
    assert env.observation_space.contains({name: part[0].numpy() for name, part in parts.items()})
    assert torch.equal(obs, torch.cat([parts[name] for name in ("robot/qpos", "robot/ee_pos", "object/cube_pos",
                                                                "object/goal_pos")], 1))
    with pytest.raises(ConfigError, match="obs_mode: got 'pixels', expected state or dict"):
        PushCubeRL(1, obs_mode="pixels")
    plain.close()
    env.close()


def test_it_is_an_id_of_gymnasium():
    env = gym.make("PushCubeRL-v0", episode_length=2, max_episode_steps=-1)
    obs, _ = env.reset(seed=1)
    assert obs.shape == (15,)
    assert np.array_equal(env.reset(seed=1)[0], obs)
    assert [env.step(np.zeros(6, np.float32))[3] for _ in range(2)] == [False, True]
    env.close()


def test_the_distance_is_in_the_plane():
    assert planar(torch.tensor([[3.0, 4.0, 9.0]]), torch.zeros(3)).tolist() == [5.0]
    assert cube_of(torch.arange(26.0)[None]).tolist() == [[7.0, 8.0, 9.0]]


def test_a_run_resumes_to_the_bit_in_the_middle_of_its_episodes():
    """Episodes of 30 steps, rollouts of 20."""
    flags = ["--device=cpu", "--alg=ppo", "--env=PushCubeRL", "--num_envs=2", "--test_timesteps=30", "--batch_size=20",
             "--rollout_steps=20", "--iterations=1", "--n_epochs=1", "--test_rollouts=0", "--env_type=normal"]
    parts = run(*flags, "--total_timesteps=40", "--tag=parts")
    assert train.main([f"--resume={parts.directory}", "--total_timesteps=120"]) == 0
    whole = run(*flags, "--total_timesteps=120", "--tag=whole")
    assert digest(parts.directory) == digest(whole.directory)
    assert [row["Episodes"] for row in whole.rows] == ["0", "2", "4"]
