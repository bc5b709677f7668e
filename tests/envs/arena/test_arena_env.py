"""Arena as a tensor environment and as a Gymnasium id."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from arena_games import crowded, drawn

from envs.arena import sparse
from envs.arena.env import Arena
from envs.arena.games import UNUSED
from envs.arena.moves import next_places
from utils.errors import ConfigError


def play(env, steps, seed=0):
    """Random play; returns what each step gave."""
    g, found = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        obs, rews, terminated, truncated, info = env.step(torch.randint(0, env.action_space.n, (env.num_envs,),
                                                                        generator=g))
        env.reset(terminated | truncated)
        found.append(torch.cat([obs, rews[:, None], info["episode_reward"][:, None]], 1))
    return torch.stack(found)


def test_all_games_at_once_equals_the_rare_ones_alone(monkeypatch):
    """Elsewhere than on the CPU each function gets all games, and leaves alone those that it is not about."""
    found = []
    for dense in (False, True):
        monkeypatch.setattr(sparse, "is_dense", lambda tensor, dense=dense: dense)
        env = Arena(400, style=2)
        env.set_lists(crowded(400, 2, seed=5))
        env.give(drawn(400, 5))
        step = env.step(torch.arange(400) % 6)
        found.append([step[0], *step[1:4], *env.lists().values()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True, rtol=0, atol=0)


def test_a_state_resumes_to_the_bit():
    env, other = Arena(16, style=1, seed=3), Arena(16, style=1, seed=4)
    env.reset()
    play(env, 150)
    other.restore(env.state())
    assert torch.equal(play(env, 60, 1), play(other, 60, 1))


def test_a_reset_touches_its_rows_alone():
    env = Arena(6, style=2, seed=1)
    env.reset()
    play(env, 100)
    before, mask = env.lists(), torch.tensor([True, False] * 3)
    obs = env.reset(mask)
    after, fresh = env.lists(), Arena(1, style=2, seed=9).reset()
    for name in before:
        assert torch.equal(before[name][~mask], after[name][~mask]), name
    assert (after["step"] == torch.tensor([0, 100] * 3)).all()
    same = [*range(16), *range(18, 32)]                 # but the bearing of the spawner, which is drawn
    assert torch.equal(obs[mask][:, same], fresh[:, same].expand(3, -1))
    assert (obs[mask][:, 16] < 0.3).all()


def test_seeds_make_the_game_and_rows_differ():
    one, same, other = (play(started(seed), 130) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len(one[-1].unique(dim=0)) == 8


def started(seed):
    env = Arena(8, style=2, seed=seed)
    env.reset()
    return env


def test_a_default_dtype_of_double_changes_nothing():
    env = started(1)
    found = play(env, 130)
    torch.set_default_dtype(torch.float64)
    try:
        other = started(1)
        assert torch.equal(play(other, 130), found)
        assert {tensor.dtype for tensor in (other.player, other.counts, other.shots)} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_stage_holds_at_once_for_new_enemies_alone():
    env = Arena(1, style=2, stage=1)
    env.reset()
    assert env.lists()["spawner_health"][0, 0] == 40
    play(env, 3)
    env.configure(stage=6)
    lists = env.lists()
    assert (lists["spawner_health"][0, 0], lists["spawner_interval"][0, 0]) == (40, 300)
    assert lists["enemy_speed"][0, 0].item() == pytest.approx(0.4)
    env.spawners[3] = 1                                 # the next enemy comes now
    play(env, 1)
    assert env.lists()["enemy_speed"][0, 1].item() == pytest.approx(2)


def test_the_time_limit_truncates():
    env = Arena(2, style=1)
    env.reset()
    env.counts[0] = torch.tensor([2999.0, 10.0])
    step = env.step(torch.zeros(2, dtype=torch.int64))
    assert [value.tolist() for value in step[2:4]] == [[False, False], [True, False]]


def test_the_dictionary_form_is_the_flat_one_in_parts():
    flat, parts = Arena(3, style=2, seed=1).reset(), Arena(3, style=2, seed=1, observation="dict").reset()
    assert list(parts) == ["player_state", "mission_progress", "combat_targets", "spatial_awareness", "enemy_count"]
    assert torch.equal(torch.cat(list(parts.values()), 1), flat)


def test_metrics_are_of_the_episode_and_what_never_was_is_nan():
    env = Arena(300, style=1, dtype=torch.float64)
    env.set_lists(crowded(300, 1, seed=8))
    before = env.lists()
    info = env.step(torch.full((300,), 4))[4]
    metrics = info["metrics"]
    assert (metrics["enemies_destroyed"] == before["enemies_destroyed"] + info["enemies_destroyed"]).all()
    assert info["enemies_destroyed"].sum() > 0
    never = info["win_step"] == -1
    assert 0 < never.sum() < 300
    assert torch.equal(metrics["win_step"].isnan(), never)
    assert torch.equal(metrics["win"] == 0, never)


@pytest.mark.parametrize(("settings", "message"), [
    ({"style": 3}, "setting style: got 3, expected 1 to 2"), ({"stage": 7}, "setting stage: got 7, expected 0 to 6"),
    ({"shaping": "on"}, "setting shaping: got 'on', expected delta or off"),
    ({"stile": 1}, "no setting 'stile'"),
])
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        Arena(**settings)


def test_the_style_stays():
    with pytest.raises(ConfigError, match="setting style: got 2, expected 1"):
        Arena(style=1).configure(style=2)


def test_one_row_is_a_gymnasium_environment():
    env = gym.make("Arena-v0", style=2, render_mode="rgb_array")
    obs, _ = env.reset(seed=1)
    assert env.observation_space.contains(obs)
    assert env.action_space == gym.spaces.Discrete(6)
    frame = env.render()
    step = env.step(5)
    assert (frame.shape, frame.dtype) == ((768, 1216, 3), np.uint8)
    assert (frame != env.render()).any()                # the shot
    assert isinstance(step[4]["metrics"]["player_health"], float)


def test_a_picture_shows_what_is_there():
    env = Arena(2, style=1)
    env.set_lists(crowded(2, 1, seed=3))
    empty = Arena(1, style=1)
    empty.reset()
    picture, other = env.render(1), empty.render()
    lists = env.lists()
    x, y = (lists["player_pos"][1] * 0.6).round().long().tolist()
    assert picture[y, x].max() > 200                    # the line of his direction, or the player
    assert (picture != other).any()
    health = (picture[130:138, 980:1196] == (95, 200, 110)).all(2)[4].sum()
    assert health == round(216 * lists["player_health"][1].item() / 150) or lists["player_health"][1] <= 52


def test_shots_go_round_their_places():
    fired = torch.tensor([[17], [47]])
    places = next_places(fired, torch.tensor([[True], [False], [True], [True], *[[False]] * 5]))
    assert places[:, 0].tolist() == [1, UNUSED, 16 + 47, 16 + 0, *[UNUSED] * 5]
    assert fired[:, 0].tolist() == [18, 49]
