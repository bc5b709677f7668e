"""algorithm.tf.convert: checkpoints of the original to PyTorch, and back; training continues from either."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from parity import Pair, Together
from reference_cases import Case, thin
from tf_checkpoints import (
    DATA,
    INDEX,
    ORIGINAL,
    ROOT,
    assert_holds,
    convert,
    everything,
    in_pytorch,
    loaded,
)

from algorithm import create_agent, tf_names
from algorithm.tf.files import PARTS, read_checkpoint

# The original's checkpoint, converted ----------------------------------------------------------------------------

def test_the_originals_weights_and_targets_are_converted(model):
    case, variables = Case("rrd_sac"), loaded(model).tf_variables()
    assert variables.keys() == case.shapes.keys()
    for name, value in variables.items():
        np.testing.assert_array_equal(thin(value), case.sample("after_5", name), err_msg=name)


def test_adams_moments_are_converted_to_pytorchs_layout(model, original):
    moments = {name: array for name, array in original.items() if name.endswith(("/Adam", "/Adam_1"))}
    assert len(moments) == 50
    assert all(np.any(array != 0) for array in moments.values())
    assert_holds(model, moments)


def test_the_step_counts_are_converted(model):
    agent = loaded(model)
    assert agent.updates == 5
    assert {group["name"]: group["t"] for _, group in agent.groups()} == dict.fromkeys(tf_names.ORDER, 5)
    assert {group["t"] for opt in agent.opts for group in opt.param_groups} == {5}


def test_the_report_names_every_variable_with_its_shape_and_its_place(original, capfd):
    path = convert(ORIGINAL, "out")
    report, errors = capfd.readouterr()
    rows = [line.split() for line in report.split("\n\n")[0].splitlines()]
    assert {row[0]: row[1] for row in rows} == {name: "x".join(map(str, array.shape)) or "scalar"
                                                for name, array in original.items()}
    assert {row[0]: row[2] for row in rows if "power" not in row[0]} == {name: in_pytorch(name) for name in original
                                                                         if "power" not in name}
    assert {row[2] for row in rows} <= set(safetensors.numpy.load_file(path))
    assert "95 variables, 5 updates" in report
    assert errors == ""


def test_the_printed_lines_load_what_was_written(original, capfd):
    convert(ORIGINAL, "out")
    known = {"argparse": argparse, "create_agent": create_agent}
    exec("\n".join(capfd.readouterr().out.splitlines()[-2:]), known)
    assert known["agent"].updates == 5
    np.testing.assert_array_equal(known["agent"].tf_variables()["rrd/net/r/bias"], original["rrd/net/r/bias"])


def test_nothing_but_the_checkpoint_is_written(model):
    assert [path.name for path in model.parent.iterdir()] == ["model.safetensors"]
    back = convert(model, "deep/er", to_tf=True)
    assert sorted(path.name for path in back.parent.iterdir()) == [f"model.ckpt{part}" for part in PARTS[1::-1]]


@pytest.mark.parametrize("part", PARTS)
def test_the_path_of_one_of_its_files_is_accepted(original, part):
    assert read_checkpoint(f"{ORIGINAL}{part}").keys() == original.keys()


@pytest.mark.parametrize("folder", ["RRD-L(RD) Ant-v2", "Übung", "[sac] seed?", "back\\slash"])
def test_a_directory_may_have_any_name(original, folder):
    Path(folder).mkdir()
    for file in (INDEX, DATA):
        shutil.copy(file, folder)
    path = convert(Path(folder) / "model.ckpt", Path(folder) / "over")
    back = convert(path, Path(folder) / "back", to_tf=True)
    assert read_checkpoint(back).keys() == original.keys()


def test_the_backend_switch_is_not_read(model, monkeypatch):
    monkeypatch.setenv("USE_PYTORCH", "0")
    convert(convert(ORIGINAL, "over"), "back", to_tf=True)


def test_the_module_runs_as_a_command():
    pytest.importorskip("tensorflow")
    flags = [str(ORIGINAL), "--alg", "rrd", "--basis_alg", "sac", "--out", str(Path("out").resolve())]
    done = subprocess.run([sys.executable, "-m", "algorithm.tf.convert", *flags], cwd=ROOT, capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "95 variables" in done.stdout
    assert loaded("out/model.safetensors").updates == 5


# Training continues unchanged ---------------------------------------------------------------------------------------

def both_go_on(both: Together) -> None:
    """Make five more updates of both, which must agree to float32's rounding.

    The variables then differ by 3e-5 to 4e-3 of their way, depending on the processor; without Adam's or RMSProp's
    moments by 0.8 and more. The bound is between, a factor of ten from both.
    """
    both.first, both.losses, both.start = None, 0.0, both.agents[1].tf_variables()
    both.play(5)
    assert both.first <= 1e-5
    assert both.losses <= 2e-4          # 6e-8 to 2.4e-5
    assert both.variables <= 5e-2
    assert both.normalizer <= 2e-6


def joined(ours, theirs) -> Together:
    """Both agents of the TensorFlow 1 checkpoint, to be fed the same batches."""
    both = Together(Pair("rrd", "sac", "small"))
    both.obs_dims, both.acts, both.agents = (11,), 3, [ours, theirs]
    return both


def test_the_originals_training_continues_unchanged(model):
    both_go_on(joined(loaded(model), loaded(ORIGINAL, "tensorflow")))


def test_an_exported_training_continues_unchanged(model, tensorflow):
    ours = loaded(model)
    for step in range(5):
        ours.train(Case("rrd_sac").batch(step))
        ours.target_update()
    ours.save_model("ours.safetensors")
    theirs = loaded(convert("ours.safetensors", "back", to_tf=True), "tensorflow")
    both_go_on(joined(ours, theirs))


GO_ON = [Pair("rrd", "td3", "small"), Pair("ddpg", "ddpg", "small"), Pair("sac", "sac", "small", (("alpha_lr", 0),)),
         Pair("ircr", "dqn", "small"), Pair("rrd", "dqn", "small", (("optimizer", "rmsprop"),))]


@pytest.mark.parametrize("pair", GO_ON, ids=str)
def test_every_training_continues_in_either_direction(pair, tensorflow):
    both = Together(pair).play(6)
    alg, basis, theirs = pair.alg, pair.basis if pair.alg != pair.basis else None, both.agents[1]
    theirs.save_model("theirs.ckpt")
    both.agents[0] = loaded(convert("theirs.ckpt", "over", alg, basis), "pytorch", alg, basis, both.obs_dims, both.acts,
                            obs_scale=theirs.config.obs_scale, **dict(pair.options))
    both_go_on(both)
    both.agents[0].save_model("ours.safetensors")
    for variable in theirs.all_variables().values():
        variable.assign(tensorflow.ones_like(variable))
    theirs.load_model(convert("ours.safetensors", "back", alg, basis, to_tf=True))
    both_go_on(both)


# Every algorithm in both directions -----------------------------------------------------------------------------------

THERE_AND_BACK = [
    ("sac", None, (27,), 8, {}), ("sac", None, (1,), 1, {"alpha_lr": 0}), ("td3", None, (376,), 17, {}),
    ("ddpg", None, (3,), 1, {}), ("ddpg", None, (27,), 8, {"obs_normalization": False}),
    ("rrd", "sac", (111,), 8, {"obs_normalization": True}), ("rrd", "sac", (5,), 2, {"alpha_lr": 0}),
    ("rrd", "td3", (4,), 6, {"obs_normalization": True}), ("rrd", "ddpg", (17,), 6, {}),
    ("ircr", "sac", (5,), 2, {}), ("ircr", "td3", (5,), 2, {}), ("ircr", "ddpg", (5,), 2, {}),
    ("dqn", None, (7,), 4, {}), ("dqn", None, (7,), 4, {"optimizer": "rmsprop", "double": True}),
    ("rrd", "dqn", (7,), 2, {}), ("rrd", "dqn", (7,), 4, {"optimizer": "rmsprop"}), ("ircr", "dqn", (2,), 3, {}),
    ("rrd", "dqn", (84, 84, 1), 3, {"dueling": True}),
]


def make_batch(seed: int, obs: tuple[int, ...], acts: int, discrete: bool) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def choose(*shape):
        return random.integers(acts, size=shape) if discrete else random.uniform(-1, 1, (*shape, acts))
    rows, sequences = (3,), (1, 3)
    return {"obs": random.normal(size=(*rows, *obs)), "obs_next": random.normal(size=(*rows, *obs)),
            "acts": choose(*rows), "rews": random.normal(size=(3, 1)), "done": np.zeros((3, 1)),
            "rrd_obs": random.normal(size=(*sequences, *obs)), "rrd_obs_next": random.normal(size=(*sequences, *obs)),
            "rrd_acts": choose(*sequences), "rrd_rews": random.normal(size=(1, 1))}


@pytest.fixture
def _eager(tensorflow):
    """Without graphs, which take longer to build than a few updates to run."""
    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(False)


@pytest.mark.usefixtures("_eager")
@pytest.mark.parametrize(("alg", "basis", "obs", "acts", "settings"), THERE_AND_BACK)
@pytest.mark.sampled(8)
def test_all_arrays_are_restored_to_the_bit(alg, basis, obs, acts, settings):
    def make(seed):
        return create_agent(Namespace(alg=alg, basis_alg=basis, obs_dims=obs, acts_dims=acts, seed=seed,
                                      use_pytorch=False, device="cpu", **settings))
    agent, restored = make(0), make(1)
    for step in range(2):
        batch = make_batch(step, obs, acts, "dqn" in (alg, basis))
        agent.normalizer_update(batch)
        agent.update(lambda batch=batch: batch)
    agent.save_model("theirs.ckpt")
    path = convert("theirs.ckpt", "over", alg, basis)
    theirs = everything(agent)
    assert_holds(path, {name: array for name, array in theirs.items() if not re.search("power|RMSProp_1", name)})
    restored.load_model(convert(path, "back", alg, basis, to_tf=True))
    back = everything(restored)
    assert theirs.keys() == back.keys()
    for name, value in theirs.items():
        # RMSProp's last step, which TensorFlow keeps and nothing reads, is not kept here.
        np.testing.assert_array_equal(back[name], value * 0 if name.endswith("/RMSProp_1") else value, err_msg=name)
