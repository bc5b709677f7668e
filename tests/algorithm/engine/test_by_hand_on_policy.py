"""PPO's and A2C's gradients by hand against autograd, in float64, and the engine that steps by them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import pytest
import torch
from rollouts import fill, make

from algorithm.engine import Engine, batches, create_engine
from algorithm.engine.by_hand.kernels import Kernels
from algorithm.engine.by_hand.rollouts import RolloutEngine
from algorithm.learning_rates import apply_settings
from utils.errors import ConfigError
from utils.finite import NotFiniteError

SAME = 1e-12
OPTIONS = {
    "default": {},
    "short last minibatch": dict(batch_size=10),
    "discrete": dict(discrete=True, ent_coef=0.1),
    "entropy": dict(ent_coef=0.3, vf_coef=0.7),
    "value clipped": dict(vf_clip_coef=0.05),
    "clipped value alone": dict(vf_clip_coef=0.05, vf_clip_max=False),
    "clip": dict(clip_coef=0.02),
    "clip, discrete": dict(clip_coef=0.02, discrete=True),
    "norm": dict(max_grad_norm=0.01),
    "no norm": dict(max_grad_norm=None),
    "schedule": dict(lr_schedule="linear", lr_end=0.1),
    "rollout": dict(normalize_advantages="rollout"),
    "not normalised": dict(normalize_advantages="none"),
    "one row": dict(batch_size=1),
    "normaliser": dict(obs_normalization=True),
    "log std at its lower limit": dict(log_std=-5.0),
    "log std below it": dict(log_std=-5.5),
    "networks": dict(hidden_sizes=(9, 8, 7), activation="relu", critic_hidden_sizes=(6,), critic_activation="gelu"),
    "shared": dict(shared_sizes=(10, 9), hidden_sizes=(8,), ent_coef=0.3, vf_coef=0.7),
    "shared, discrete": dict(shared_sizes=(9,), hidden_sizes=(8, 7), activation="silu", critic_activation="relu",
                             discrete=True, ent_coef=0.1, max_grad_norm=0.01),
    "rmsprop": dict(optimizer="rmsprop"),
    "stop": dict(target_kl=0.01, learning_rate=0.01),
    "stop after an epoch": dict(target_kl=0.003, learning_rate=0.003, kl_stop="epoch"),
    "a2c": dict(alg="a2c", batch_size=32),
    "a2c, discrete": dict(alg="a2c", batch_size=16, discrete=True, ent_coef=0.1, normalize_advantages="minibatch"),
}
each = pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)


def filled(mask: bool = False, log_std: float | None = None, **settings):
    """An agent in float64 whose weights have moved a little since its rollout, so that ratios differ from 1."""
    agent, buffer = make(**dict(alg="ppo", batch_size=8, n_epochs=3) | settings)
    agent.policy.double()
    agent.opts = [agent._make_optimizer()]
    apply_settings(agent, agent.config)
    torch.manual_seed(0)
    if log_std is not None:
        agent.policy.log_std.data.fill_(log_std)
    fill(agent, buffer)
    if not agent.config.discrete:                       # a batch that is checked has actions in float32
        buffer.fields["acts"] = buffer["acts"].float().double()
    agent.finish_rollout(buffer, buffer.last_obs)
    if mask:
        buffer.set_extras({"mask": (torch.rand(8, 4) < 0.6).double()})
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            if log_std is None or parameter is not agent.policy.log_std:
                parameter.add_((0.05 if log_std is None else 1e-4) * torch.randn_like(parameter))
    agent.begin_updates(buffer)
    return agent, buffer


def copies(agent) -> dict:
    return {name: tensor.clone() for name, tensor in agent.state_dict().items()}


def run_of(engine, buffer) -> Iterator[tuple[str, tuple[float, int]]]:
    """The name, sum and number of summands of each metric of the passes over a rollout."""
    for name, total, count in engine.run(buffer.updates).items():
        yield name, (float(total), count)


def trained(kind, **settings) -> tuple[dict, dict]:
    """The state and the sums of the metrics after the passes over a rollout."""
    agent, buffer = filled(**settings)
    found = dict(run_of(kind(agent, buffer), buffer))
    return copies(agent), found


def agree(ours: tuple[dict, dict], expected: tuple[dict, dict]) -> None:
    assert ours[0].keys() == expected[0].keys()
    for name, value in expected[0].items():
        torch.testing.assert_close(ours[0][name], value, rtol=SAME, atol=SAME, msg=name)
    assert ours[1].keys() == expected[1].keys()
    for name, (total, count) in expected[1].items():
        assert ours[1][name] == (pytest.approx(total, rel=1e-9, abs=SAME), count), name


@pytest.mark.parametrize("mask", [False, True], ids=["all rows", "masked"])
@each
def test_the_passes_over_a_rollout_are_autograds(option, mask):
    agree(trained(RolloutEngine, mask=mask, **option), trained(Engine, mask=mask, **option))


@each
def test_every_gradient_is_autograds(option):
    """With their sizes, which Adam's first steps hide."""
    (agent, buffer), (other, others) = filled(**option), filled(**option)
    batch = agent.checked(buffer.first_batch(), agent.spec())
    agent.losses(batch)[0].backward()
    engine = RolloutEngine(other, others)
    engine.call("train", others.first_batch())
    names = {f"gradient of nets.policy.{name}": p.grad for name, p in agent.policy.named_parameters()}
    assert engine.gradients.keys() == names.keys()
    for name, gradient in names.items():
        torch.testing.assert_close(engine.gradients[name], gradient, rtol=1e-9, atol=SAME, msg=name)
    beyond = option.get("log_std", 0.0) < -5
    assert bool(names.get("gradient of nets.policy.log_std", torch.ones(1)).any()) != beyond


