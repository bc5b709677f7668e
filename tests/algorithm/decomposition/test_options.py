"""Options of single methods: RUDDER's lessons, outcomes in sequence models, what GRD shows the policy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from agents import A, O, make_agent, make_batch
from replays import assert_in_proportion, assert_same_from_here_on, build, restored, store, tags
from test_whole_episodes import doubles, episode, model_of

from algorithm.decomposition.fitting import burst
from algorithm.decomposition.whole import episodes_of
from algorithm.replay_buffer.lessons import weights
from utils.errors import ConfigError

RUDDER = dict(fit_every=10, fit_updates=2, fit_episodes=4, cell_size=4, credit_steps=12)


# Lessons ------------------------------------------------------------------------------------------------------------

def test_weights_of_lessons_are_the_relative_error_and_the_relative_deviation():
    errors, returns = torch.tensor([1.0, 3.0, torch.inf, 0.0]), torch.tensor([0.0, 2.0, 4.0, 10.0])
    known = np.array([1, 3, 3, 0.0])                                # not known: as the largest
    apart = np.abs(np.array([0, 2, 4, 10]) - 4.0)
    expected = known / known.mean() + apart / apart.mean()
    np.testing.assert_allclose(weights(errors, returns, 4), expected)
    np.testing.assert_allclose(weights(errors, returns, 2), np.where(expected >= sorted(expected)[2], expected, 0))
    np.testing.assert_allclose(weights(torch.full((3,), torch.inf), torch.ones(3), 3), np.ones(3))  # nothing is known
    np.testing.assert_allclose(weights(torch.zeros(3), torch.ones(3), 3), np.ones(3))


def test_episodes_are_drawn_by_what_they_teach():
    buffer = build("rudder", lesson_size=3, **RUDDER | {"fit_episodes": 300})
    store(buffer, [3, 9, 5, 2], [0, 2, 4, 10])
    buffer.lessons.errors[:4] = torch.tensor([1.0, 3.0, 3.0, 0.0])
    number = tags(buffer.sample_episodes()["ep_obs"])[0][:, 0]
    expected = weights(torch.tensor([1.0, 3, 3, 0]), torch.tensor([0.0, 2, 4, 10]), 3).numpy()
    counts = np.bincount(number, minlength=4)
    assert (counts == 0).sum() == (expected == 0).sum() == 1
    assert_in_proportion(counts[expected > 0], expected[expected > 0])


def test_after_an_update_each_episode_has_the_error_of_its_last_prediction():
    buffer = build("rudder", obs_dim=O, act_dim=A, lesson_size=100, **RUDDER)
    for seed, length in enumerate([5, 7, 3, 6, 4]):
        buffer.store_episode(episode(length, seed))
    model = model_of("rudder", lesson_size=100, return_scale=1.0, **RUDDER).float()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    list(burst(model, buffer, 1, None))
    model.load_state_dict(before)                                   # the errors are of the model before its step
    for slot in set(buffer.lessons.drawn.tolist()):
        one = buffer.episode_at(slot)
        batch = {name: value.float() if value.is_floating_point() else value for name, value in doubles([one]).items()}
        _, info = model.loss(batch)
        torch.testing.assert_close(buffer.lessons.errors[slot], info["R_loss"])
    assert not buffer.lessons.errors[5:].isfinite().any()


def test_an_episode_with_two_labels_has_the_mean_of_their_errors():
    model = model_of("rudder", lesson_size=9, return_scale=1.0, **RUDDER)
    ends = np.array([0, 1, 0, 0, 1], bool)
    _, info = model.loss(doubles([episode(5, 1, label_end=ends), episode(4, 2)]))
    errors = model.episode_errors
    torch.testing.assert_close((2 * errors[0] + errors[1]) / 3, info["R_loss"])


def test_lessons_are_restored():
    def make():
        return build("rudder", lesson_size=3, **RUDDER)
    buffer = make()
    store(buffer, [20, 17, 9, 31, 30, 12], range(6))
    buffer.sample_fit(["ep_return"])
    buffer.note_errors(torch.arange(4.0))
    other = restored(buffer, make, parts=2)
    for _ in range(3):
        assert torch.equal(buffer.sample_episodes()["ep_obs"], other.sample_episodes()["ep_obs"])
    assert_same_from_here_on(buffer, other, [])


def test_a_recurrent_model_starts_once_enough_returns_differ_and_stops_at_its_goal():
    buffer = build("rudder", obs_dim=O, act_dim=A, **RUDDER)
    model = model_of("rudder", lesson_start=3, lesson_goal=0.29, **RUDDER).float()
    for _ in range(3):
        buffer.store_episode(episode(4, 7))                         # one and the same
        assert list(burst(model, buffer, 5, None)) == []
    buffer.store_episode(episode(4, 8))
    assert len(list(burst(model, buffer, 5, None))) == 5 or model.satisfied()
    model.running.fill_(0.2899)
    model.update = lambda batch, inspect: {"R_loss": torch.tensor(0.0)}
    assert len(list(burst(model, buffer, 5, None))) == 1            # it is below already, and looks after an update
    model.running.fill_(0.5)
    assert len(list(burst(model, buffer, 5, None))) == 5


def test_the_running_error_begins_with_the_published_number_and_forgets_by_a_hundredth():
    model = model_of("rudder", lesson_goal=0.1, return_scale=1.0, **RUDDER).float()
    assert float(model.running) == pytest.approx(0.3)
    batch = {name: value.float() if value.is_floating_point() else value for name, value in
             doubles([episode(4, 1)]).items()}
    info = model.update(batch)
    assert float(model.running) == pytest.approx(0.99 * 0.3 + 0.01 * float(info["R_loss"]), rel=1e-5)
    assert "running" not in model_of("rudder", **RUDDER).state_dict()       # without a goal the state is as it was


# Outcomes -----------------------------------------------------------------------------------------------------------

def outcome_of(value: float, length: int, seed: int) -> dict:
    rews = np.zeros((length, 1), np.float32)
    rews[-1] = value
    return episode(length, seed) | {"rews": rews}


def test_rudder_fits_the_log_odds_of_success():
    model = model_of("rudder", likelihood="bernoulli", **RUDDER)
    episodes = [outcome_of(1, 5, 0), outcome_of(0, 3, 1), outcome_of(1, 1, 2)]
    batch = doubles(episodes)
    with torch.no_grad():
        g = model.predictions(episodes_of(batch))
        main, aux = [], []
        for n, one in enumerate(episodes):
            length, y = len(one["rews"]), torch.full((len(one["rews"]),), float(one["rews"].sum()), dtype=torch.float64)
            each = F.binary_cross_entropy(g[n, :length].sigmoid(), y, reduction="none")
            main.append(each[-1]), aux.append(each.mean())
        loss, info = model.loss(batch)
    torch.testing.assert_close(info["R_loss"], torch.stack(main).mean())
    torch.testing.assert_close(info["R_aux"], torch.stack(aux).mean())
    torch.testing.assert_close(loss, info["R_loss"] + 0.5 * info["R_aux"])


def test_rudder_pays_the_rise_of_the_probability_and_the_outcome_in_all():
    model = model_of("rudder", likelihood="bernoulli", quality_floor=0.0, **RUDDER)
    one = outcome_of(1, 6, 0)
    with torch.no_grad():
        p = model.predictions(episodes_of(doubles([one])))[0].sigmoid()
    paid = model.float().redistribute(one)
    rises = torch.cat([p[:1], p[1:] - p[:-1]])
    torch.testing.assert_close(paid, rises + (1 - rises.sum()) / 6, rtol=1e-5, atol=1e-5, check_dtype=False)
    assert float(paid.sum()) == pytest.approx(1, abs=1e-5)


def test_the_quality_of_probabilities_is_that_of_their_squared_error():
    model = model_of("rudder", likelihood="bernoulli", **RUDDER).float()
    batch = {name: value.float() if value.is_floating_point() else value for name, value in
             doubles([outcome_of(1, 5, 0), outcome_of(0, 3, 1)]).items()}
    with torch.no_grad():
        steps = episodes_of(batch)
        p = model.predictions(steps).sigmoid()[[0, 1], steps.lengths - 1]
    info = model.update(batch)
    error = float((p - torch.tensor([1.0, 0.0])).square().mean())
    assert float(info["R2_return"]) == pytest.approx(1 - error / 0.25, abs=1e-5)


def test_rbt_fits_the_outcomes_of_bags_and_pays_the_rise_of_the_probability():
    sizes = dict(attention_size=8, attention_layers=1, attention_window=3, test_timesteps=9)
    model = model_of("rbt", likelihood="bernoulli", fit_every=10, **sizes)
    with torch.no_grad():
        model.outcome.bias.fill_(0.4)
        batch = doubles([outcome_of(1, 5, 0), outcome_of(0, 3, 1)])
        episodes = episodes_of(batch)
        rewards = episodes.within(model.window_rewards(model.trunk(episodes, episodes.obs)[1], episodes.inside))
        expected = F.binary_cross_entropy_with_logits(rewards.sum(1) + 0.4, torch.tensor([1.0, 0.0]).double())
        torch.testing.assert_close(model.losses_of(batch)[0], expected)
    paid = model.float().redistribute(outcome_of(1, 5, 0))
    bounds = torch.sigmoid(torch.tensor(0.4))
    assert -float(bounds) < float(paid.sum()) < 1 - float(bounds)
    model.outcome = None
    logits = model.redistribute(outcome_of(1, 5, 0)) / float(model.scale())
    torch.testing.assert_close(paid.sum(), torch.sigmoid(logits.sum() + 0.4) - bounds, check_dtype=False)


@pytest.mark.parametrize("alg", ["rudder", "rbt"])
def test_a_return_that_is_no_outcome_is_named(alg):
    model = model_of(alg, likelihood="bernoulli", fit_every=10)
    with pytest.raises(ValueError, match=r"^batch\['ep_bag_return'\]: got 2 with likelihood=bernoulli, expected"):
        model.check(doubles([outcome_of(2, 3, 0)]))


def test_for_rudder_an_outcome_is_that_of_a_whole_episode():
    model = model_of("rudder", likelihood="bernoulli", **RUDDER)
    one = outcome_of(1, 4, 0) | {"label_end": np.array([0, 1, 0, 1], bool)}
    with pytest.raises(ValueError, match=r"^batch\['ep_bags'\]: got labels on intervals with likelihood=bernoulli"):
        model.check(doubles([one]))


# What GRD shows the policy ------------------------------------------------------------------------------------------

def grd(basis: str = "sac", shown: tuple[int, ...] = (1, 3), **settings):
    """An agent whose policy sees these dimensions of the state: 3 leads to the reward, and 1 to 3."""
    agent = make_agent("grd", basis, fit_episodes=2, **settings)
    logits = agent.decomposition.logits
    with torch.no_grad():
        for one in logits.values():
            one.copy_(torch.tensor([-1.0, 1.0]).expand_as(one))
        logits["s_r"][3, 0] = logits["s_s"][1, 3, 0] = 5.0
    assert agent.decomposition.policy_mask().nonzero()[:, 0].tolist() == list(shown)
    return agent


def changed(obs: np.ndarray, *dims: int) -> np.ndarray:
    other = obs.copy()
    other[..., list(dims)] += 1.0
    return other


@pytest.mark.parametrize("basis", ["sac", "td3", "dqn"])
def test_the_policy_acts_by_the_dimensions_that_lead_to_the_reward(basis):
    agent, free = grd(basis, mask_policy=True), grd(basis)
    obs = np.float32(np.random.default_rng(0).normal(size=(64, O)))

    def values(one, obs):
        return one.step(obs, test_info=True)[1]["Q_average"].numpy()
    np.testing.assert_array_equal(values(agent, obs), values(agent, changed(obs, 0, 2, 4)))
    assert np.abs(values(agent, obs) - values(agent, changed(obs, 1))).max() > 1e-4
    assert np.abs(values(free, obs) - values(free, changed(obs, 0))).max() > 1e-4


@pytest.mark.parametrize("verb", ["train", "train_pi"])
def test_critics_and_policy_learn_from_what_they_see_and_the_model_from_all(verb):
    agent = grd(mask_policy=True)
    whole = {name: torch.as_tensor(value, dtype=torch.float32 if value.is_floating_point() else value.dtype)
             for name, value in doubles([episode(4, 1), episode(3, 2)]).items()}
    batch = make_batch() | whole
    other = batch | {name: torch.as_tensor(changed(batch[name].numpy(), 0, 2, 4)) for name in ("obs", "obs_next")}
    twin = grd(mask_policy=True)
    for one, given in ((agent, batch), (twin, other)):
        torch.manual_seed(0)
        getattr(one, verb)(given)
    ours, theirs = agent.state_dict(), twin.state_dict()
    differ = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    assert not any(name.startswith(("nets.main", "nets.target")) for name in differ)
    assert any(name.startswith("nets.decomposition.dynamics") for name in differ) == (verb == "train")


def test_the_mask_follows_edges_of_any_number():
    model = model_of("grd")
    with torch.no_grad():
        for one in model.logits.values():
            one.copy_(torch.tensor([-1.0, 1.0]).expand_as(one))
        model.logits["s_r"][0, 0] = 5.0
        for i in range(O - 1):
            model.logits["s_s"][i + 1, i, 0] = 5.0                  # 4 -> 3 -> 2 -> 1 -> 0 -> r
    assert model.policy_mask().tolist() == [1.0] * O


def test_on_policy_the_mask_is_refused():
    with pytest.raises(ConfigError, match=r"^mask_policy: got True over ppo, expected an off-policy basis such as sac"):
        make_agent("grd", "ppo", mask_policy=True)
