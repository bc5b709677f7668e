"""PointMassRL: equal to its reference, with the returns that simple policies have there."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from envs import replay
from envs.point_mass import PointMassRL
from utils.cases import read_case

CASE = Path(__file__).resolve().parent.parent / "reference" / "point_mass.npz"


def played(env: PointMassRL, policy, obs: torch.Tensor | None = None) -> tuple[float, float, float]:
    """Mean return, share of successes and mean length of each row's first episode."""
    obs, count = env.reset() if obs is None else obs, env.num_envs
    total, length, success, over = *torch.zeros(3, count), torch.zeros(count, dtype=torch.bool)
    while not over.all():
        obs, rews, terminated, truncated, info = env.step(policy(obs))
        total, length = total + rews * ~over, length + ~over
        success = torch.where(over, success, info["metrics"]["success"])
        over |= terminated | truncated
    return total.mean().item(), success.mean().item(), length.mean().item()


def towards_the_goal(obs: torch.Tensor) -> torch.Tensor:
    return 5 * (obs[:, 4:6] - obs[:, :2]) - 0.5 * obs[:, 2:4]


def test_it_equals_the_reference(tmp_path):
    assert replay.main([str(CASE), "--out", "out.npz"]) == 0
    case, out = np.load(CASE), np.load("out.npz")
    valid = case["valid"]
    over = (case["terminated"] | case["truncated"]) & valid
    assert over.any(0).all()
    assert (case["terminated"] & valid).any()
    same(out["obs"][0], case["obs"][0])
    same(out["obs"][1:][valid & ~over], case["obs"][1:][valid & ~over])
    for name in ("rewards", "terminated", "truncated"):
        assert out[name].shape == case[name].shape
        same(out[name][valid], case[name][valid])
    for name in ("position", "distance", "path_length", "collisions"):
        assert out[name].shape == case[name].shape
        same(out[name][over], case[name][over])
    assert case["collisions"][over].max() > 0


