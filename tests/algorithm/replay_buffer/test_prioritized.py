"""Prioritised replay: what is drawn, how often, and the windows of n steps."""

from __future__ import annotations

import pytest
import torch

from algorithm.replay_buffer import create_buffer
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes


def build(size: int = 50, **given):
    config = resolve({"alg": "rainbow", "device": "cpu", "buffer_size": size, "gamma": 0.9, "total_timesteps": 1000}
                     | given)
    return create_buffer(with_sizes(config, 1, 2))


def store(replay, first: int, length: int, done: bool = True) -> None:
    """An episode whose observations are the numbers from `first` on, and whose rewards are the same."""
    numbers = torch.arange(first, first + length, dtype=torch.float32)[:, None]
    ends = torch.zeros(length, 1)
    ends[-1] = float(done)
    replay.store_episode({"obs": numbers, "obs_next": numbers + 1, "acts": torch.zeros(length, dtype=torch.int64),
                          "rews": numbers, "done": ends})


def test_windows_end_with_their_episode():
    replay = build(n_step=3)
    store(replay, 10, 4)
    store(replay, 20, 2, done=False)
    found = replay.windows(torch.arange(6))
    assert found["obs"][:, 0].tolist() == [10, 11, 12, 13, 20, 21]
    assert found["rews"][:, 0].tolist() == pytest.approx([
        10 + 0.9 * 11 + 0.81 * 12, 11 + 0.9 * 12 + 0.81 * 13, 12 + 0.9 * 13, 13, 20 + 0.9 * 21, 21])
    assert found["obs_next"][:, 0].tolist() == [13, 14, 14, 14, 22, 22]
    assert found["discount"][:, 0].tolist() == pytest.approx([0.729, 0, 0, 0, 0.81, 0.9])


@pytest.mark.parametrize("size", [7, 11, 3000])
def test_windows_go_around_the_end_of_the_ring(size):
    replay = build(size, n_step=2)
    for number in range(3 * size // 5 + 2):
        store(replay, 10 * number, 5)
    rows = (replay.first_row + torch.arange(replay.steps)) % size
    found = replay.windows(rows)
    inside = found["obs"][:, 0] % 10 < 4
    wanted = found["obs"] + 0.9 * (found["obs"] + 1)
    torch.testing.assert_close(found["rews"][inside], wanted[inside])
    torch.testing.assert_close(found["rews"][~inside], found["obs"][~inside])


def test_steps_are_drawn_in_proportion_to_their_priority_and_weighed_against_it():
    replay = build(3000, priority_exponent=0.5, priority_beta=1.0)
    for number in range(500):
        store(replay, 5 * number, 5)
    losses = torch.arange(2500).double() % 7 + 0.5
    replay.feed_back(torch.arange(2500), losses)
    wanted = losses.sqrt() / losses.sqrt().sum()
    counts = torch.zeros(2500, dtype=torch.float64)
    for _ in range(40):
        batch = replay.sample(2500)
        counts += torch.bincount(batch["rows"], minlength=2500)
        least = losses[batch["rows"]].min()
        torch.testing.assert_close(batch["weight"][:, 0].double(), (least / losses[batch["rows"]]).sqrt(), rtol=1e-5,
                                   atol=0)
    for kind in range(7):
        share = counts[kind::7].sum() / counts.sum()
        assert float(share) == pytest.approx(float(wanted[kind::7].sum()), rel=0.03)
    assert batch["obs"][:, 0].tolist() == batch["rows"].tolist()


def test_new_steps_have_the_largest_priority_and_dropped_ones_none():
    replay = build(10)
    store(replay, 0, 5)
    replay.feed_back(torch.arange(5), torch.full((5,), 16.0))
    store(replay, 5, 5)
    assert replay.priorities.view(-1)[:10].tolist() == [4.0] * 10
    store(replay, 10, 3)                                # the first episode is dropped whole
    assert replay.priorities.view(-1)[:10].tolist() == [4.0] * 3 + [0.0] * 2 + [4.0] * 5
    assert float(replay.sums.sum()) == 32.0
    drawn = torch.cat([replay.sample(64)["obs"][:, 0] for _ in range(5)])
    assert set(drawn.tolist()) == {5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0}


def test_the_weights_undo_more_and_more_of_it():
    replay = build(2000, priority_beta=0.4)
    assert replay.annealed_beta == 0.4
    for _ in range(100):
        store(replay, 0, 5)
    assert replay.annealed_beta == pytest.approx(0.7)
    for _ in range(200):
        store(replay, 0, 5)
    assert replay.annealed_beta == 1