@pytest.mark.parametrize("settings", [{}, dict(batch_size=10, discrete=True)], ids=["default", "discrete"])
def test_two_threads_give_the_bits_of_one(settings):
    (agent, buffer), (other, others) = filled(**settings), filled(**settings)
    expected = dict(run_of(RolloutEngine(agent, buffer), buffer))
    before = torch.get_num_threads()
    assert dict(run_of(RolloutEngine(other, others, Kernels("mm", 2, 1)), others)) == expected
    assert torch.get_num_threads() == before
    ours = copies(other)
    assert all(torch.equal(ours[name], value) for name, value in copies(agent).items())


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("mask", [False, True], ids=["all rows", "masked"])
@pytest.mark.parametrize("settings", [{}, dict(discrete=True), dict(vf_clip_coef=0.1, batch_size=12),
                                      dict(alg="a2c")], ids=str)
def test_graphs_give_the_bits_of_python(settings, mask, monkeypatch):
    """A minibatch of 12, whose share of a row float32 rounds: sizes in a graph may become tensors."""
    graphs = trained(RolloutEngine, mask=mask, **settings)
    monkeypatch.setattr("algorithm.engine.by_hand.traced.trace", lambda part, batch, state: part)
    plain = trained(RolloutEngine, mask=mask, **settings)
    assert all(torch.equal(graphs[0][name], value) for name, value in plain[0].items())
    assert graphs[1] == plain[1]


@pytest.mark.parametrize("ahead", [1, 20, 10_000])
@pytest.mark.parametrize("batch_size", [8, 10])
def test_minibatches_that_are_read_ahead_are_those_of_sample(batch_size, ahead, monkeypatch):
    monkeypatch.setattr(batches, "AHEAD", ahead)
    (agent, one), (_, other) = (filled(batch_size=batch_size) for _ in "ab")
    found = [{name: value.split(rows)[i] for name, value in fields.items()}
             for fields, rows in batches.read_ahead(one, one.updates) for i in range(len(rows))]
    expected = [other.sample() for _ in range(other.updates)]
    assert len(found) == len(expected) == 12
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys() == agent.spec().keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (one.drawn, int(one.cursor)) == (other.drawn, int(other.cursor))