def same(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(("changed", "alike"), [("success_bonus", "obs"), ("max_episode_steps", "rewards"),
                                                ("mass", None), ("dt", None), ("success_threshold", "obs")])
def test_a_replay_reads_the_settings_of_its_case(changed, alike):
    with np.load(CASE) as file:
        arrays = dict(file)
    arrays["meta"] = json.dumps(json.loads(str(arrays["meta"])) | {changed: 3})
    np.savez("case.npz", **arrays)
    for path, out in ((CASE, "one.npz"), ("case.npz", "two.npz")):
        assert replay.main([str(path), f"--out={out}"]) == 0
    one, two = np.load("one.npz"), np.load("two.npz")
    assert any(not np.array_equal(one[name], two[name]) for name in one.files)
    assert alike is None or np.array_equal(one[alike], two[alike])


def changed(**arrays) -> bytes:
    with np.load(CASE) as file:
        kept = {name: array for name, array in (dict(file) | arrays).items() if array is not None}
    data = io.BytesIO()
    np.savez(data, **kept)
    return data.getvalue()


@pytest.mark.parametrize(("data", "message"), [
    (b"", "is no case"), (b"text", "is no case"), (CASE.read_bytes()[:2000], "is no case"),
    (changed(meta="[]"), "has list as meta"), (changed(meta="{"), "is no case"), (changed(meta=None), "got kind None"),
    (changed(meta='{"kind": "gae"}'), "got kind 'gae', expected point_mass"), (changed(acts=None), "has no 'acts'"),
    (changed(acts=np.zeros((3, 8))), r"'acts' is float64 of shape (3, 8), expected numbers of shape (any, any, 2)"),
    (changed(acts=np.full((3, 8, 2), "x")), "'acts' is <U1"), (changed(meta='{"kind": "point_mass", "dt": "x"}'), "dt"),
    (changed(**{"start/goal": np.zeros((7, 2))}), "'start/goal' is float64 of shape (7, 2)")])
def test_a_file_that_is_no_case_is_one_line_and_exit_code_2(data, message, capsys):
    Path("case.npz").write_bytes(data)
    assert replay.main(["case.npz", "--out", "out.npz"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("out.npz").exists()


def test_a_missing_file_or_flag_is_exit_code_2(capsys):
    assert replay.main(["none.npz", "--out=out.npz"]) == 2
    assert replay.main([str(CASE)]) == 2
    assert "'none.npz' cannot be read: No such file" in capsys.readouterr().err


def test_a_case_without_steps():
    Path("case.npz").write_bytes(changed(acts=np.zeros((0, 8, 2), np.float32)))
    assert replay.main(["case.npz", "--out=out.npz"]) == 0
    assert np.load("out.npz")["obs"].shape == (1, 8, 14)
    assert read_case("case.npz").meta["kind"] == "point_mass"


# What simple policies reach, undiscounted, in the published trainer's environment; an episode's sd is about 35 -----

@pytest.mark.parametrize(("policy", "expected", "success", "length"), [
    (lambda obs: torch.zeros(len(obs), 2), -66.7, 0.003, 99.8),
    (lambda obs: torch.rand(len(obs), 2) * 2 - 1, -69.4, 0.006, 99.5), (towards_the_goal, -18.2, 1.0, 54)])
def test_baselines(policy, expected, success, length):
    torch.manual_seed(0)
    reached = played(PointMassRL(2000, seed=1), policy)
    assert reached == pytest.approx((expected, success, length), rel=0.04, abs=0.006)


def test_starts_are_drawn_as_they_should():
    env = PointMassRL(4000, seed=2, workspace_half=2.0, obstacle_min_goal_distance=0.9)
    env.reset()
    for place, half in ((env.goal, 1.4), (env.position, 1.2)):
        assert half * 0.99 < place.abs().amax() <= half
        assert place.mean().abs() < 0.05
    assert env.obstacles.abs().amax() <= 1.6
    assert ((env.obstacles - env.goal[:, None]).norm(dim=-1) > 0.9).all()
    assert (env.radii.amin(), env.radii.amax()) == pytest.approx((0.08, 0.15), abs=1e-3)


def test_an_obstacle_that_fits_nowhere_is_behind_the_middle():
    env = PointMassRL(5, obstacle_min_goal_distance=9.0)
    env.reset()
    assert torch.equal(env.obstacles, (-env.goal / 2)[:, None].expand(-1, 2, -1))


def test_parts_add_up_and_a_bonus_is_paid_once():
    env = PointMassRL(500, seed=1, success_bonus=7.0)
    obs, plain = env.reset(), PointMassRL(500, seed=1)
    plain.reset()
    seen = torch.zeros(500, dtype=torch.bool)
    for _ in range(60):
        acts = towards_the_goal(obs)
        obs, rews, terminated, _, info = env.step(acts)
        _, without, *_ = plain.step(acts)
        assert torch.allclose(sum(info["rewards"].values()), rews, atol=1e-6)
        assert torch.allclose(rews - 7 * terminated, without, atol=1e-5)
        seen |= terminated
    assert seen.any()


def test_a_row_does_not_depend_on_the_others():
    one, many = PointMassRL(1), PointMassRL(300)
    many.reset()
    start = {name: getattr(many, name) for name in ("position", "velocity", "goal", "obstacles", "radii")}
    many.start_at(start)
    one.start_at({name: value[7:8] for name, value in start.items()})
    for acts in torch.randn(50, 300, 2):
        assert torch.equal(one.step(acts[7:8])[0], many.step(acts)[0][7:8])


def test_a_picture_shows_where_things_are():
    env = PointMassRL(2)
    env.reset()
    env.start_at({"position": torch.tensor([[0.5, 0.5], [-0.5, 0.0]]), "goal": torch.tensor([[-0.5, -0.5], [0, 0]]),
                  "obstacles": torch.tensor([[[0.5, -0.5], [-0.5, 0.5]]] * 2), "radii": torch.full((2, 2), 0.1)})
    frame = env.render(0)
    assert (frame.shape, frame.dtype) == ((256, 256, 3), np.uint8)
    high, low = round(128 - 0.5 * 256 / 2.2), round(128 + 0.5 * 256 / 2.2)              # y = 0.5 is above
    red, green, blue = frame[high, low].tolist(), frame[low, high].tolist(), frame[low, low].tolist()
    assert red[2] > 150 > red[0]                                            # the point, blue, to the right above
    assert green[1] > green[0]
    assert blue[0] > blue[1]                                                # an obstacle
    assert frame[128, 128].tolist() == [255] * 3
    assert not np.array_equal(frame, env.render(1))
