"""The TensorFlow reference by itself: the same verbs, names and refusals as PyTorch, and a run.

That its figures are the original's, and PyTorch's, is in test_parity.py.
"""

from __future__ import annotations

import functools
import math
import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from agents import A, B, O
from reference_agents import (
    BASES,
    IDS,
    PAIRS,
    agents_to_refuse,
    assert_same,
    batch_for,
    complaint,
    each_pair,
    everything,
    make,
    make_both,
)
from runs import SMALL, SMALL_RRD, run

pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed")

from algorithm import create_agent
from algorithm.batch import Indices

# The same agent as PyTorch's ----------------------------------------------------------------------------------------

VERBS = ["step", "train", "train_q", "train_pi", "update", "normalizer_update", "target_update", "save_model",
         "load_model", "tf_variables", "load_tf_variables"]
FACTS = ["train_info", "step_info", "pi_delay_freq", "policy_batch", "updates", "obs_dims", "act_dim", "acts_shape"]


@each_pair
def test_verbs_metrics_and_needed_fields_are_pytorchs(alg, basis):
    bias = {"rrd_bias_correction": True} if alg == "rrd" else {}
    ours, theirs = make_both(alg, basis, **bias)
    assert all(callable(getattr(theirs, verb)) for verb in [*VERBS, *(["rewards"] if alg == "rrd" else [])])
    assert hasattr(theirs, "rewards") == (alg == "rrd")
    assert (hasattr(ours, "decomposition") and ours.decomposition.markov) == (alg == "rrd")
    for name in FACTS:
        assert getattr(theirs, name) == getattr(ours, name), name
    assert theirs.config == ours.config
    for spec in ("q_spec", "pi_spec"):
        assert getattr(theirs, spec)() == getattr(ours, spec)()
    assert {*theirs.q_noise, *theirs.pi_noise} == set(ours.noise_spec())


def calls(agent) -> list[tuple]:
    """The metrics that a sequence of calls returns, with their shapes; RRD's steps are its basis'."""
    sample = functools.partial(batch_for, agent)
    verbs = [agent.train_q, agent.train] if agent.pi_delay_freq == math.inf else [agent.train_q, agent.train_pi]
    infos = [verb(sample()) for verb in verbs] + [agent.update(sample) for _ in range(2)]
    if not hasattr(agent, "basis"):
        infos += [agent.step(np.zeros(shape), explore, test_info=True)[1]
                  for shape in (O, (3, O)) for explore in (False, True)]
    assert all(np.isfinite(np.asarray(value)).all() for info in infos for value in info.values())
    return [tuple(sorted((name, np.shape(value)) for name, value in info.items())) for info in infos]


@pytest.mark.parametrize(("alg", "basis"), [pair for pair in PAIRS if pair[0] != "ircr"],
                         ids=[name for name in IDS if not name.startswith("ircr")])
def test_every_call_returns_the_metrics_that_pytorch_returns(alg, basis):
    bias = {"rrd_bias_correction": True} if basis == "sac" else {}
    ours, theirs = make_both(alg, basis, **bias)
    assert calls(theirs) == calls(ours)
    assert theirs.updates == ours.updates == (4 if ours.pi_delay_freq == math.inf else 3)


@pytest.mark.parametrize("basis", BASES)
def test_ircr_is_its_basis(basis):
    assert type(make("ircr", basis)) is type(make(basis))


@pytest.mark.parametrize("alg", ["sac", "td3", "ddpg"])
def test_actions_have_pytorchs_shapes_and_types(alg):
    ours, theirs = make_both(alg)
    for obs in (np.zeros(O), np.zeros((3, O), np.int64), np.zeros((0, O))):
        first, second = ours.step(obs, explore=True), theirs.step(obs, explore=True)
        assert (first.shape, first.dtype) == (second.shape, second.dtype)


def test_indices_have_pytorchs_shapes_and_types():
    ours, theirs = make_both("dqn")
    assert type(theirs.step(np.zeros(O))) is type(ours.step(np.zeros(O))) is int
    for explore in (False, True):
        first, second = (agent.step(np.zeros((3, O)), explore) for agent in (ours, theirs))
        assert (first.shape, first.dtype) == (second.shape, second.dtype) == ((3,), np.int64)


