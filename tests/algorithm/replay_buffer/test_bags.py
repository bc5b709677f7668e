"""Labels on any intervals, which may overlap, in the replay and with no agent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from replays import assert_same_from_here_on, build, episode, restored, store, tags

import return_decomposition as rd
from algorithm.decomposition.episodes import hold, whole_episodes

BAGS = [(0, 4), (2, 6), (5, 6)]
LABELS = [10.0, -3.0, 0.5]


def labelled(number: int, length: int, bags=BAGS, labels=LABELS) -> dict:
    own = {"bags": np.array(bags)} | ({} if labels is None else {"bag_return": np.array(labels)[:, None]})
    return episode(number, length, 7) | own


def found_in(batch) -> dict[int, set[tuple[int, int, float]]]:
    """Of each episode drawn, by its number: (first step, end, label) of its bags."""
    number, found = tags(batch["ep_obs"])[0][:, 0], {}
    assert len(batch["ep_bags"]) == len(batch["ep_bag_return"])
    for (n, first, end), label in zip(batch["ep_bags"].tolist(), batch["ep_bag_return"][:, 0], strict=True):
        if end > first:
            found.setdefault(int(number[n]), set()).add((first, end, round(float(label), 4)))
    return found


def test_overlapping_bags_are_drawn_beside_episodes_with_other_labels():
    buffer = build("rd", fit_episodes=60)
    ends = np.array([0, 0, 1, 0, 0, 1], bool)
    buffer.store_episode(episode(0, 6, 7) | {"label_end": ends})
    store(buffer, [3], [5], first=1)
    buffer.store_episode(labelled(2, 6))
    store(buffer, [4], [2], first=3)
    rews = episode(0, 6, 7)["rews"][:, 0]
    assert found_in(buffer.sample()) == {
        0: {(0, 3, round(float(rews[:3].sum()), 4)), (3, 6, round(float(rews[3:].sum()), 4))}, 1: {(0, 3, 5.0)},
        2: {(0, 4, 10.0), (2, 6, -3.0), (5, 6, 0.5)}, 3: {(0, 4, 2.0)}}


def test_without_labels_of_their_own_bags_have_the_sums_of_their_rewards():
    buffer = build("rd", fit_episodes=20)
    buffer.store_episode(labelled(0, 6, labels=None))
    rews = episode(0, 6, 7)["rews"][:, 0]
    assert found_in(buffer.sample())[0] == {(first, end, round(float(rews[first:end].sum()), 4)) for first, end in BAGS}


@pytest.mark.parametrize("alg", ["rd", "lrr", "rudder", "rbt"])
def test_the_loss_of_overlapping_bags_is_that_of_the_same_bags_one_by_one(alg):
    """The mean over bags, whichever overlap: of RD, by hand; of all, the mean of the losses of single bags."""
    model = rd.create_decomposition(alg, observation_space=box(3), action_space=box(2), device="cpu",
                                    **{"return_scale": 1.0} if alg != "rd" else {})
    together = whole_episodes([hold(labelled(0, 6))])
    alone = [whole_episodes([hold(labelled(0, 6, [bag], [label]))]) for bag, label in zip(BAGS, LABELS, strict=True)]
    with torch.no_grad():
        losses = [model.loss(batch)[1]["R_loss"] for batch in alone]
        found = model.loss(together)[1]["R_loss"]
        torch.testing.assert_close(found, torch.stack(losses).mean())
        if alg == "rd":
            pred = model.rewards(*(together[f"ep_{name}"] for name in ("obs", "acts", "obs_next")))[0, :, 0]
            errors = [(float(pred[first:end].sum()) - label) / (end - first)
                      for (first, end), label in zip(BAGS, LABELS, strict=True)]
            assert float(found) == pytest.approx(np.square(errors).mean(), rel=1e-4)


def box(size: int):
    from gymnasium.spaces import Box
    return Box(-1, 1, (size,), np.float32)


def test_windows_of_a_reward_that_is_known_teach_it():
    """A label for each two steps in a row determines what whole episodes of one kind do not."""
    rng, model = np.random.default_rng(0), rd.create_decomposition(
        "rd", observation_space=box(2), action_space=box(1), device="cpu", r_lr=3e-3, fit_episodes=8)
    episodes = []
    for _ in range(40):
        obs = rng.uniform(-1, 1, (7, 2)).astype(np.float32)
        rews = obs[:6, :1]
        episodes.append({"obs": obs[:-1], "obs_next": obs[1:], "acts": np.zeros((6, 1), np.float32), "rews": rews,
                         "done": np.zeros((6, 1), np.float32), "bags": [(t, t + 2) for t in range(5)]})
    model.fit(episodes, 300)
    paid = np.concatenate([model.redistribute(one).numpy() for one in episodes])
    true = np.concatenate([one["rews"][:, 0] for one in episodes])
    assert np.corrcoef(paid, true)[0, 1] > 0.97


@pytest.mark.parametrize("alg", ["gp_lrr", "ares", "diaster", "grd", "vib_rd", "rrd", "uniform", "sac"])
def test_for_a_method_that_cannot_bags_are_one_line(alg):
    with pytest.raises(ValueError, match=rf"^episode\['bags'\]: got labels on intervals, which {alg} does not fit "
                                         "here; expected the return alone, or rd, lrr, rudder or rbt "):
        build(alg, **{"K": 3} if alg == "rrd" else {}).store_episode(labelled(0, 6))
    if alg != "sac":
        model = rd.create_decomposition(alg, observation_space=box(3), action_space=box(2), device="cpu")
        with pytest.raises(ValueError, match=r"^episode\['bags'\]: "):
            model.fit([labelled(0, 6)], 1)


@pytest.mark.parametrize(("bags", "labels", "complaint"), [
    ([(0, 7)], None, r"episode\['bags'\]: got \(0, 7\), expected 0 <= first < end <= 6, the steps of the episode"),
    ([(0, 2), (-1, 3)], None, r"episode\['bags'\]: got \(-1, 3\), expected"),
    ([(3, 3)], None, r"episode\['bags'\]: got \(3, 3\), expected"),
    ([(0.0, 3.0)], None, r"episode\['bags'\]: got float64 of shape \(1, 2\), expected integers of shape \(M, 2\)"),
    ([0, 3], None, r"episode\['bags'\]: got int64 of shape \(2,\)"),
    ([(0, 1)] * 7, None, r"episode\['bags'\]: got int64 of shape \(7, 2\), .* of 1 to 6 bags"),
    ([(0, 3)], [1.0, 2.0], r"episode\['bag_return'\]: got shape \(2, 1\), expected \(1, 1\), one label for each bag"),
    ([(0, 3)], [np.nan], r"episode\['bag_return'\]: got a label that is not finite"),
])
def test_a_wrong_bag_is_one_line_and_nothing_is_stored(bags, labels, complaint):
    buffer = build("rd")
    with pytest.raises(ValueError, match=f"^{complaint}"):
        buffer.store_episode(labelled(0, 6, bags, labels))
    assert not len(buffer)
    with pytest.raises(ValueError, match=f"^{complaint}"):
        hold(labelled(0, 6, bags, labels))


@pytest.mark.parametrize("flags", [np.zeros((7, 1), bool), np.zeros((6, 2), bool), np.zeros((6, 1))])
def test_a_label_on_a_step_that_does_not_exist_is_one_line(flags):
    with pytest.raises(ValueError, match=r"^episode\['label_end'\]: got \w+ of shape .*, expected bool of shape"):
        build("rd").store_episode(episode(0, 6) | {"label_end": flags})


def test_it_is_restored_after_its_ring_has_turned():
    def make():
        return build("rd", fit_episodes=3)
    buffer = make()
    store(buffer, [20, 17], [1, 2])
    for number, length in ((2, 30), (3, 31), (4, 12)):
        buffer.store_episode(labelled(number, length))
    store(buffer, [9], 1, first=5)
    assert buffer.first_episode > 0
    other = restored(buffer, make, parts=3)
    assert_same_from_here_on(buffer, other, [labelled(9, 25), episode(10, 5)])


def test_the_same_seed_draws_the_same_with_bags_that_say_what_label_end_says():
    ends = np.array([0, 0, 1, 0, 0, 1], bool)[:, None]
    one, other = build("rd", fit_episodes=5), build("rd", fit_episodes=5)
    for number in range(4):
        one.store_episode(episode(number, 6, 7) | {"label_end": ends})
        other.store_episode(episode(number, 6, 7) | {"bags": [(0, 3), (3, 6)]})
    ours, theirs = one.sample(), other.sample()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name])
