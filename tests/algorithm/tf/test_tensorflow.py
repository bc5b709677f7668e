"""The TensorFlow reference by itself: the same verbs, names and refusals as PyTorch, saving, optimisers, sources.

That its figures are the original's, and PyTorch's, is in test_parity.py.
"""

from __future__ import annotations

import ast
import functools
import math
import os
import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from agents import A, B, K, N, O, make_batch
from reference_cases import FOLDER, NAMES, Case
from runs import SMALL, SMALL_RRD, run

tf = pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed")

from algorithm import create_agent  # noqa: E402
from algorithm.batch import Indices  # noqa: E402
from algorithm.tf import convert as tf_checkpoint  # noqa: E402
from algorithm.tf import layers as tf_utils  # noqa: E402
from algorithm.tf import optimizers  # noqa: E402
from utils.checkpoint import CheckpointError  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent.parent
BASES = ("ddpg", "td3", "sac", "dqn")
PAIRS = [(alg or basis, basis if alg else None) for basis in BASES for alg in (None, "rrd", "ircr")]
IDS = [alg if basis is None else f"{alg}-{basis}" for alg, basis in PAIRS]
each_pair = pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=IDS)
IMAGE = (9, 12, 2)
CONTINUOUS = [("sac", None), ("td3", None), ("ddpg", None), ("rrd", "td3")]


def make(alg: str, basis: str | None = None, pytorch: bool = False, **settings):
    sizes = {"obs_dims": (O,), "acts_dims": (A,), "device": "cpu"}
    return create_agent(Namespace(**sizes | {"alg": alg, "basis_alg": basis, "use_pytorch": pytorch} | settings))


def make_both(alg: str, basis: str | None = None, **settings) -> tuple:
    """(PyTorch's, TensorFlow's)."""
    return make(alg, basis, pytorch=True, **settings), make(alg, basis, **settings)


def batch_for(agent, seed: int = 0, **changes) -> dict[str, np.ndarray]:
    """Arrays of all that the agent could read, the noise included."""
    batch = {name: value.numpy() for name, value in make_batch(seed).items()}
    if "dqn" in (agent.config.alg, agent.config.basis_alg):
        random = np.random.default_rng(seed)
        batch |= {"acts": random.integers(A, size=B), "rrd_acts": random.integers(A, size=(N, K))}
    if len(agent.obs_dims) == 3:
        random = np.random.default_rng(seed)
        batch |= {name: random.random((*value.shape[:-1], *agent.obs_dims), np.float32)
                  for name, value in batch.items() if name.endswith(("obs", "obs_next"))}
    return batch | changes


def everything(agent) -> dict[str, np.ndarray]:
    """All that a checkpoint holds."""
    return {name: variable.numpy() for name, variable in agent.all_variables().items()}