def test_greedy_indices_do_not_count_for_epsilon_and_exploring_ones_do():
    agent = make("rrd", "dqn", warmup=2, eps_l=0.0, eps_r=1.0, eps_decay=10).basis
    agent.step(np.zeros((4, O)))
    assert (agent.steps, agent.epsilon) == (0, 0.0)
    agent.step(np.zeros((4, O)), explore=True)
    assert (agent.steps, agent.epsilon) == (4, pytest.approx(0.4))


# Refusals -----------------------------------------------------------------------------------------------------------

SPOILS = {
    "missing": lambda batch, name: {key: value for key, value in batch.items() if key != name},
    "flat": lambda batch, name: batch | {name: batch[name].reshape(-1)},
    "too short": lambda batch, name: batch | {name: batch[name][1:]},
    "extra dimension": lambda batch, name: batch | {name: batch[name][None]},
    "empty": lambda batch, name: batch | {name: batch[name][:0]},
    "text": lambda batch, name: batch | {name: batch[name].astype(str)},
    "None": lambda batch, name: batch | {name: None},
    "other numbers": lambda batch, name: batch | {name: batch[name].astype("f4" if "i" in batch[name].dtype.kind
                                                                           else "i8")},
    "large": lambda batch, name: batch | {name: 100 + batch[name]},
}


@pytest.mark.parametrize(("alg", "basis", "spoil"), [
    (alg, basis, spoil) for alg, basis in (("sac", None), ("rrd", "td3"), ("rrd", "dqn")) for spoil in SPOILS
    if spoil != "large" or basis == "dqn"])
def test_a_bad_batch_is_refused_as_pytorch_refuses_it(alg, basis, spoil):
    ours, theirs = agents_to_refuse(alg, basis)
    before = everything(theirs)
    for name, shape in ours.q_spec().items():
        if spoil == "large" and not isinstance(shape, Indices):         # any float will do
            continue
        if spoil == "other numbers" and name == "done":         # which may be integers
            continue
        if spoil == "flat" and len(shape) == 1:
            continue
        bad = SPOILS[spoil](batch_for(ours), name)
        for verb in ("train", "train_q"):
            message = complaint(getattr(ours, verb), bad)
            assert message.startswith(f"batch['{name}']: " if spoil == "missing" else "batch['")
            assert complaint(getattr(theirs, verb), bad) == message
    assert_same(everything(theirs), before)


@pytest.mark.parametrize("verb", ["train_pi", "normalizer_update"])
def test_a_bad_observation_is_refused_as_pytorch_refuses_it_by_every_verb(verb):
    ours, theirs = agents_to_refuse("sac", None)
    before = everything(theirs)
    for bad in (SPOILS[spoil](batch_for(ours), "obs") for spoil in ("missing", "flat", "text", "empty")):
        assert complaint(getattr(theirs, verb), bad) == complaint(getattr(ours, verb), bad)
    assert_same(everything(theirs), before)


@pytest.mark.parametrize("batch", [None, [1], {}], ids=repr)
def test_another_object_than_a_batch_is_refused_as_pytorch_refuses_it(batch):
    ours, theirs = agents_to_refuse("sac", None)
    assert complaint(theirs.train, batch) == complaint(ours.train, batch)


def test_noise_of_another_shape_is_refused_as_pytorch_refuses_it():
    ours, theirs = agents_to_refuse("sac", None)
    bad = batch_for(ours, pi_noise=np.zeros((B, A + 1), np.float32))
    assert complaint(theirs.train, bad) == complaint(ours.train, bad)


def test_a_refused_batch_does_not_count_as_an_update():
    """TD3's policy would be updated at other times afterwards."""
    agent = make("td3")
    for verb in (agent.train, agent.train_q):
        complaint(verb, {})
    assert agent.updates == 0


def test_sub_sequences_of_one_step_are_refused_with_bias_correction_as_pytorch_refuses_them():
    ours, theirs = make_both("rrd", "td3", rrd_bias_correction=True)
    batch = batch_for(ours)
    batch |= {name: batch[name][:, :1] for name in ("rrd_obs", "rrd_obs_next", "rrd_acts")}
    before = everything(theirs)
    assert complaint(theirs.train, batch) == complaint(ours.train, batch)
    assert_same(everything(theirs), before)


