"""The tensors and the scalar twin make the same of each step."""

import numpy as np
import pytest
import torch
from arena_games import NUMBERS, crowded, drawn, draws_of, twin_of

from envs.arena.env import Arena

COUNTS = [name for name in NUMBERS if name not in ("episode_reward", "prev_spawner_health", "prev_player_health")]


def check(env, step, twins):
    """Compare rows after a step with their twins."""
    obs, rews, terminated, truncated, info = step
    after = env.lists()
    for row, twin in twins.items():
        one = {name: value[row] for name, value in after.items()}
        for name in COUNTS:
            assert one[name] == twin.numbers[name], (row, name)
        for name in ("episode_reward", "prev_spawner_health", "prev_player_health"):
            np.testing.assert_allclose(one[name], twin.numbers[name], atol=1e-3, err_msg=name)
        same_lists(one, "enemy", twin.enemies, ("health", "cooldown", "speed"))
        same_lists(one, "spawner", twin.spawners, ("health", "cooldown", "interval"))
        same_lists(one, "proj", twin.shots, ("life", "player"))
        player = twin.player
        np.testing.assert_allclose(one["player_pos"], [player.x, player.y], atol=5e-3)
        np.testing.assert_allclose(one["player_vel"], [player.vx, player.vy], atol=1e-5)
        assert (one["player_health"], one["player_cooldown"]) == (player.health, player.cooldown)
        for name, value in twin.parts.items():
            np.testing.assert_allclose(info["rewards"][name][row], value, atol=2e-5, err_msg=name)
        np.testing.assert_allclose(rews[row], sum(twin.parts.values()), atol=1e-4)
        same_obs(obs[row].numpy(), twin.observe())
        assert (info["damage_dealt"][row], info["damage_taken"][row]) == (twin.dealt, twin.taken)
        over = player.health == 0 or twin.numbers["win"]
        assert bool(terminated[row]) == over
        assert bool(truncated[row]) == (twin.numbers["step"] >= 3000 and not over)


def same_lists(one, kind, things, names):
    alive = one[f"{kind}_alive"]
    assert alive.sum() == len(things), kind
    assert alive[:len(things)].all()
    for k, thing in enumerate(things):
        np.testing.assert_allclose(one[f"{kind}_pos"][k], [thing.x, thing.y], atol=5e-3, err_msg=f"{kind} {k}")
        for name in names:
            np.testing.assert_allclose(one[f"{kind}_{name}"][k], getattr(thing, name), rtol=1e-6)
        if kind == "proj":
            np.testing.assert_allclose(one["proj_vel"][k], [thing.vx, thing.vy], atol=2e-3)


def same_obs(ours, theirs):
    apart = np.abs(ours - theirs)
    angles = [4, 11, 14, 17, 21, 25]
    apart[angles] = np.minimum(apart[angles] % 1, 1 - apart[angles] % 1)
    assert apart.max() < 5e-5, apart.argmax()


@pytest.mark.parametrize("style", [1, 2])
def test_random_play_of_all_stages(style):
    """A game of each stage; each twin goes on by itself for 40 steps, then takes the numbers of its row again."""
    env, g = Arena(7, style=style), torch.Generator().manual_seed(style)
    env.set_stages(torch.arange(7))
    env.reset()
    twins, spawned = {}, 0
    for t in range(80):
        lists = env.lists()
        if t % 40 == 0:
            twins = {row: twin_of(env, lists, row, row) for row in range(7)}
        draws, acts = drawn(7, 1000 * style + t), torch.randint(0, env.action_space.n, (7,), generator=g)
        env.give(draws)
        step = env.step(acts)
        for row, twin in twins.items():
            for things in (twin.enemies, twin.spawners):
                for number, thing in enumerate(things):
                    thing.number = number
            twin.step(int(acts[row]), draws_of(draws, row))
        check(env, step, twins)
        spawned = max(spawned, int(env.lists()["enemy_alive"].sum()))
    assert spawned > 5


@pytest.mark.parametrize(("style", "shaping"), [(1, "delta"), (2, "delta"), (1, "off")])
def test_one_step_from_crowded_states(style, shaping):
    """Shots, enemies and spawners overlap, so that the order of who hits whom matters."""
    count = 420
    env = Arena(count, style=style, shaping=shaping)
    stages = torch.arange(count) % 7
    env.set_stages(stages)
    lists = crowded(count, style, seed=style)
    if shaping == "off":
        lists |= {name: torch.full((count,), torch.nan) for name in ("prev_spawner_health", "prev_player_health")}
    env.set_lists(lists)
    turn_round(env, 11)
    lists, draws = env.lists(), drawn(count, 7)
    acts = torch.randint(0, env.action_space.n, (count,), generator=torch.Generator().manual_seed(style))
    twins = {row: twin_of(env, lists, row, int(stages[row])) for row in range(count)}
    env.give(draws)
    step = env.step(acts)
    for row, twin in twins.items():
        twin.step(int(acts[row]), draws_of(draws, row))
    check(env, step, twins)
    sums = {name: sum(twin.parts[name] for twin in twins.values()) for name in ("hit_enemy", "kill_spawner", "phase",
                                                                                "quick_kill", "damage", "death")}
    assert all(sums.values()), sums
    assert any(twin.parts["hit_enemy"] >= 4 for twin in twins.values())
    assert any(twin.parts["hit_spawner"] >= 20 for twin in twins.values())


def turn_round(env, count):
    """Put the shots where they would be had `count` more been fired before them."""
    for places in (slice(0, 16), slice(16, 64)):
        env.shots[:, places] = env.shots[:, places].roll(count, 1)
    env.fired += count
