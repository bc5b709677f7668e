"""The TensorFlow reference by itself: saving and loading, and the original's names of variables."""

from __future__ import annotations

import functools
import os
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from agents import A, O
from reference_agents import (
    IMAGE,
    agents_to_refuse,
    assert_same,
    batch_for,
    complaint,
    everything,
    make,
)
from reference_cases import FOLDER, NAMES, Case

pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed")

from algorithm import create_agent
from algorithm.tf import convert as tf_checkpoint
from utils.checkpoint import CheckpointError

TO_SAVE = [("td3", None, {}), ("ddpg", None, {}), ("dqn", None, {"optimizer": "rmsprop"}),
           ("rrd", "sac", {"rrd_bias_correction": True, "obs_normalization": True}),
           ("rrd", "dqn", {"obs_dims": IMAGE, "dueling": True})]


@pytest.mark.parametrize(("alg", "basis", "settings"), TO_SAVE, ids=["td3", "ddpg", "dqn", "rrd-sac", "rrd-dqn"])
def test_a_loaded_agent_continues_as_the_saved_one(alg, basis, settings):
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
    """As PyTorch does, from the powers of Adam's betas: TD3's policy and all targets are due by that number."""
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
def test_powers_of_no_number_of_steps_are_refused_and_change_nothing(power):
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
    """Including the optimisers' variables, whose names TensorFlow 1 chose."""
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
