"""The baselines that decompositions are compared with: every step paid alike, and dense reward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from agents import BASES, make_agent, parameters
from replays import build, store, tags
from runs import SMALL, run

from algorithm.replay_buffer.transition import TransitionReplay
from algorithm.replay_buffer.uniform import UniformReplay


def test_every_step_is_paid_its_episodes_mean_by_a_doubles_division():
    buffer = build("uniform")
    lengths, values = [3, 7, 11], [1.0, -2.0, 1e6]
    store(buffer, lengths, values)
    batch = buffer.sample(500)
    (numbers, _), expected = tags(batch["obs"]), np.float32(np.array(values) / np.array(lengths))
    np.testing.assert_array_equal(batch["rews"][:, 0], expected[numbers])
    assert set(numbers) == {0, 1, 2}


@pytest.mark.parametrize("basis", BASES)
def test_the_agent_is_its_basis(basis):
    over, alone = make_agent("uniform", basis), make_agent(basis)
    assert type(over.basis) is type(alone)
    torch.testing.assert_close(parameters(over), parameters(alone), rtol=0, atol=0)


@pytest.mark.parametrize("flags", [["--env=CartPole-v1", "--basis_alg=dqn"], ["--env=Pendulum-v1"],
                                   ["--env=Pendulum-v1", "--engine=eager"]], ids=str)
def test_a_run_draws_its_batches_from_the_means(flags, monkeypatch):
    drawn, original = [], UniformReplay.sample

    def sample(self, batch_size=None):
        batch = original(self, batch_size)
        drawn.append(bool((batch["rews"] != 0).all()))           # what is stored is 0 but at the end
        return batch
    monkeypatch.setattr(UniformReplay, "sample", sample)
    finished = run("--alg=uniform", *SMALL, *flags)
    assert len(drawn) > 10
    assert all(drawn)
    assert all(np.isfinite(float(finished.rows[-1][name])) for name in ("Q_loss", "Rewards"))


@pytest.mark.parametrize(("alg", "env"), [*((basis, "Pendulum-v1") for basis in BASES), ("dqn", "CartPole-v1")])
def test_dense_reward_reaches_the_replay_step_by_step(alg, env, monkeypatch):
    stored, original = [], TransitionReplay.store_episode

    def keep(self, episode):
        stored.append(np.array(episode["rews"]))
        original(self, episode)
    monkeypatch.setattr(TransitionReplay, "store_episode", keep)
    finished = run(f"--alg={alg}", f"--env={env}", "--env_type=normal", *SMALL)
    assert all((rews != 0).all() for rews in stored)
    assert np.isfinite(float(finished.rows[-1]["Q_loss"]))
    stored.clear()
    run(f"--alg={alg}", f"--env={env}", *SMALL)
    assert all((rews[:-1] == 0).all() for rews in stored)
