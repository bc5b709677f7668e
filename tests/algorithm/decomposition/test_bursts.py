"""Decompositions that learn in bursts between the updates of an agent, and replays that keep what they pay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from agents import A, O, make_agent
from replays import build
from resumes import FLAGS, run, same, twice
from test_whole_episodes import episode

import train
from algorithm.decomposition.rudder import RUDDER
from algorithm.engine import create_engine
from algorithm.engine.iteration import iterate

SIZES = dict(batch_size=8, warmup=1, buffer_size=100)
RUDDER_SETTINGS = dict(fit_every=10, fit_updates=2, fit_episodes=2, cell_size=4, credit_steps=12, quality_floor=0.0)
SMALL = {
    "rudder": ["--cell_size=4", "--fit_episodes=2", "--credit_steps=30", "--quality_floor=0"],
    "rbt": ["--attention_size=8", "--attention_layers=1", "--fit_episodes=2", "--attention_window=4"],
    "diaster": ["--cell_size=4", "--fit_episodes=2"], "grd": ["--fit_episodes=2"], "rd": ["--fit_episodes=2"],
    "vib_rd": ["--rrd_batch_size=8", "--rrd_sample_size=4"],
}
ENV = "--env=tiny_envs:Match-v0"
BURSTS = ["--fit_every=30", "--fit_updates=2"]


def joined(alg: str = "rudder", **settings):
    """An engine with an agent whose decomposition learns in bursts, and its replay of 5 episodes."""
    settings = SIZES | (RUDDER_SETTINGS if alg == "rudder" else {}) | settings
    agent = make_agent(alg, "sac", **settings)
    buffer = build(alg, obs_dim=O, act_dim=A, **settings)
    for seed, length in enumerate([5, 7, 3, 6, 4]):
        buffer.store_episode(episode(length, seed))
    return create_engine(agent.config, agent, buffer)[0]


def test_a_burst_comes_once_every_so_many_steps_and_the_first_one_at_once():
    engine, bursts = joined(), []
    for seed in range(6):
        names = {name for sums in iterate(engine, 1) for name, *_ in sums.items()}
        bursts.append("R_loss" in names)
        engine.buffer.store_episode(episode(4, 10 + seed))          # 25, 29, 33, ... steps
    assert bursts == [True, False, True, False, True, False]
    assert engine.agent.counters["bursts"] == 3
    assert "R_loss" in engine.agent.train_info


def test_every_step_is_sampled_with_what_the_model_pays():
    """New episodes are paid by the present model, older ones within the budget of steps, the oldest payments first."""
    engine = joined()
    list(iterate(engine, 1))
    model, buffer = engine.agent.decomposition, engine.buffer

    def is_fresh(slot: int) -> bool:
        fields = buffer.episode_at(slot)
        paid = buffer.credit[buffer._rows_of(slot)]
        return bool(torch.allclose(paid, model.redistribute(fields), atol=1e-5))
    assert all(map(is_fresh, range(5)))
    for seed, length in enumerate([8, 9]):
        buffer.store_episode(episode(length, 20 + seed))
    list(iterate(engine, 1))                                        # the second burst, with a budget of 12 steps
    assert [slot for slot in range(7) if is_fresh(slot)] == [0, 1, 5, 6]
    assert buffer.versions[:7].tolist() == [2, 2, 1, 1, 1, 2, 2]
    before = buffer.credit[:42].clone()
    buffer.store_episode(episode(2, 30))
    list(iterate(engine, 1))                                        # no burst: only the new episode is paid
    assert is_fresh(7)
    assert torch.equal(buffer.credit[:42], before)
    batch = buffer.sample(100)
    assert set(batch["rews"][:, 0].tolist()) <= set(buffer.credit[:44].tolist())
    paid = engine.agent.decomposition.pay(batch)
    assert paid is batch["rews"]


@pytest.mark.parametrize("alg", ["rudder", "diaster", "lrr"])
def test_a_burst_moves_the_model_alone_and_an_update_the_agent_alone(alg):
    engine = joined(alg, fit_every=1000, fit_updates=3)
    agent = engine.agent

    def weights(ours: bool):
        model = set(agent.decomposition.parameters())
        return [value.detach().clone() for value in agent.nets.parameters() if (value in model) == ours]
    own, others = weights(True), weights(False)
    engine.fit()
    assert not all(map(torch.equal, own, weights(True)))
    assert all(map(torch.equal, others, weights(False)))
    own = weights(True)
    agent.credit(engine.buffer, anew=True)
    engine.run(2)
    assert all(map(torch.equal, own, weights(True)))
    assert not all(map(torch.equal, others, weights(False)))


def test_an_agent_that_is_paid_by_the_replay_is_computed_by_hand():
    engine = joined()
    assert engine.name == "manual"
    other = joined(engine="eager")
    for one in (engine, other):
        list(iterate(one, 3))
    ours, theirs = engine.agent.state_dict(), other.agent.state_dict()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-5)
    assert joined("diaster", cell_size=4).name == "eager"


@pytest.mark.parametrize("alg", ["rudder", "rbt", "diaster", "rd"])
def test_a_run_in_bursts_resumes_to_the_bit(alg):
    """The ring of 90 steps turns; a part ends within an iteration, and between two bursts."""
    twice([*FLAGS, ENV, f"--alg={alg}", "--basis_alg=sac", *BURSTS, *SMALL[alg]], 110, 200, ENV)


@pytest.mark.parametrize("alg", ["vib_rd", "grd"])
def test_a_joint_run_resumes_to_the_bit(alg):
    twice([*FLAGS, ENV, f"--alg={alg}", "--basis_alg=td3", *SMALL[alg]], 110, 150, ENV)


def test_a_run_that_dies_within_a_burst_resumes_to_the_bit(monkeypatch):
    argv = [*FLAGS, ENV, "--alg=rudder", "--basis_alg=sac", *BURSTS, *SMALL["rudder"],
            "--total_timesteps=160"]
    whole, calls, update = run(*argv, "--tag=whole"), [], RUDDER.update

    def interrupted(self, batch, inspect=None):
        calls.append(1)
        if len(calls) == 6:                             # in the middle of the third burst
            raise OSError("out of power")
        return update(self, batch, inspect)
    with monkeypatch.context() as patch:
        patch.setattr(RUDDER, "update", interrupted)
        assert train.main([*argv, "--tag=parts"]) == 1
    (parts,) = (path for path in whole.parent.iterdir() if path.name.startswith("parts"))
    assert train.main([f"--resume={parts}", ENV]) == 0
    same(parts, whole)


@pytest.mark.parametrize("alg", ["rudder", "rbt"])
def test_on_policy_a_rollout_is_paid_after_the_model_has_learned(alg):
    """What the whole episodes of a rollout are paid is what the fitted model pays."""
    settings = dict(rollout_steps=20, batch_size=10, n_epochs=1, buffer_size=100, fit_episodes=2)
    more = dict(cell_size=4, quality_floor=0.0) if alg == "rudder" else dict(attention_size=8, attention_layers=1)
    agent, buffer = (made(alg, "ppo", settings | more) for made in (_agent, _rollout))
    steps = {"obs": torch.randn(20, 1, O), "obs_next": torch.randn(20, 1, O), "acts": torch.rand(20, 1, A),
             "rews": torch.randn(20, 1), "terminated": torch.zeros(20, 1, dtype=torch.bool),
             "truncated": torch.zeros(20, 1, dtype=torch.bool)}
    steps["terminated"][[7, 15]] = True
    for t in range(20):
        buffer.add({name: value[t] for name, value in steps.items()})
    assert buffer.close(steps["obs_next"][-1], buffer["acts"]) == 2
    before = [value.clone() for value in agent.decomposition.parameters()]
    assert len(list(agent.fit(buffer, 3))) == 3 or agent.config.fit_updates
    assert not all(map(torch.equal, before, agent.decomposition.parameters()))
    rews, paid = agent.payments(buffer)
    assert paid[:, 0].tolist() == [True] * 16 + [False] * 4         # the open episode's return is not known
    for start, end in ((0, 8), (8, 16)):
        one = {name: steps[name][start:end, 0] for name in ("obs", "obs_next", "acts")}
        one["rews"] = steps["rews"][start:end]
        np.testing.assert_allclose(rews[start:end, 0], agent.decomposition.redistribute(one), atol=1e-5)


def _agent(alg, basis, settings):
    return make_agent(alg, basis, acts_discrete=False, **settings)


def _rollout(alg, basis, settings):
    buffer = build(alg, obs_dim=O, act_dim=A, basis_alg=basis, **settings)
    buffer.open()
    return buffer