@pytest.mark.parametrize("obs", [np.zeros(O + 1), np.zeros((1, 1, O)), np.zeros(()), np.full(O, "x"), None, [[0], 1]],
                         ids=["wide", "deep", "number", "text", "None", "ragged"])
def test_a_bad_observation_is_refused_as_pytorch_refuses_it(obs):
    ours, theirs = agents_to_refuse("sac", None)
    assert complaint(theirs.step, obs) == complaint(ours.step, obs)


@pytest.mark.parametrize(("name", "spoil"), [
    ("obs", lambda x: x[..., :-1]), ("obs_next", lambda x: x[:-1]), ("acts", lambda x: x[:-1]),
    ("acts", lambda x: x[:, None]), ("acts", lambda x: x.astype(np.float32)), ("obs", lambda x: x.astype(np.int64)),
    ("acts", lambda x: x + A), ("acts", lambda x: x - A),
], ids=["narrow obs", "short obs_next", "short acts", "column of acts", "float acts", "integer obs", "large acts",
        "negative acts"])
def test_rewards_of_steps_that_do_not_fit_are_refused_as_pytorch_refuses_them(name, spoil):
    ours, theirs = agents_to_refuse("rrd", "dqn")
    steps = {field: batch_for(ours)[field] for field in ("obs", "acts", "obs_next")}
    steps[name] = spoil(steps[name])
    assert complaint(theirs.rewards, **steps) == complaint(ours.rewards, **steps)


@pytest.mark.parametrize(("alg", "basis"), [("dqn", None), ("rrd", "dqn")])
def test_training_a_missing_policy_is_refused_in_one_line(alg, basis):
    agent = make(alg, basis)
    with pytest.raises(NotImplementedError, match="no policy") as caught:
        agent.train_pi(batch_for(agent))
    assert "\n" not in str(caught.value)


# A run --------------------------------------------------------------------------------------------------------------

def files(directory: Path) -> set[str]:
    """The files of a run, TensorBoard's without the time in its name, checkpoints without their suffix."""
    paths = (str(path.relative_to(directory)) for path in directory.rglob("*")
             if path.is_file() and "resume" not in path.parts)              # the reference does not resume
    return {re.sub(r"tfevents.*", "tfevents", re.sub(r"^(checkpoints/\w+)\..*", r"\1", path)) for path in paths}


@pytest.mark.parametrize("flags", [["--basis_alg=td3", *SMALL_RRD], ["--alg=ircr", "--basis_alg=sac", *SMALL]],
                         ids=["rrd-td3", "ircr-sac"])
@pytest.mark.sampled(1)
def test_a_run_writes_the_same_files_as_a_run_by_pytorch(flags, monkeypatch, capsys):
    ours = run("--env=Pendulum-v1", *flags)
    monkeypatch.setenv("USE_PYTORCH", "0")
    theirs = run("--env=Pendulum-v1", *flags)
    assert "; tensorflow on cpu;" in capsys.readouterr().out
    assert (ours.facts["backend"], theirs.facts["backend"]) == ("pytorch", "tensorflow")
    assert theirs.facts.keys() == ours.facts.keys()
    assert theirs.facts["versions"]["tensorflow"]
    assert theirs.config == ours.config | {"kernels": "auto"}       # of gradients by hand, which it has none of
    assert files(theirs.directory) == files(ours.directory)
    assert [list(row) for row in theirs.rows] == [list(row) for row in ours.rows]
    assert theirs.returns("Pendulum-v1").shape == ours.returns("Pendulum-v1").shape
    assert all(math.isfinite(float(value)) for row in theirs.rows[1:] for value in row.values())
    # `resume` contains the lock against other processes, and no state
    resume = theirs.directory / "checkpoints" / "resume"
    assert [path.name for path in resume.rglob("*") if path.is_file()] == ["lock"]
    assert {path.name for path in (theirs.directory / "checkpoints").iterdir()} == {"resume"} | {
        f"{name}.ckpt.{part}" for name in ("last", "best") for part in ("index", "data-00000-of-00001")}
    agent = create_agent(Namespace(**theirs.config, obs_dims=(3,), acts_dims=(1,)))
    fresh = everything(agent)
    agent.load_model(theirs.directory / "checkpoints" / "last.ckpt")
    assert not any(np.array_equal(value, fresh[name]) for name, value in everything(agent).items()
                   if name.endswith("/kernel"))
