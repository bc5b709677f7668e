"""The replay of whole episodes: what it draws, where labels end, and what is paid anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from replays import assert_in_proportion, assert_same_from_here_on, build, episode, restored, store, tags

from algorithm.decomposition.whole import bags_of

PAYS = dict(fit_every=10, credit_steps=12, fit_episodes=3)
LENGTHS = [9, 4, 1, 6, 12, 3, 8]


def test_whole_episodes_are_drawn_in_proportion_to_their_lengths_with_their_returns():
    buffer = build("rd", fit_episodes=50)
    episodes = store(buffer, LENGTHS, values=[3, -1, 2, 0, 5, 1, 4])
    counts = dict.fromkeys(episodes, 0)
    for _ in range(20):
        batch = buffer.sample(4)
        inside, (number, step) = batch["ep_inside"] > 0, tags(batch["ep_obs"])
        assert inside.shape == (50, 16)                                             # a power of two
        assert set(batch) >= {"obs", "acts", "rews", "done", "obs_next", "ep_acts", "ep_obs_next"}
        for n in range(50):
            length = LENGTHS[number[n, 0]]
            counts[int(number[n, 0])] += 1
            assert step[n].tolist() == [min(t, length - 1) for t in range(16)]      # in order, the last one repeated
            assert inside[n].tolist() == [t < length for t in range(16)]
            assert float(batch["ep_length"][n]) == length
            assert float(batch["ep_return"][n]) == pytest.approx(episodes[number[n, 0]]["rews"].sum(), abs=1e-4)
    assert_in_proportion(list(counts.values()), LENGTHS)


def labels_of(batch) -> dict[int, list[tuple[int, int, float]]]:
    """Of each episode drawn, by its number: (first step, end, label) of its bags."""
    number, found = tags(batch["ep_obs"])[0][:, 0], {}
    bags = bags_of(batch)
    for n in range(len(number)):
        found[int(number[n])] = [(first, end, float(label)) for (row, first, end), label in
                                 zip(bags.where.tolist(), bags.labels, strict=True) if row == n and end > first]
    return found


def test_labels_end_where_they_are_told_and_else_with_the_episode():
    buffer = build("rd", fit_episodes=40)
    ends = np.array([0, 0, 1, 1, 0, 0], bool)[:, None]
    buffer.store_episode(episode(0, 6) | {"label_end": ends})
    buffer.store_episode(episode(1, 4, 7))
    rews = episode(0, 6)["rews"][:, 0]
    found = labels_of(buffer.sample())
    assert found[0] == [(0, 3, pytest.approx(rews[:3].sum())), (3, 4, pytest.approx(rews[3]))]
    assert found[1] == [(0, 4, pytest.approx(7))]


def test_labels_end_where_rewards_are_paid():
    buffer = build("rd", fit_episodes=40, reward_every=3)
    store(buffer, [7, 3], [5, 2])
    found = labels_of(buffer.sample())
    rews = episode(0, 7, 5)["rews"][:, 0]
    assert found[0] == [(0, 3, pytest.approx(rews[:3].sum())), (3, 6, pytest.approx(rews[3:6].sum())),
                        (6, 7, pytest.approx(rews[6]))]
    assert found[1] == [(0, 3, pytest.approx(2))]


@pytest.mark.parametrize("changes", [{}, PAYS], ids=["joint", "paid"])
def test_it_is_restored_after_its_ring_has_turned(changes):
    def make():
        return build("rudder" if changes else "rd", **({"fit_episodes": 3} | changes))
    buffer = make()
    store(buffer, [20, 17, 9, 31, 30, 12], range(6))
    if changes:
        for version, slot in enumerate(buffer.due(1, 50)):
            buffer.set_credit(slot, torch.arange(float(buffer.lengths[slot])) + version, version)
    other = restored(buffer, make, parts=2)
    ours, theirs = buffer.sample_episodes(), other.sample_episodes()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    if changes:
        assert buffer.due(9, 40) == other.due(9, 40) != []
    assert_same_from_here_on(buffer, other, [episode(9, 25), episode(10, 5)])


def test_a_step_is_sampled_with_its_payment_which_is_the_mean_reward_at_first():
    buffer = build("rudder", **PAYS)
    store(buffer, [4, 6], [8, 3])
    assert set(buffer.sample()) == {"obs", "acts", "rews", "done", "obs_next"}
    (slot, other), paid = buffer.due(1, 0), torch.tensor([1.0, 2.0, 3.0, 4.0])
    buffer.set_credit(slot, paid, 1)
    batch = buffer.sample(200)
    number, step = tags(batch["obs"])
    for n, t, value in zip(number, step, batch["rews"][:, 0], strict=True):
        assert float(value) == pytest.approx(float(paid[t]) if n == 0 else 0.5)
    assert float(buffer.sample_fit(["ep_return"])["ep_return"].max()) == 8              # the environment's
    buffer.set_credit(other, torch.zeros(6), 1)
    assert not buffer.due(1, 100)


def test_episodes_are_paid_anew_by_the_age_of_their_payments_within_the_budget():
    buffer = build("rudder", **PAYS)
    store(buffer, [5, 6, 4, 3], 1)
    for slot, version in enumerate([2, 1, 1]):
        buffer.set_credit(slot, torch.zeros(int(buffer.lengths[slot])), version)
    assert buffer.due(1, 100) == [3]                        # never paid, whatever the budget
    assert buffer.due(2, 0) == [3]
    assert buffer.due(2, 6) == [3, 1]
    assert buffer.due(3, 10) == [3, 1, 2]
    assert buffer.due(3, 15) == [3, 1, 2, 0]
    store(buffer, [90], 1, first=4)                         # the oldest leave; the slot of the new one is unpaid
    assert buffer.due(3, 0) == [slot for slot in buffer.due(9, 1000) if slot >= 3]