def assert_same(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def complaint(call, *args, **named) -> str:
    """What the call says that it raises, which is one line."""
    with pytest.raises(ValueError, match=r".") as caught:
        call(*args, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


@functools.cache
def agents_to_refuse(alg: str, basis: str | None) -> tuple:
    """Both backends' agents; a refusal leaves them as they are, so they serve many tests."""
    return make_both(alg, basis, obs_normalization=True, **({"rrd_bias_correction": True} if alg == "rrd" else {}))


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
def test_what_is_no_batch_at_all_is_refused_as_pytorch_refuses_it(batch):
    ours, theirs = agents_to_refuse("sac", None)
    assert complaint(theirs.train, batch) == complaint(ours.train, batch)


def test_noise_of_another_shape_is_refused_as_pytorch_refuses_it():
    ours, theirs = agents_to_refuse("sac", None)
    bad = batch_for(ours, pi_noise=np.zeros((B, A + 1), np.float32))
    assert complaint(theirs.train, bad) == complaint(ours.train, bad)


def test_a_refused_batch_does_not_count_as_an_update():
    """TD3's policy would learn at another time from there on."""
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
def test_rewards_of_what_does_not_fit_are_refused_as_pytorch_refuses_them(name, spoil):
    ours, theirs = agents_to_refuse("rrd", "dqn")
    steps = {field: batch_for(ours)[field] for field in ("obs", "acts", "obs_next")}
    steps[name] = spoil(steps[name])
    assert complaint(theirs.rewards, **steps) == complaint(ours.rewards, **steps)


@pytest.mark.parametrize(("alg", "basis"), [("dqn", None), ("rrd", "dqn")])
def test_training_a_policy_that_is_not_there_is_refused_in_one_line(alg, basis):
    agent = make(alg, basis)
    with pytest.raises(NotImplementedError, match="no policy") as caught:
        agent.train_pi(batch_for(agent))
    assert "\n" not in str(caught.value)


# Learning -----------------------------------------------------------------------------------------------------------

def moved_apart(alg: str, basis: str | None, **settings):
    """An agent whose networks are no longer their targets."""
    agent, random = make(alg, basis, **settings), np.random.default_rng(0)
    agent.load_tf_variables({name: random.standard_normal(value.shape, np.float32)
                             for name, value in agent.tf_variables().items() if name.startswith("main/")})
    return agent


def targets(agent) -> dict[str, np.ndarray]:
    return {name: value for name, value in agent.tf_variables().items() if name.startswith("target/")}


@pytest.mark.parametrize(("alg", "basis"), [*CONTINUOUS, ("rrd", "sac")])
def test_targets_start_equal_and_move_by_one_minus_polyak(alg, basis):
    fresh = make(alg, basis).tf_variables()
    assert targets(make(alg, basis))
    for name, value in targets(make(alg, basis)).items():
        np.testing.assert_array_equal(value, fresh[name.replace("target/", "main/", 1)])
    agent = moved_apart(alg, basis, polyak=0.9)
    before = agent.tf_variables()
    agent.target_update()
    after = agent.tf_variables()
    for name, value in after.items():
        expected = before[name]
        if name.startswith("target/"):
            expected = 0.9 * before[name] + 0.1 * before[name.replace("target/", "main/", 1)]
        np.testing.assert_allclose(value, expected, 1e-5, 1e-6, err_msg=name)


@pytest.mark.parametrize(("alg", "basis", "dims"), [("dqn", None, (O,)), ("rrd", "dqn", IMAGE)])
def test_dqns_target_is_copied_whole(alg, basis, dims):
    agent = moved_apart(alg, basis, obs_dims=dims)
    before = agent.tf_variables()
    agent.target_update()
    for name, value in agent.tf_variables().items():
        np.testing.assert_array_equal(value, before[name.replace("target/", "main/", 1)], err_msg=name)


def test_everything_is_finite_before_the_normalisers_first_update():
    agent = make("rrd", "ddpg", obs_normalization=True)
    obs = np.float32([[-70.0] * O])
    np.testing.assert_array_equal(agent.normalize(tf.constant(obs)), obs)       # the identity
    assert all(np.isfinite(value) for value in agent.train(batch_for(agent)).values())
    assert all(np.isfinite(value).all() for value in everything(agent).values())
    assert np.isfinite(agent.step(obs)).all()


def test_the_normaliser_counts_observations_and_next_ones():
    agent = make("ddpg")
    for seed in (0, 1):
        agent.normalizer_update(batch_for(agent, seed))
    seen = np.concatenate([batch_for(agent, seed)[name] for seed in (0, 1) for name in ("obs", "obs_next")])
    state = agent.tf_variables()
    for name, expected in (("cnt", [4 * B]), ("mean", seen.mean(0)), ("std", seen.std(0)), ("sum", seen.sum(0))):
        np.testing.assert_allclose(state[f"normalizer/normalizer_variables/{name}"], expected, 1e-4, 1e-5)
    assert np.abs(agent.normalize(tf.constant(100 * seen))).max() == 5


def test_a_variance_rounded_below_0_is_no_nan():
    normalizer, rounded = tf_utils.Normalizer((1,)), []
    for _ in range(40):
        normalizer.update(tf.fill((7, 1), 1234.567))
        rounded.append(float((normalizer.sum_sqr / normalizer.cnt - tf.square(normalizer.mean))[0]))
        assert float(normalizer.std[0]) >= np.float32(1e-2)
    assert min(rounded) < 0                                     # it did happen


def test_dqn_learns_which_action_pays():
    agent, random = make("dqn", obs_dims=(A,), gamma=0.0, q_lr=3e-3), np.random.default_rng(0)
    for _ in range(150):
        places, acts = random.integers(A, size=(2, 32))
        obs = np.eye(A, dtype=np.float32)[places]
        agent.train({"obs": obs, "obs_next": obs, "acts": acts, "done": np.zeros((32, 1), np.float32),
                     "rews": np.float32(places == acts)[:, None]})
    assert agent.step(np.eye(A)).tolist() == [*range(A)]


# Saving and loading -------------------------------------------------------------------------------------------------

TO_SAVE = [("td3", None, {}), ("ddpg", None, {}), ("dqn", None, {"optimizer": "rmsprop"}),
           ("rrd", "sac", {"rrd_bias_correction": True, "obs_normalization": True}),
           ("rrd", "dqn", {"obs_dims": IMAGE, "dueling": True})]


@pytest.mark.parametrize(("alg", "basis", "settings"), TO_SAVE, ids=["td3", "ddpg", "dqn", "rrd-sac", "rrd-dqn"])
def test_a_loaded_agent_goes_on_as_the_saved_one(alg, basis, settings):
    """Three updates: of TD3's policy the next one is due, which the loaded agent must know."""
    saved, loaded = (make(alg, basis, seed=seed, **settings) for seed in (0, 1))
    for step in range(3):
        saved.normalizer_update(batch_for(saved, step))
        saved.train(batch_for(saved, step))
    saved.save_model("model.ckpt")
    loaded.load_model("model.ckpt")
    assert_same(everything(loaded), everything(saved))
    for agent in (saved, loaded):
        agent.target_update()
        agent.train(batch_for(agent, 3))
    assert_same(everything(loaded), everything(saved))


def trained_by_pytorch(alg: str, basis: str | None):
    agent = make(alg, basis, pytorch=True)
    for step in range(3):
        agent.train(batch_for(agent, step))
    return agent


@pytest.mark.parametrize(("alg", "basis"), [("sac", None), ("td3", None), ("rrd", "dqn")])
def test_a_loaded_agent_knows_how_many_updates_there_were(alg, basis):
    """As PyTorch does, from the powers of Adam's betas: TD3's policy and all targets wait for their turn."""
    variables = trained_by_pytorch(alg, basis).tf_variables(optimizer=True)
    by_name, by_file = make(alg, basis), make(alg, basis)
    by_name.load_tf_variables(variables)
    tf_checkpoint.write_checkpoint("model.ckpt", variables)
    by_file.load_model("model.ckpt")
    assert (by_name.updates, by_file.updates) == (3, 3)


@pytest.mark.parametrize(("alg", "basis"), [("rrd", "sac"), ("td3", None)])
def test_a_checkpoint_is_read_by_pytorch_too(alg, basis):
    ours, theirs = trained_by_pytorch(alg, basis), make(alg, basis, seed=5)
    theirs.load_tf_variables(ours.tf_variables(optimizer=True))
    theirs.save_model("model.ckpt")
    back = tf_checkpoint.to_pytorch(tf_checkpoint.read_checkpoint("model.ckpt"), alg, basis)
    expected = ours.state_dict()
    assert back.state_dict().keys() == expected.keys()
    for name, value in back.state_dict().items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def assert_refused(agent, path: str, holds: str) -> None:
    before = everything(agent)
    with pytest.raises(CheckpointError, match=holds) as caught:
        agent.load_model(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_same(everything(agent), before)


@pytest.mark.parametrize(("alg", "basis", "settings", "holds"), [
    ("td3", None, {}, "main/q_value_1/.*missing"), ("rrd", "sac", {}, r"rrd/net/\w+/\w+: unknown"),
    ("sac", None, {"obs_dims": (O + 1,)}, r"got shape \(6, 256\), expected \(5, 256\)"),
    ("sac", None, {"acts_dims": (A + 1,)}, r"got shape \(\d+,( \d+)?\), expected"),
    ("sac", None, {"alpha_lr": 0}, "main/alpha/log_alpha/Adam: missing"),
    ("sac", None, {"obs_normalization": True}, "normalizer/normalizer_variables/.*unknown"),
    ("dqn", None, {}, "missing"), ("dqn", None, {"optimizer": "rmsprop"}, "missing"),
], ids=["td3", "rrd-sac", "obs_dims", "acts_dims", "alpha_lr=0", "normaliser", "dqn", "rmsprop"])
def test_a_checkpoint_of_another_algorithm_or_size_is_refused(alg, basis, settings, holds):
    make(alg, basis, **settings).save_model("other.ckpt")
    assert_refused(make("sac"), "other.ckpt", holds)


@pytest.mark.parametrize(("other", "holds"), [
    ({"optimizer": "rmsprop"}, "/Adam: missing"), ({"dueling": True}, "q_base"), ({"obs_dims": (O,)}, "missing"),
], ids=str)
def test_a_checkpoint_of_other_networks_or_optimisers_of_dqn_is_refused(other, holds):
    make("dqn", **{"obs_dims": IMAGE} | other).save_model("other.ckpt")
    assert_refused(make("dqn", obs_dims=IMAGE), "other.ckpt", holds)


@functools.cache
def sac():
    return make("sac")


def test_a_missing_checkpoint_and_a_directory_are_refused():
    assert_refused(sac(), "nowhere/model.ckpt", "no such checkpoint")
    Path("empty").mkdir()
    assert_refused(sac(), "empty", "a directory, expected the prefix")
    make("sac", pytorch=True).save_model("model.safetensors")
    assert_refused(sac(), "model.safetensors", "is a single file")


def test_half_a_checkpoint_is_refused():
    sac().save_model("model.ckpt")
    os.remove("model.ckpt.data-00000-of-00001")
    assert_refused(sac(), "model.ckpt", r"model.ckpt.data-00000-of-00001 is not there")


@pytest.mark.parametrize("part", [".index", ".data-00000-of-00001"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_checkpoint_is_refused(part, damage):
    sac().save_model("model.ckpt")
    data = bytearray(Path(f"model.ckpt{part}").read_bytes())
    middle = len(data) // 2
    data[middle] ^= 0x41
    Path(f"model.ckpt{part}").write_bytes(
        {"cut": data[:middle], "flipped": data, "empty": b"", "foreign": b"hello"}[damage])
    assert_refused(sac(), "model.ckpt", "damaged, or not a checkpoint")


def test_saving_leaves_a_checkpoint_and_nothing_else():
    for _ in range(2):
        sac().save_model("model.ckpt")
        assert sorted(os.listdir()) == ["model.ckpt.data-00000-of-00001", "model.ckpt.index"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        sac().save_model("nowhere/model.ckpt")


def test_a_failed_write_keeps_the_old_checkpoint_and_leaves_no_other_file(monkeypatch):
    sac().save_model("model.ckpt")
    before = {name: Path(name).read_bytes() for name in os.listdir()}

    def fail(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        make("sac", seed=1).save_model("model.ckpt")
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before


def test_loading_a_subset_changes_only_that():
    agent = make("rrd", "sac")
    before = everything(agent)
    new = {"rrd/net/r/bias": [3.0], "main/policy/net/pi/bias/Adam": np.ones(2 * A), "main/alpha/log_alpha": np.int64(2)}
    agent.load_tf_variables(new)
    after = everything(agent)
    assert {name for name in after if not np.array_equal(after[name], before[name])} == set(new)
    for name, value in new.items():
        np.testing.assert_array_equal(after[name], value)


@pytest.mark.parametrize("power", [0.3, -1.0, np.nan, 2.0])
def test_powers_that_no_number_of_steps_gives_are_refused_and_change_nothing(power):
    agent, last = make("sac"), "beta2_power_2"                  # the critics'
    wrong, before = {"main/policy/net/pi/bias": np.ones(2 * A), last: np.float32(power)}, everything(agent)
    assert "expected a power of 0.999" in complaint(agent.load_tf_variables, wrong)
    assert_same(everything(agent), before)
    tf_checkpoint.write_checkpoint("model.ckpt", before | wrong)
    assert_refused(agent, "model.ckpt", "expected a power of 0.999")


@pytest.mark.parametrize("variables", [
    {"main/nobody": np.zeros(3)}, {"main/policy/net/pi/bais": np.zeros(2 * A)},
    {"main/policy/net/pi/bias": np.zeros(3)}, {"main/policy/net/pi/kernel": np.zeros((2 * A, 256))},
    {"main/policy/net/pi/bias": np.array(["x"] * 2 * A)}, {"main/policy/net/pi/bias": None},
    {"main/alpha/log_alpha": np.zeros(1)},
], ids=["unknown", "misspelt", "short", "transposed", "text", "None", "no scalar"])
def test_wrong_variables_are_refused_as_pytorch_refuses_them_and_change_nothing(variables):
    ours, theirs = agents_to_refuse("sac", None)
    given, before = {"main/policy/net/pi_dense1/bias": np.ones(256), **variables}, everything(theirs)
    assert complaint(theirs.load_tf_variables, given) == complaint(ours.load_tf_variables, given)
    assert_same(everything(theirs), before)


# The original's names -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_variables_have_the_originals_names_and_shapes(name):
    case = Case(name)
    agent = create_agent(Namespace(**case.args | {"cuda": False, "use_pytorch": False}))
    shapes = {name: list(value.shape) for name, value in agent.model_variables().items()}
    normalizer = {name: shape for name, shape in shapes.items() if name.startswith("normalizer/")}
    assert {name: shape for name, shape in shapes.items() if name not in normalizer} == {
        name: shape for name, shape in case.shapes.items() if not name.startswith("normalizer/")}
    parts = {key.removeprefix("normalizer/") for key in case.data.files if key.startswith("normalizer/")}
    assert {name.rpartition("/")[2] for name in normalizer} == parts


def test_a_checkpoint_holds_what_the_originals_held():
    """The optimisers' variables among it, whose names TensorFlow 1 made up."""
    theirs = tf_checkpoint.read_checkpoint(FOLDER / "rrd_sac_tf1_checkpoint" / "model.ckpt")
    agent = create_agent(Namespace(**Case("rrd_sac").args | {"use_pytorch": False}))
    assert {name: (value.shape, value.dtype) for name, value in everything(agent).items()} == {
        name: (value.shape, value.dtype) for name, value in theirs.items()}
    agent.load_model(FOLDER / "rrd_sac_tf1_checkpoint" / "model.ckpt")
    assert_same(everything(agent), theirs)


def test_rmsprop_has_the_originals_slots_and_adams_powers_are_numbered_without_it():
    names = set(make("rrd", "dqn", optimizer="rmsprop").all_variables())
    assert {"main/value/net/q/bias/RMSProp", "main/value/net/q/bias/RMSProp_1", "rrd/net/r/bias/Adam"} <= names
    assert {name for name in names if "power" in name} == {"beta1_power", "beta2_power"}


# Optimisers ---------------------------------------------------------------------------------------------------------

def gradients_of_all_sizes(count: int) -> np.ndarray:
    """Far below the epsilons, around them, and far above, with a zero among them."""
    scales = np.array([1e-8, 1e-6, 1e-4, 1e-2, 1.0, 100.0, 0.0])
    return (np.random.default_rng(0).standard_normal((count, 7)) * scales).astype(np.float32)


def descend(optimizer, variable, gradients: np.ndarray) -> np.ndarray:
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)])
    return variable.numpy()


@pytest.mark.parametrize(("lr", "eps"), [(3e-4, 1e-8), (0.625e-4, 1.5e-4)])
def test_adam_follows_tensorflow_1s_formula(lr, eps):
    variable, gradients = tf.Variable(tf.zeros(7)), gradients_of_all_sizes(30)
    optimizer = optimizers.Adam({"x": variable}, lr, eps)
    x, m, v = np.zeros(7), np.zeros(7), np.zeros(7)
    for t, gradient in enumerate(gradients.astype(np.float64), start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        x -= lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + eps)
    np.testing.assert_allclose(descend(optimizer, variable, gradients), x, 1e-4, 1e-12)
    np.testing.assert_allclose(optimizer.slots["x/Adam"], m, 1e-4, 1e-14)
    np.testing.assert_allclose(optimizer.slots["x/Adam_1"], v, 1e-4, 1e-20)
    np.testing.assert_allclose([power.numpy() for power in optimizer.powers.values()], [0.9**31, 0.999**31], 1e-5)


@pytest.mark.parametrize(("decay", "eps"), [(0.95, 1e-2), (0.0, 1e-2), (0.9, 1e-10)])
def test_rmsprop_starts_its_mean_square_at_1_and_has_epsilon_inside_the_root(decay, eps):
    variable, gradients = tf.Variable(tf.zeros(7)), gradients_of_all_sizes(30)
    optimizer = optimizers.RMSProp({"x": variable}, 2.5e-4, decay, eps)
    x, mean_square = np.zeros(7), np.ones(7)
    for gradient in gradients.astype(np.float64):
        mean_square = decay * mean_square + (1 - decay) * gradient**2
        x -= 2.5e-4 * gradient / np.sqrt(mean_square + eps)
    np.testing.assert_allclose(descend(optimizer, variable, gradients), x, 1e-4, 1e-12)
    np.testing.assert_allclose(optimizer.slots["x/RMSProp"], mean_square, 1e-4)


@pytest.mark.parametrize(("optimizer", "settings"), [("adam", (0.625e-4, 1.5e-4)), ("rmsprop", (2.5e-4, 0.95, 1e-2))])
def test_dqns_optimiser_has_its_settings_and_the_reward_networks_is_adam(optimizer, settings):
    agent = make("rrd", "dqn", optimizer=optimizer)
    critic, reward = agent.optimizers["critic"], agent.optimizers["reward"]
    kind = optimizers.Adam if optimizer == "adam" else optimizers.RMSProp
    assert (type(critic), type(reward)) == (kind, optimizers.Adam)
    names = ("lr", "epsilon") if optimizer == "adam" else ("lr", "decay", "epsilon")
    assert tuple(getattr(critic, name) for name in names) == settings
    assert (reward.lr, reward.epsilon) == (3e-4, 1e-8)
    assert {name.partition("/")[0] for name in critic.trained} == {"main"}
    assert {name.partition("/")[0] for name in reward.trained} == {"rrd"}


# The sources --------------------------------------------------------------------------------------------------------

SOURCES = [ROOT / "train.py", *sorted(path for room in ("algorithm", "envs", "learner", "utils")
                                      for path in (ROOT / room).rglob("*.py"))]
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in SOURCES}


def imports(page: str) -> set[str]:
    """Every module that a source imports, anywhere in it, with what it takes from packages."""
    found = set()
    for node in ast.walk(ast.parse(PAGES[page])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return found


REFERENCE = {f"algorithm/tf/{name}.py" for name in ("base", "ddpg", "td3", "sac", "dqn", "rrd", "layers", "optimizers")}
TENSORFLOW = {page for page in PAGES if page.startswith("algorithm/tf/")}
TWINS = {"algorithm/tf/rrd.py": "algorithm/decomposition/rrd.py", "algorithm/tf/layers.py": "utils/torch_utils.py",
         "algorithm/tf/optimizers.py": "utils/optimizers.py"}


def test_one_file_imports_tensorflow_and_those_of_the_reference_have_it_from_there():
    named = {page for page in PAGES if any(name.partition(".")[0] in ("tensorflow", "keras") for name in imports(page))}
    assert named == {"algorithm/tf/importing.py"}
    assert {page for page in PAGES if "\ntf = import_tensorflow()\n" in PAGES[page]} == REFERENCE


@pytest.mark.parametrize("page", sorted(REFERENCE))
def test_each_file_of_the_reference_has_its_pytorch_file(page):
    name = Path(page).stem
    assert TWINS.get(page, f"algorithm/basis_alg/{name}_torch.py") in PAGES


@pytest.mark.parametrize("page", sorted(REFERENCE))
def test_the_reference_uses_no_layers_no_contrib_no_keras_and_no_sessions(page):
    assert not re.findall(r"(?<!\.)\btf\.(?:layers|contrib|keras|compat|estimator)\b|\bkeras\b|Session\b|placeholder",
                          PAGES[page])


@pytest.mark.parametrize("page", sorted(TENSORFLOW))
def test_a_tensorflow_file_never_imports_a_pytorch_agent(page):
    pytorch = re.compile(r"_torch\b|torch_utils|(?:^|\.)(?:decomposition|engine)(?:\.|$)")
    assert not [name for name in imports(page) if pytorch.search(name)]


@pytest.mark.parametrize("page", sorted(page for page in PAGES if page.endswith(("_torch.py", "torch_utils.py")) or
                                        page.startswith(("algorithm/decomposition", "algorithm/engine"))))
def test_a_pytorch_file_never_imports_tensorflow_nor_the_reference(page):
    assert not [name for name in imports(page) if name.startswith("algorithm.tf.") or name == "algorithm.rrd"]


def test_only_algorithm_and_the_converter_know_both_backends():
    """`create_agent` chooses; whoever else names a backend's module has chosen already."""
    for page in PAGES:
        if page.startswith(("learner", "envs")) or page in ("train.py", "utils/settings/cli.py"):
            assert not any("basis_alg" in name or "tensorflow" in name for name in imports(page)), page


# A run --------------------------------------------------------------------------------------------------------------

def files(directory: Path) -> set[str]:
    """What a run left, TensorBoard's file without the time in its name, checkpoints without their suffix."""
    paths = (str(path.relative_to(directory)) for path in directory.rglob("*")
             if path.is_file() and "resume" not in path.parts)              # which the reference does not
    return {re.sub(r"tfevents.*", "tfevents", re.sub(r"^(checkpoints/\w+)\..*", r"\1", path)) for path in paths}


@pytest.mark.parametrize("flags", [["--basis_alg=td3", *SMALL_RRD], ["--alg=ircr", "--basis_alg=sac", *SMALL]],
                         ids=["rrd-td3", "ircr-sac"])
def test_a_run_leaves_what_a_run_by_pytorch_leaves(flags, monkeypatch, capsys):
    ours = run("--env=Pendulum-v1", *flags)
    monkeypatch.setenv("USE_PYTORCH", "0")
    theirs = run("--env=Pendulum-v1", *flags)
    assert "; tensorflow on cpu;" in capsys.readouterr().out
    assert (ours.facts["backend"], theirs.facts["backend"]) == ("pytorch", "tensorflow")
    assert theirs.facts.keys() == ours.facts.keys()
    assert theirs.facts["versions"]["tensorflow"]
    assert theirs.config == ours.config
    assert files(theirs.directory) == files(ours.directory)
    assert [list(row) for row in theirs.rows] == [list(row) for row in ours.rows]
    assert theirs.returns("Pendulum-v1").shape == ours.returns("Pendulum-v1").shape
    assert all(math.isfinite(float(value)) for row in theirs.rows[1:] for value in row.values())
    # `resume` holds the lock that keeps other processes out, and nothing to go on from
    resume = theirs.directory / "checkpoints" / "resume"
    assert [path.name for path in resume.rglob("*") if path.is_file()] == ["lock"]
    assert {path.name for path in (theirs.directory / "checkpoints").iterdir()} == {"resume"} | {
        f"{name}.ckpt.{part}" for name in ("last", "best") for part in ("index", "data-00000-of-00001")}
    agent = create_agent(Namespace(**theirs.config, obs_dims=(3,), acts_dims=(1,)))
    fresh = everything(agent)
    agent.load_model(theirs.directory / "checkpoints" / "last.ckpt")
    assert not any(np.array_equal(value, fresh[name]) for name, value in everything(agent).items()
                   if name.endswith("/kernel"))
