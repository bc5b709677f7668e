"""Returns that arrive after their episodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from replays import assert_same_from_here_on, build, episode, restored, store, tags

PAYS = dict(fit_every=10, credit_steps=12, fit_episodes=3)


def unpaid(number: int, length: int) -> dict:
    """An episode without rewards."""
    return {name: value for name, value in episode(number, length).items() if name != "rews"}


def test_a_number_is_given_for_every_episode():
    for alg in ("sac", "rrd", "rd", "ircr"):
        buffer = build(alg)
        assert [buffer.store_episode(episode(number, 40)) for number in range(4)] == [0, 1, 2, 3]


def test_no_model_learns_from_an_episode_before_its_return_is_known():
    buffer = build("rd", fit_episodes=40)
    store(buffer, [6, 4], [3, 5])
    waiting = buffer.store_episode(unpaid(2, 8))
    for _ in range(5):
        batch = buffer.sample(200)
        assert set(tags(batch["ep_obs"])[0][:, 0]) == {0, 1}
    assert 2 in tags(batch["obs"])[0]                               # the policy learns from it
    assert buffer.pay(waiting, 7.5) is True
    batch = buffer.sample(200)
    number = tags(batch["ep_obs"])[0][:, 0]
    assert set(number) == {0, 1, 2}
    for n, one in enumerate(number):
        assert float(batch["ep_return"][n]) == pytest.approx([3, 5, 7.5][one])
        assert float(batch["ep_bag_return"][n]) == pytest.approx([3, 5, 7.5][one])


def test_rrd_draws_from_an_episode_once_its_return_is_known():
    buffer = build("rrd", K=3, N=40)
    store(buffer, [6], [3])
    waiting = buffer.store_episode(unpaid(1, 5))
    assert set(tags(buffer.sample(4)["rrd_obs"])[0].ravel()) == {0}
    buffer.pay(waiting, 10.0)
    batch = buffer.sample(4)
    number = tags(batch["rrd_obs"])[0][:, 0]
    assert set(number) == {0, 1}
    assert [float(x) for x in batch["rrd_rews"]] == pytest.approx([[0.5, 2.0][one] for one in number])


def test_a_model_of_whole_episodes_pays_it_and_the_policy_learns_from_it_once_it_is_known():
    buffer = build("rudder", **PAYS)
    store(buffer, [4], [8])
    waiting = buffer.store_episode(unpaid(1, 5))
    assert buffer.due(1, 100) == [0]
    assert set(tags(buffer.sample(100)["obs"])[0]) == {0}
    buffer.pay(waiting, 10.0)
    assert buffer.due(1, 100) == [0, 1]
    batch = buffer.sample(100)
    assert [float(x) for x in batch["rews"]] == pytest.approx([2.0] * 100)
    np.testing.assert_allclose(buffer.episode_at(1)["rews"][:, 0], [0, 0, 0, 0, 10])


def test_with_no_return_at_all_nothing_can_be_drawn():
    buffer = build("rd")
    buffer.store_episode(unpaid(0, 5))
    with pytest.raises(ValueError, match=r"^buffer: got no episode with a return"):
        buffer.sample()


def test_a_return_that_comes_when_its_episode_has_left_is_dropped():
    buffer = build("rd")
    waiting = buffer.store_episode(unpaid(0, 40))
    store(buffer, [50, 45], 1, first=1)
    assert buffer.first_episode == 1
    assert buffer.pay(waiting, 3.0) is False
    assert buffer.awaited == set()
    assert buffer.known is None


@pytest.mark.parametrize(("number", "value", "complaint"), [
    (5, 1.0, r"number: got 5, expected an episode that awaits its return \(1\)"),
    (0, 1.0, r"number: got 0, expected an episode that awaits its return \(1\)"),
    (-1, 1.0, r"number: got -1, expected"), (1, float("nan"), "value: got nan, expected a finite return"),
])
def test_a_wrong_return_is_one_line(number, value, complaint):
    buffer = build("rd")
    store(buffer, [5], 1)
    buffer.store_episode(unpaid(1, 6))
    with pytest.raises(ValueError, match=f"^{complaint}"):
        buffer.pay(number, value)
    assert buffer.awaited == {1}
    buffer.pay(1, 2.0)
    with pytest.raises(ValueError, match=r"^number: got 1, expected .* \(none does\)"):
        buffer.pay(1, 2.0)                                          # it has been paid


@pytest.mark.parametrize("alg", ["sac", "uniform", "ircr"])
def test_where_no_model_is_fitted_rewards_are_needed(alg):
    with pytest.raises(ValueError, match=r"^episode\['rews'\]: missing"):
        build(alg).store_episode(unpaid(0, 5))


@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize("alg", ["rd", "rrd", "rudder"])
def test_it_is_restored_with_returns_that_are_awaited_or_came_late(alg, paid):
    """An episode is saved when it is stored; its return is not in what was saved."""
    def make():
        return build(alg, K=3, **(PAYS if alg == "rudder" else {}))
    buffer = make()
    store(buffer, [20, 17], [1, 2])
    waiting = [buffer.store_episode(unpaid(number, 9)) for number in (2, 3)]
    saved = buffer.read_episodes(0, 4)
    if paid:
        buffer.pay(waiting[0], 6.0)
    other = make()
    other.restore(buffer.numbers(), {name: tensor.clone() for name, tensor in buffer.tensors().items()}, [(0, saved)])
    assert other.awaited == buffer.awaited == ({3} if paid else {2, 3})
    assert torch.equal(buffer.returns[:4], other.returns[:4])
    assert_same_from_here_on(buffer, other, [episode(9, 25), unpaid(10, 5)])
    assert buffer.pay(3, 1.5) is other.pay(3, 1.5) is True
    assert_same_from_here_on(buffer, other, [episode(11, 25)])


def test_without_late_returns_the_state_is_as_it_was():
    buffer = build("rrd", K=3)
    store(buffer, [20, 17], [1, 2])
    assert set(buffer.tensors()) == {"generator"}
    assert restored(buffer, lambda: build("rrd", K=3), 1).known is None
