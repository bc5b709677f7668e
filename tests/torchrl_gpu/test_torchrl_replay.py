"""The package's replays over TorchRL's: the same rows, priorities and windows; and the episodes that are not over."""

from __future__ import annotations

import pytest
import torch
from boats_torchrl import DISCRETE, agent_of, env_of

from algorithm.replay_buffer import create_buffer
from torchrl_gpu.open_steps import OpenSteps
from torchrl_gpu.replay import create_torchrl_buffer
from utils.errors import ConfigError, NotFiniteError
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes


def episode(length: int, alg: str, g: torch.Generator) -> dict[str, torch.Tensor]:
    obs = torch.randn(length + 1, 37, generator=g)
    acts = torch.randint(25, (length,), generator=g) if alg in DISCRETE else torch.randn(length, 2, generator=g)
    done = ((torch.arange(length) == length - 1) & (torch.rand((), generator=g) < 0.5)).float()
    return {"obs": obs[:-1], "obs_next": obs[1:], "acts": acts, "rews": torch.randn(length, 1, generator=g),
            "done": done[:, None]}


def both(alg: str, **settings):
    config = agent_of(alg, buffer_size=90, **settings).config
    return create_buffer(config), create_torchrl_buffer(config)


def check_same(ours, theirs) -> None:
    one, two = ours.sample(), theirs.sample()
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(two[name], value), name


@pytest.mark.parametrize("alg", ["ac_iqn", "iqn", "rainbow"])
def test_batches_are_those_of_our_own_replay(alg):
    """While the ring fills, turns and drops whole episodes, and with priorities that are fed back."""
    (ours, theirs), g = both(alg), torch.Generator().manual_seed(0)
    for length in torch.randint(1, 20, (40,), generator=g).tolist():
        one = episode(length, alg, g)
        ours.store_episode(one)
        theirs.store_episode(one)
        check_same(ours, theirs)
        if alg == "rainbow":
            losses = torch.rand(8, generator=g)
            rows = ours.sample()["rows"]
            theirs.sample()
            ours.feed_back(rows, losses)
            theirs.buffer.update_priority(rows, losses)
    assert len(theirs) == len(ours) < 90
    batch = theirs.buffer.sample()
    assert batch["observation"].shape == (8, 37)
    assert ("discount" in batch, "weight" in batch) == (alg == "rainbow", alg == "rainbow")
    assert len(theirs.sample(3)["rews"]) == 3


@pytest.mark.parametrize("alg", ["iqn", "rainbow"])
def test_a_replay_that_was_saved_continues_as_it_was(alg):
    (ours, theirs), g = both(alg), torch.Generator().manual_seed(1)
    for _ in range(20):
        theirs.store_episode(one := episode(7, alg, g))
        ours.store_episode(one)
    saved = theirs.numbers(), {name: value.clone() for name, value in theirs.tensors().items()}
    log = [(theirs.first_episode, theirs.read_episodes(theirs.first_episode, theirs.episodes_stored))]
    _, again = both(alg)
    again.restore(*saved, log)
    for _ in range(20):
        check_same(theirs, again)
        ours.sample()
        theirs.store_episode(one := episode(6, alg, g))
        again.store_episode(one)


def test_windows_of_n_steps_are_not_written_into_the_storage():
    _, replay = both("rainbow", n_step=3)
    g = torch.Generator().manual_seed(2)
    given = episode(5, "rainbow", g)
    replay.store_episode(given)
    view = replay.buffer[0:5]
    expected = given["rews"][0] + 0.99 * given["rews"][1] + 0.99 ** 2 * given["rews"][2]
    assert torch.allclose(view["next", "reward"][0], expected)
    assert torch.equal(view["next", "observation"][0], given["obs_next"][2])
    assert torch.equal(view["next", "observation"][4], given["obs_next"][4])
    assert torch.equal(replay.buffer.storage.get(slice(None))["next", "reward"], given["rews"])


def test_what_the_replay_does_not_take_is_refused():
    _, replay = both("iqn")
    replay.store_episode(episode(4, "iqn", torch.Generator().manual_seed(0)))
    rows = replay.buffer.storage.get(slice(None)).clone()
    with pytest.raises(ConfigError, match="extend: got rows by TorchRL's buffer, expected store_episode"):
        replay.buffer.extend(rows)
    with pytest.raises(ConfigError, match="empty: not possible"):
        replay.buffer.empty()
    config = with_sizes(resolve({"alg": "rrd", "basis_alg": "sac", "device": "cpu"}), 3, 2)
    with pytest.raises(ConfigError, match="alg: got 'rrd', expected one that learns from single steps"):
        create_torchrl_buffer(config)


# Open episodes ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("batch", [1, 2, 5])
def test_episodes_do_not_depend_on_how_many_steps_are_taken_at_once(batch):
    def played(size: int) -> list[dict[str, torch.Tensor]]:
        env, steps, found = env_of(count=3, limit=4), OpenSteps(4, size), []
        td = env.reset()
        for start in range(0, 20, size):
            rows = []
            acts = torch.stack([torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(start + t)) * 2 - 1
                                for t in range(size)])
            for t in range(size):
                stepped, td = env.step_and_maybe_reset(td.set("action", acts[t]))
                rows.append(stepped)
            found += steps.add(torch.stack(rows, 1))
        return found
    one, other = played(1), played(batch)
    assert len(one) == len(other) >= 24
    for ours, theirs in zip(one, other, strict=True):
        for name, value in ours.items():
            assert torch.equal(theirs[name], value)
    assert max(len(found["rews"]) for found in one) == 4


def test_a_number_that_is_not_finite_is_an_error_where_a_robot_takes_part():
    env, steps = env_of(count=2), OpenSteps(9, 1)
    stepped = env.step(env.reset().set("action", torch.zeros(2, 2, 2)))
    stepped["next", "reward"][1, 0] = torch.nan
    waiting = stepped.clone()
    waiting["active"][1, 0] = False
    assert OpenSteps(9, 1).add(waiting.unsqueeze(1)) == []
    with pytest.raises(NotFiniteError, match="reward: got nan in robot 3 of 4 at step 1, step 1 of its episode"):
        steps.add(stepped.unsqueeze(1))
