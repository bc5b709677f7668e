"""Properties of every registered decomposition, as a model with no agent."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import pytest
import torch
from agents import A, O
from gymnasium.spaces import Box, Discrete

import return_decomposition as rd
from algorithm import create_agent, create_decomposition
from algorithm.batch import check_batch
from algorithm.draws import pad
from utils.errors import ConfigError
from utils.settings.algorithms import decompositions

SMALL = {"rrd": dict(rrd_batch_size=12, rrd_sample_size=4, r_lr=1e-2), "rbt": dict(attention_size=8, test_timesteps=20),
         "vib_rd": dict(rrd_batch_size=12, rrd_sample_size=4), "rudder": dict(cell_size=8),
         "diaster": dict(cell_size=8), "ares": dict(attention_size=8)}
each = pytest.mark.parametrize("alg", decompositions())
each_kind = pytest.mark.parametrize(("alg", "kind"), [(alg, kind) for alg in decompositions()
                                                      for kind in ("vectors", "indices", "pictures")
                                                      if (alg, kind) != ("grd", "pictures")])
FRAME = (12, 12, 2)


def settings(alg: str, kind: str = "vectors", **changes) -> Namespace:
    sizes = {"vectors": dict(obs_dims=O, acts_dims=A), "indices": dict(obs_dims=O, acts_dims=A, basis_alg="dqn"),
             "pictures": dict(obs_dims=FRAME, acts_dims=A, basis_alg="dqn")}[kind]
    return Namespace(**dict(alg=alg, device="cpu") | sizes | SMALL.get(alg, {}) | changes)


def make(alg: str, kind: str = "vectors", **changes):
    """A model whose IRCR knows a range of returns."""
    model = create_decomposition(settings(alg, kind, **changes))
    model.fit([episode(5, 0, kind), episode(8, 1, kind)], 0)
    return model


def episode(length: int, seed: int = 0, kind: str = "vectors") -> dict[str, np.ndarray]:
    """`length` steps, paid at their end alone."""
    rng = np.random.default_rng(seed)
    rews = np.zeros((length, 1), np.float32)
    rews[-1] = rng.normal()
    rest = {"rews": rews, "done": np.zeros((length, 1), np.float32),
            "acts": (np.tanh(rng.normal(size=(length, A))).astype(np.float32) if kind == "vectors"
                     else rng.integers(A, size=length))}
    if kind == "pictures":
        return rest | {"frames": rng.integers(256, size=(length + FRAME[2], *FRAME[:2]), dtype=np.uint8)}
    return rest | {name: rng.normal(size=(length, O)).astype(np.float32) for name in ("obs", "obs_next")}


def padded(episodes: list[dict[str, np.ndarray]], value: float, index: int = 0):
    """N episodes as one, (N, L, ...), with `value` (in integers `index`) beyond their ends; and the mask."""
    mask = pad([torch.ones(len(one["rews"]), dtype=torch.bool) for one in episodes])
    fields = {name: pad([torch.as_tensor(one[name]) for one in episodes]) for name in episodes[0]}
    for field in fields.values():
        field[~mask] = value if field.is_floating_point() else index
    return fields, mask


# Payments ---------------------------------------------------------------------------------------------------------

@each_kind
@pytest.mark.parametrize("length", [1, 2, 7])
def test_an_episode_is_paid_one_finite_number_a_step(alg, kind, length):
    model = make(alg, kind)
    paid = model.redistribute(episode(length, 3, kind))
    assert paid.shape == (length,)
    assert not paid.requires_grad
    assert paid.isfinite().all()


@each
@pytest.mark.parametrize("kind", ["vectors", "indices"])
@pytest.mark.parametrize(("value", "index"), [(0.0, 0), (1e6, A), (float("nan"), -1)])
def test_padding_beyond_the_end_of_an_episode_changes_nothing(alg, kind, value, index):
    model, episodes = make(alg, kind), [episode(length, length, kind) for length in (3, 1, 6)]
    fields, mask = padded(episodes, value, index)
    paid = model.redistribute(fields, mask)
    assert paid.shape == mask.shape
    assert not paid[~mask].any()
    for one, row, inside in zip(episodes, paid, mask, strict=True):
        torch.testing.assert_close(row[inside], model.redistribute(one))


@each
def test_a_markov_model_pays_an_episode_what_it_pays_its_steps_and_another_refuses_steps(alg):
    model, one = make(alg), episode(6)
    steps = [one[name] for name in ("obs", "acts", "obs_next")]
    if not model.markov:
        with pytest.raises(ConfigError, match=r"^rewards: .* pays a step by its whole episode; call redistribute"):
            model.rewards(*steps)
        return
    rewards = model.rewards(*steps)
    assert rewards.shape == (6, 1)
    torch.testing.assert_close(model.redistribute(one), rewards[:, 0], rtol=0, atol=0)
    shaped = model.rewards(*(value.reshape(2, 3, -1) for value in steps))
    torch.testing.assert_close(shaped.reshape(6, 1), rewards)


@each
def test_a_batch_is_paid_one_number_a_step(alg):
    model, one = make(alg), episode(6)
    spec = {"obs": ("B", O), "obs_next": ("B", O), "acts": model.acts_shape} | model.pay_spec()
    paid = model.pay(check_batch(one, spec, {}, torch.device("cpu")))
    assert paid.shape == (6, 1)
    if model.markov:
        torch.testing.assert_close(paid[:, 0].detach(), model.redistribute(one))
    else:
        np.testing.assert_array_equal(paid, one["rews"])


@pytest.mark.parametrize("field", ["obs", "acts", "obs_next", "rews"])
@each
def test_an_episode_without_a_field_is_named(alg, field):
    model, one = make(alg), episode(4)
    del one[field]
    with pytest.raises(ValueError, match=rf"episode\['{field}'\]: missing"):
        model.fit([one], 1)
    if field != "rews" or not model.markov:
        with pytest.raises(ValueError, match=rf"episode\['{field}'\]: missing"):
            model.redistribute(one)
    if field != "acts":
        with pytest.raises(ValueError, match=rf"episode\['{field}'\]: got 3 steps, expected 4"):
            model.fit([episode(4) | {field: episode(4)[field][:3]}], 1)
    for call in (model.redistribute, lambda one: model.fit([one], 1)):
        with pytest.raises(ValueError, match=r"episode\['obs'\]: got 0 steps, expected at least 1"):
            call({name: value[:0] for name, value in episode(4).items()})
    with pytest.raises(ValueError, match=r"^episodes: got none"):
        model.fit([], 1)


@each
def test_a_mask_of_another_shape_is_named(alg):
    fields, mask = padded([episode(3), episode(4)], 0.0)
    for wrong in (mask[:1], mask[:, :-1], mask[0]):
        with pytest.raises(ValueError, match=r"^mask: got shape .*, expected \(N, L\), the first two sizes of obs"):
            make(alg).redistribute(fields, wrong)


def test_ircr_pays_the_return_scaled_to_a_range_and_says_if_it_knows_none():
    model, one = create_decomposition(settings("ircr")), episode(4)
    with pytest.raises(ConfigError, match=r"^return_range: missing"):
        model.redistribute(one)
    one["rews"][-1] = 3.0
    known = one | {"return_range": np.array([1.0, 5.0])}
    assert model.redistribute(known).tolist() == [0.5] * 4
    model.fit([{**one, "rews": one["rews"] * factor} for factor in (0, 2)], 10)
    assert model.redistribute(one).tolist() == [0.5] * 4
    other = create_decomposition(settings("ircr"))
    other.load_state_dict(model.state_dict())
    assert other.redistribute(one).tolist() == [0.5] * 4
    assert model.redistribute(known | {"return_range": np.array([2.0, 2.0])}).tolist() == [0] * 4
    assert create_decomposition(settings("uniform")).redistribute(one).tolist() == [0.75] * 4


# With no agent ----------------------------------------------------------------------------------------------------

def game(length: int, seed: int) -> dict[str, np.ndarray]:
    """Steps that pay what their observation shows: its first number; the return comes at the end."""
    one = episode(length, seed)
    one["rews"][-1] = one["obs"][:, 0].sum()
    return one


@pytest.mark.parametrize("bias_correction", [False, True], ids=["biased", "unbiased"])
@pytest.mark.parametrize("obs_normalization", [False, True], ids=["raw", "normalised"])
@pytest.mark.sampled(2)
def test_rrd_learns_a_game_of_three_steps_with_no_agent(bias_correction, obs_normalization):
    model = create_decomposition(settings("rrd", rrd_bias_correction=bias_correction, rrd_batch_size=96,
                                          rrd_sample_size=3, r_lr=3e-3, obs_normalization=obs_normalization))
    games = [game(3, seed) for seed in range(200)]
    first = model.fit(games, 1)
    assert set(first) == set(model.metrics)
    assert model.fit(games, 400)["R_loss"] < first["R_loss"] / 3
    new = [game(3, seed) for seed in range(1000, 1050)]
    paid, true = (np.concatenate(some) for some in zip(*((model.redistribute(one).numpy(), one["obs"][:, 0])
                                                         for one in new), strict=True))
    assert np.corrcoef(paid, true)[0, 1] > 0.9
    assert np.square(paid - true).mean() < 0.25 * true.var()


def test_a_model_is_determined_by_its_seed_and_its_state_dict_is_all_of_it():
    games, one = [game(length, length) for length in (3, 4, 9)], game(5, 77)
    changes = dict(obs_normalization=True)
    first, second, other = (create_decomposition(settings("rrd", seed=seed, **changes)) for seed in (1, 1, 2))
    for model in (first, second, other):
        model.fit(games, 3)
    torch.testing.assert_close(first.redistribute(one), second.redistribute(one), rtol=0, atol=0)
    assert not torch.equal(first.redistribute(one), other.redistribute(one))
    other.load_state_dict(first.state_dict())
    torch.testing.assert_close(first.redistribute(one), other.redistribute(one), rtol=0, atol=0)


@each_kind
def test_every_model_can_be_fitted(alg, kind):
    model = make(alg, kind)
    found = model.fit([episode(length, length, kind) for length in (1, 2, 9)], 2)
    assert set(found) == (set(model.metrics) if model.opts else set())
    assert all(np.isfinite(value) for value in found.values())


def test_rrd_and_its_replay_draw_the_same_steps():
    """K steps of one episode without replacement, its mean reward and c; episodes in proportion to their lengths."""
    model = create_decomposition(settings("rrd", rrd_batch_size=4000, rrd_sample_size=4, rrd_bias_correction=True))
    episodes = [episode(length, length) for length in (2, 5, 13)]
    batch = check_batch(model.draw(episodes), model.loss_spec(), {}, torch.device("cpu"))
    counts = dict.fromkeys((2, 5, 13), 0)
    for obs, mean, c in zip(batch["rrd_obs"], batch["rrd_rews"], batch["rrd_var_coef"], strict=True):
        (one,) = (one for one in episodes if (one["obs"] == obs[0].numpy()).all(1).any())
        steps = [int(np.flatnonzero((one["obs"] == row.numpy()).all(1))[0]) for row in obs]
        length = len(one["rews"])
        counts[length] += 1
        assert len(set(steps)) == 4 or length == 2
        assert float(mean) == pytest.approx(float(one["rews"].sum()) / length, rel=1e-6)
        assert float(c) == pytest.approx({2: 1, 5: 0.2, 13: 1 - 4 / 13}[length])
    assert [counts[length] / 1000 for length in (2, 5, 13)] == pytest.approx([0.1, 0.25, 0.65], abs=0.05)


# In an agent ------------------------------------------------------------------------------------------------------

@each_kind
def test_an_agents_payments_are_its_models(alg, kind):
    agent, one = create_agent(settings(alg, kind, obs_normalization=kind == "vectors")), episode(6, 1, kind)
    if kind == "vectors":
        agent.normalizer_update({name: one[name] * 3 for name in ("obs", "obs_next")})
    one |= {"return_range": np.array([-5.0, 5.0])} if alg == "ircr" else {}
    paid = agent.redistribute(one)
    assert paid.shape == (6,)
    torch.testing.assert_close(agent.decomposition.redistribute(one), paid, rtol=0, atol=0)
    if kind == "vectors" and agent.decomposition.markov:
        steps = {name: agent.normalize(torch.as_tensor(one[name])) for name in ("obs", "obs_next")}
        expected = agent.decomposition.predict(steps["obs"], torch.as_tensor(one["acts"]), steps["obs_next"])
        torch.testing.assert_close(paid, expected[:, 0].detach())


def test_a_decomposition_is_created_for_spaces():
    spaces = dict(observation_space=Box(-1, 1, (3,)), action_space=Box(-2, 2, (2,)), device=torch.device("cpu"))
    model = rd.create_decomposition("rrd", rrd_batch_size=8, rrd_sample_size=4, **spaces)
    steps = [torch.randn(5, size) for size in (3, 2, 3)]
    assert model.rewards(*steps).shape == (5, 1)
    indices = rd.create_decomposition("rudder", **spaces | dict(action_space=Discrete(4)))
    assert (indices.act_dim, indices.config.basis_alg, indices.config.discrete) == (4, "dqn", True)
    with pytest.raises(ConfigError, match=r"alg: got 'rdd'; did you mean .*, expected one of rrd"):
        rd.create_decomposition("rdd", **spaces)
    with pytest.raises(ConfigError, match="cell_size: not a setting of rrd"):
        rd.create_decomposition("rrd", cell_size=3, **spaces)


def test_create_decomposition_refuses_other_algorithms():
    with pytest.raises(ConfigError, match=r"^alg: got 'sac', expected one of rrd, ircr, uniform, rd, vib_rd"):
        create_decomposition(Namespace(alg="sac", obs_dims=O, acts_dims=A))