def test_a_state_that_is_loaded_continues_as_the_engine_would(tmp_path):
    (agent, buffer), (other, others) = filled(), filled(seed=7)
    engine, theirs = RolloutEngine(agent, buffer), RolloutEngine(other, others)
    engine.run(buffer.updates)
    agent.save_model(tmp_path / "one.safetensors")
    other.load_model(tmp_path / "one.safetensors")
    theirs.refresh()
    for one, held in ((agent, buffer), (other, buffer)):
        one.begin_updates(held, torch.arange(32).repeat(3, 1))
        (engine if one is agent else theirs).buffer = held
        (engine if one is agent else theirs).run(held.updates)
    ours, loaded = copies(agent), copies(other)
    assert all(torch.equal(loaded[name], value) for name, value in ours.items())


@pytest.mark.parametrize("field", ["advantages", "returns"])
def test_what_is_not_finite_is_named_and_changes_nothing(field):
    agent, buffer = filled(normalize_advantages="none")
    buffer[field][0, 0] = math.nan
    before, engine = copies(agent), RolloutEngine(agent, buffer)
    buffer.order = torch.arange(32).repeat(3)
    with pytest.raises(NotFiniteError, match=r"Pi_loss|V_loss.*in update 1"):
        engine.run(1)
    state = copies(agent)
    assert all(torch.equal(state[name], before[name]) for name in state if name.startswith("nets"))


def test_a_sum_that_overflows_where_nothing_is_infinite_is_no_error(monkeypatch):
    found = RolloutEngine._summary
    monkeypatch.setattr(RolloutEngine, "_summary", lambda self, info: found(self, info) | {"sum": torch.tensor(1e400)})
    agent, buffer = filled()
    RolloutEngine(agent, buffer).run(2)
    assert agent.updates == 2


# Choosing ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("alg", ["ppo", "a2c"])
def test_auto_takes_the_gradients_by_hand(alg):
    agent, buffer = make(alg)
    engine, why = create_engine(agent.config, agent, buffer)
    assert (type(engine), engine.name) == (RolloutEngine, "manual")
    assert "by hand" in why


@pytest.mark.parametrize(("settings", "missing"), [
    (dict(policy="recurrent"), "RecurrentActorCritic"),
    (dict(last_activation="tanh"), "--last_activation"),
    (dict(obs_dims=(84, 84, 4), policy="conv"), "ConvActorCritic")], ids=str)
def test_other_networks_are_computed_by_autograd(settings, missing):
    agent, buffer = make(**settings)
    engine, why = create_engine(agent.config, agent, buffer)
    assert (type(engine), why) == (Engine, f"no gradients are written by hand for {missing}")


def test_a_changed_part_is_not_computed_by_hand():
    agent, buffer = make()
    agent.policy.evaluate_actions = lambda obs, acts: None
    with pytest.raises(ConfigError, match=r"engine: got 'manual'.*not for ActorCritic with another evaluate_actions"):
        RolloutEngine(agent, buffer)


@pytest.mark.parametrize("alg", ["rrd", "uniform"])
def test_a_decomposition_over_ppo_takes_no_part_in_its_updates(alg):
    states = []
    for kind in (Engine, RolloutEngine):
        own = dict(rrd_batch_size=8, rrd_sample_size=2) if alg == "rrd" else {}
        agent, buffer = make(alg, basis_alg="ppo", batch_size=8, n_epochs=2, **own)
        fill(agent, buffer, ends=0.4)
        engine = kind(agent, buffer)
        engine.fit()
        agent.finish_rollout(buffer, buffer.last_obs)
        agent.begin_updates(buffer)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            engine.run(buffer.updates)
        states.append(copies(agent))
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5, msg=name)
