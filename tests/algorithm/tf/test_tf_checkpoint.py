"""algorithm.tf.convert: the original's checkpoints come over to PyTorch and go back, and nothing wrong gets in."""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st
from parity import Pair, Together
from reference_cases import FOLDER, Case, thin

from algorithm import create_agent, tf_names
from algorithm.tf.convert import main, to_pytorch
from algorithm.tf.files import PARTS, read_checkpoint, write_checkpoint
from algorithm.tf.process import READER
from utils.checkpoint import CheckpointError

ROOT = Path(__file__).resolve().parent.parent.parent.parent
ORIGINAL = FOLDER / "rrd_sac_tf1_checkpoint" / "model.ckpt"
INDEX, DATA = (Path(f"{ORIGINAL}{part}") for part in PARTS[:2])


@pytest.fixture(scope="session")
def tensorflow():
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="session")
def original(tensorflow) -> dict[str, np.ndarray]:
    """The arrays of the TensorFlow 1 checkpoint, read by TensorFlow alone."""
    reader = tensorflow.train.load_checkpoint(str(ORIGINAL))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.fixture(scope="session")
def model(tensorflow, tmp_path_factory) -> Path:
    """The TensorFlow 1 checkpoint, brought over."""
    return convert(ORIGINAL, tmp_path_factory.mktemp("brought") / "over")


def convert(path, out, alg: str = "rrd", basis: str | None = "sac", to_tf: bool = False) -> Path:
    flags = [f"--alg={alg}", *([f"--basis_alg={basis}"] if basis else []), f"--out={out}", *["--to-tf"] * to_tf]
    assert main([str(path), *flags]) == 0
    return Path(out) / ("model.ckpt" if to_tf else "model.safetensors")


def loaded(path, backend: str = "pytorch", alg: str = "rrd", basis: str | None = "sac", obs=(11,), acts=3, **settings):
    """A new agent that loaded the checkpoint."""
    agent = create_agent(Namespace(alg=alg, basis_alg=basis, obs_dims=obs, acts_dims=acts, device="cpu", seed=9,
                                   use_pytorch=backend == "pytorch", **settings))
    agent.load_model(path)
    return agent


def everything(agent) -> dict[str, np.ndarray]:
    """All variables of a reference agent, its optimisers' among them."""
    return {name: variable.numpy() for name, variable in agent.all_variables().items()}


SLOTS = {"Adam": "exp_avg", "Adam_1": "exp_avg_sq", "RMSProp": "square_avg"}


def in_pytorch(name: str) -> str:
    """Where PyTorch's checkpoint holds a variable, told from the names alone."""
    variable, _, slot = name.rpartition("/")
    if slot in SLOTS:
        return f"{in_pytorch(variable).replace('nets.', 'opt.', 1)}.{SLOTS[slot]}"
    return "nets." + name.replace("/net/", "/").replace("/kernel", "/weight").replace("/", ".")


def assert_holds(path, arrays: dict[str, np.ndarray]) -> None:
    """PyTorch's checkpoint holds these variables, to the bit, in PyTorch's layout: [out, in, height, width]."""
    state = safetensors.numpy.load_file(path)
    for name, array in arrays.items():
        axes = {2: (1, 0), 4: (3, 2, 0, 1)}.get(array.ndim, range(array.ndim))
        np.testing.assert_array_equal(state[in_pytorch(name)], array.transpose(axes), err_msg=name)


# The original's checkpoint comes over ----------------------------------------------------------------------------

def test_the_originals_weights_and_targets_come_over(model):
    case, variables = Case("rrd_sac"), loaded(model).tf_variables()
    assert variables.keys() == case.shapes.keys()
    for name, value in variables.items():
        np.testing.assert_array_equal(thin(value), case.sample("after_5", name), err_msg=name)


def test_adams_moments_come_over_in_pytorchs_layout(model, original):
    moments = {name: array for name, array in original.items() if name.endswith(("/Adam", "/Adam_1"))}
    assert len(moments) == 50
    assert all(np.any(array != 0) for array in moments.values())
    assert_holds(model, moments)


def test_the_step_counts_come_over(model):
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
def test_the_path_of_one_of_its_files_will_do(original, part):
    assert read_checkpoint(f"{ORIGINAL}{part}").keys() == original.keys()


@pytest.mark.parametrize("folder", ["RRD-L(RD) Ant-v2", "Übung", "[sac] seed?", "back\\slash"])
def test_a_run_may_be_called_anything(original, folder):
    Path(folder).mkdir()
    for file in (INDEX, DATA):
        shutil.copy(file, folder)
    path = convert(Path(folder) / "model.ckpt", Path(folder) / "over")
    back = convert(path, Path(folder) / "back", to_tf=True)
    assert read_checkpoint(back).keys() == original.keys()


FIRST = """
import sys, numpy as np, tensorflow as tf
tf1 = tf.compat.v1
tf1.disable_eager_execution()
arrays = tf.train.load_checkpoint(sys.argv[1])
with tf1.Session() as session:
    for name in arrays.get_variable_to_shape_map():
        tf1.get_variable(name, initializer=arrays.get_tensor(name))
    session.run(tf1.global_variables_initializer())
    tf1.train.Saver(write_version=tf1.train.SaverDef.V1).save(session, sys.argv[2])
"""


@pytest.fixture(scope="session")
def first_format(tensorflow, tmp_path_factory) -> Path:
    """The TensorFlow 1 checkpoint as TensorFlow wrote it before 1.0: one file."""
    path = tmp_path_factory.mktemp("first") / "a [model].ckpt"
    subprocess.run([sys.executable, "-c", FIRST, str(ORIGINAL), str(path)], check=True, capture_output=True)
    assert path.is_file()
    assert not Path(f"{path}.index").exists()
    return path


@pytest.mark.parametrize("ending", ["", ".meta"])
def test_a_checkpoint_in_tensorflows_first_format_comes_over_alike(first_format, model, ending):
    ours = safetensors.numpy.load_file(convert(f"{first_format}{ending}", "first"))
    theirs = safetensors.numpy.load_file(model)
    assert {name: array.tobytes() for name, array in ours.items()} == {name: array.tobytes()
                                                                       for name, array in theirs.items()}


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9, 0.999])
def test_a_damaged_checkpoint_in_the_first_format_is_refused(first_format, capfd, at):
    data = bytearray(first_format.read_bytes())
    data[int(at * len(data))] ^= 0x41
    Path("damaged.ckpt").write_bytes(data)
    refuse(capfd, "damaged.ckpt", r"damaged\.ckpt: ")


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


# Training goes on as it would have ---------------------------------------------------------------------------------

def both_go_on(both: Together) -> None:
    """Five more updates of both, which agree to float32's rounding.

    That moves the variables apart by 3e-5 to 4e-3 of their way, by the processor; without Adam's or RMSProp's moments
    they are 0.8 and more apart. So the bound stands between, a factor of ten from either.
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


def test_the_originals_training_goes_on_as_it_would_have(model):
    both_go_on(joined(loaded(model), loaded(ORIGINAL, "tensorflow")))


def test_an_exported_training_goes_on_as_it_would_have(model, tensorflow):
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
def test_every_training_goes_on_in_either_direction(pair, tensorflow):
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


# Every algorithm, there and back -------------------------------------------------------------------------------------

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
def test_all_arrays_come_back_to_the_bit(alg, basis, obs, acts, settings):
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


# Step counts -----------------------------------------------------------------------------------------------------

BETAS = [(0.9, 828), (0.999, 87_293)]           # and of how many steps the power is no longer a normal float32


@pytest.mark.parametrize(("beta", "end"), BETAS)
def test_a_power_tells_the_step_count_as_long_as_it_is_above_zero(beta, end):
    counts = {*range(min(2001, end)), *range(0, end, 101), *range(end - 100, end)}
    assert [count for count in counts if tf_names.count_of(beta, float(tf_names.power(beta, count))) != count] == []


@pytest.mark.parametrize(("beta", "end"), BETAS)
def test_beyond_that_the_power_is_zero_and_tells_the_first_such_count(beta, end):
    assert tf_names.power(beta, end - 1) >= np.finfo(np.float32).tiny
    for value in [float(tf_names.power(beta, count)) for count in (end, end + 1, 3_000_000)] + [1e-45, 1e-40]:
        assert value < np.finfo(np.float32).tiny
        assert tf_names.count_of(beta, value) == end


def test_powers_are_those_that_tensorflow_multiplies_up(tensorflow):
    first, second = tensorflow.Variable(0.9), tensorflow.Variable(0.999)

    @tensorflow.function
    def step():
        first.assign(first * 0.9)
        second.assign(second * 0.999)
    for count in range(1, 1001):                    # past the end of the first
        step()
        assert (first.numpy(), second.numpy()) == (tf_names.power(0.9, count), tf_names.power(0.999, count))


@pytest.mark.parametrize("beta", [0.9, 0.999])
@given(count=st.integers(0, 826), share=st.floats(0, 1), sign=st.sampled_from([-1, 1]))
def test_what_is_near_a_power_has_its_count_and_what_is_between_two_is_none(beta, count, share, sign):
    power = float(tf_names.power(beta, count))
    assert tf_names.count_of(beta, power * (1 + 9e-5 * share * sign)) == count
    with pytest.raises(ValueError, match=f"expected a power of {beta}"):
        tf_names.count_of(beta, power * (1 + (2e-4 + 2e-4 * share) * sign))


@pytest.mark.parametrize("beta", [0.9, 0.999])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e-45, -0.9, 1.0, 1.5, 3.4e38, 1e300])
def test_what_is_not_between_0_and_1_is_no_power(beta, value):
    with pytest.raises(ValueError, match=f"expected a power of {beta}"):
        tf_names.count_of(beta, value)


@pytest.mark.parametrize("count", [0, 1, 827, 828, 829, 5000, 87_292])
def test_a_count_survives_pytorch_to_tensorflow_to_pytorch(model, original, count):
    agent, again = loaded(model), loaded(model)
    powers = {name: tf_names.power(0.9 if "beta1" in name else 0.999, count) for name in original if "power" in name}
    agent.load_tf_variables(powers)
    again.load_tf_variables({name: agent.tf_variables(optimizer=True)[name] for name in powers})
    for one in (agent, again):
        assert {group["t"] for _, group in one.groups()} == {one.updates} == {count}
        assert all(group["t"] == count for opt in one.opts for group in opt.param_groups)


@pytest.mark.parametrize("count", [0, 5, 87_292, 87_293])
def test_both_backends_are_told_the_same_number_of_updates(original, count):
    powers = {name: tf_names.power(0.9 if "beta1" in name else 0.999, count) for name in original if "power" in name}
    path = altered(original, **powers)
    assert loaded(path, "tensorflow").updates == to_pytorch(read_checkpoint(path), "rrd", "sac").updates == count


def test_after_more_steps_than_can_be_told_training_still_goes_on_as_it_would_have(model):
    batch = Case("rrd_sac").batch(0)
    agents = [loaded(model), loaded(model)]
    for agent, count in zip(agents, (87_293, 3_000_000), strict=True):
        for _, group in agent.groups():
            tf_names._set_count(agent, group, count)
        agent.train(batch)
    theirs = agents[1].tf_variables()
    assert all(np.array_equal(value, theirs[name]) for name, value in agents[0].tf_variables().items())


# Wrong variables ---------------------------------------------------------------------------------------------------

def refuse(capfd, path, complaint: str, *flags: str, code: int = 2) -> str:
    """The command ends with one line, which says that, and leaves no file behind."""
    before = {file for file in Path().rglob("*") if not file.is_dir()}
    capfd.readouterr()
    assert main([str(path), *(flags or ["--alg=rrd", "--basis_alg=sac"]), "--out=out"]) == code
    out, errors = capfd.readouterr()
    assert out == ""
    assert errors.count("\n") == 1
    assert errors.startswith("tf_checkpoint: ")
    assert re.search(complaint, errors), errors
    assert {file for file in Path().rglob("*") if not file.is_dir()} == before
    return errors


def names(message: str, name: str) -> bool:
    return re.search(rf"(?<![\w/]){re.escape(name)}(?![\w/])", message) is not None


def complaint_of(arrays: dict[str, np.ndarray]) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        to_pytorch(arrays, "rrd", "sac")
    return str(caught.value)


def test_every_variable_that_is_missing_is_named(original):
    unnamed = [name for name in original
               if not names(complaint_of({other: original[other] for other in original if other != name}), name)]
    assert unnamed == []


def test_every_variable_that_is_misshapen_is_named(original):
    unnamed = [name for name, array in original.items()
               if not names(complaint_of(original | {name: np.zeros((*array.shape, 1), np.float32)}), name)]
    assert unnamed == []


@pytest.mark.parametrize(("name", "right", "wrong"), [
    ("main/policy/net/pi_dense1/kernel", (11, 256), [(12, 256), (256, 11), (11, 255), (0, 256), (11,), ()]),
    ("main/policy/net/pi/kernel", (256, 6), [(256, 8), (256, 7), (6, 256), (256, 1), (256, 0), (256,), ()]),
    ("main/policy/net/pi/bias", (6,), [(8,), (1,), (0,), ()]), ("rrd/net/r_dense1/kernel", (25, 256), [(24, 256), ()]),
    ("beta1_power", (), [(1,), (0,)]), ("main/alpha/log_alpha", (), [(1,)]),
])
def test_a_misshapen_variable_is_told_with_both_shapes_and_no_other_is_blamed(original, name, right, wrong):
    for shape in wrong:
        assert complaint_of(original | {name: np.zeros(shape, np.float32)}) == \
            f"checkpoint: {name}: got shape {shape}, expected {right}"


def altered(original, without=(), **changes) -> str:
    """The prefix of a checkpoint like the original's but for some variables."""
    arrays = {name: array for name, array in original.items() if name not in without}
    write_checkpoint("altered.ckpt", arrays | changes)
    return "altered.ckpt"


def test_missing_extra_and_misshapen_variables_are_named_at_once(original, capfd):
    path = altered(original, ["rrd/net/r/bias", "main/policy/net/pi_dense1/kernel"],
                   global_step=np.int64(5), **{"main/policy/net/pi/kernel": np.zeros((256, 4), np.float32)})
    message = refuse(capfd, path, "")
    for name, problem in [("rrd/net/r/bias", "missing"), ("main/policy/net/pi_dense1/kernel", "missing"),
                          ("global_step", "unknown"), ("main/policy/net/pi/kernel", r"got shape \(256, 4\), expected")]:
        assert re.search(f" {name}: {problem}", message), message


def test_an_integer_global_step_is_an_unknown_variable(original, capfd):
    refuse(capfd, altered(original, global_step=np.int64(5)), "checkpoint: global_step: unknown$")


def test_a_network_that_is_missing_altogether_is_named(original, capfd):
    path = altered(original, [name for name in original if name.startswith("main/q_value_1/")])
    refuse(capfd, path, "main/q_value_1/net/q_dense1/kernel: missing")


def test_a_checkpoint_without_the_optimisers_is_refused(original, capfd):
    refuse(capfd, altered(original, [name for name in original if "Adam" in name or "power" in name]), "/Adam: missing")


def test_an_alpha_that_was_learned_is_not_taken_for_a_fixed_one(original, capfd):
    path = altered(original, ["main/alpha/log_alpha/Adam"])
    refuse(capfd, path, "checkpoint: main/alpha/log_alpha/Adam: missing$")


def test_a_lineless_name_stays_on_one_line(original, capfd):
    refuse(capfd, altered(original, **{"two\nlines": np.float32(1)}), r"two\\nlines: unknown")


@pytest.mark.parametrize("array", [np.array([b"x"], object), np.array([True]), np.array([1j], np.complex64)], ids=str)
def test_what_is_no_number_is_refused(original, capfd, array):
    refuse(capfd, altered(original, **{"rrd/net/r/bias": array}), "rrd/net/r/bias: got dtype .*, expected float32")


@pytest.mark.parametrize("name", ["beta1_power", "beta2_power_2"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.53, 1.0, 1.5, 3.4e38, 0.53])
def test_a_power_of_no_step_count_is_refused(original, capfd, name, value):
    refuse(capfd, altered(original, **{name: np.float32(value)}), rf"'{name}'\]: got .*, expected a power of 0.9")


def test_the_reference_refuses_a_power_of_no_step_count_and_stays_as_it_was(original):
    agent, path = loaded(ORIGINAL, "tensorflow"), altered(original, beta2_power_2=np.float32(np.nan))
    agent.load_tf_variables({"main/alpha/log_alpha": np.float32(9)})
    with pytest.raises(CheckpointError, match=r"altered\.ckpt: .*beta2_power_2.* got nan, expected a power of 0\.999"):
        agent.load_model(path)
    assert (everything(agent)["main/alpha/log_alpha"], agent.updates) == (9, 5)


@pytest.mark.parametrize(("beta1", "beta2"), [(0, 5), (5, 828), (5, 90_000), (6, 5), (828, 827), (828, 5)])
def test_powers_of_different_step_counts_are_refused(original, capfd, beta1, beta2):
    path = altered(original, beta1_power_1=tf_names.power(0.9, beta1), beta2_power_1=tf_names.power(0.999, beta2))
    refuse(capfd, path, r"beta1_power_1'\]: got \d+ steps, expected the \d+ of beta2_power_1$")


# Wrong algorithm -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flags", [["--alg=sac"], ["--alg=td3"], ["--alg=ddpg"], ["--alg=dqn"], ["--alg=ircr"],
                                   ["--alg=rrd", "--basis_alg=td3"], ["--alg=rrd", "--basis_alg=dqn"]])
def test_a_checkpoint_of_another_algorithm_is_refused_with_the_right_flags(tensorflow, capfd, flags):
    refuse(capfd, ORIGINAL, "holds sac with a reward network, .* expected --alg rrd --basis_alg sac$", *flags)


@pytest.mark.parametrize("flags", [["--alg=rrd"], ["--alg=td3"], ["--alg=ircr", "--basis_alg=ddpg"]])
def test_a_checkpoint_without_a_reward_network_is_refused_with_the_right_flags(original, capfd, flags):
    path = altered(original, [name for name in original if name.startswith("rrd/") or name.endswith("power_3")])
    refuse(capfd, path, "holds sac without a reward network, .* expected --alg sac", *flags)
    convert(path, "fine", "sac", None)


def test_somebody_elses_checkpoint_is_refused(tensorflow, capfd):
    write_checkpoint("other", {"dense/kernel": np.zeros((3, 3), np.float32)})
    refuse(capfd, "other", "holds the networks of none of sac, td3, ddpg, dqn; its variables are dense/kernel")


@pytest.mark.parametrize(("flags", "complaint"), [
    (["--alg=ppo"], "alg: got 'ppo', expected one of ddpg, td3, sac, dqn, rrd, ircr, uniform"),
    (["--alg=RRD"], "alg: got 'RRD'; did you mean rrd"), (["--alg="], "alg: got ''"),
    (["--alg=rrd", "--basis_alg=rrd"], "basis_alg: got 'rrd', expected one of ddpg, td3, sac, dqn"),
    (["--alg=td3", "--basis_alg=sac"], "basis_alg: got 'sac', but td3 has no basis"),
    (["--algorithm=rrd"], "unrecognized arguments: --algorithm=rrd"), (["another.ckpt"], "another.ckpt"),
])
def test_wrong_flags_are_refused(capfd, flags, complaint):
    refuse(capfd, ORIGINAL, complaint, *flags)


@pytest.mark.parametrize(("argv", "complaint"), [
    ([], "required: CHECKPOINT, --out"), (["model.ckpt"], "required: --out"), (["--out=out"], "required: CHECKPOINT"),
    (["model.ckpt", "--out"], "--out: expected one argument"), (["model.ckpt", "--out="], "out: got ''"),
    (["", "--out=out"], "checkpoint: got ''"),
])
def test_missing_arguments_are_named(capfd, argv, complaint):
    assert main(argv) == 2
    out, errors = capfd.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert complaint in errors


# Wrong files -----------------------------------------------------------------------------------------------------

def damaged(index: bytes | None, data: bytes | None) -> str:
    """The prefix of a checkpoint with these contents; None: without that file."""
    for part, content in zip(PARTS, (index, data), strict=False):
        if content is not None:
            Path(f"damaged.ckpt{part}").write_bytes(content)
    return "damaged.ckpt"


@pytest.mark.parametrize("keep", [0, 1, 40, 47, 48, 49, 100, 0.3, 0.5, 0.7, 0.9, -100, -48, -47, -8, -1])
def test_a_truncated_index_is_refused(tensorflow, capfd, keep):
    index = INDEX.read_bytes()
    keep = int(keep * len(index)) if isinstance(keep, float) else keep
    refuse(capfd, damaged(index[:keep], DATA.read_bytes()), r"damaged\.ckpt: damaged")


@pytest.mark.parametrize("keep", [0, 1, 4, 1000, 0.3, 0.5, 0.9, -4, -1])
def test_truncated_data_are_refused(tensorflow, capfd, keep):
    data = DATA.read_bytes()
    keep = int(keep * len(data)) if isinstance(keep, float) else keep
    refuse(capfd, damaged(INDEX.read_bytes(), data[:keep]), r"damaged\.ckpt: damaged")


@pytest.mark.parametrize("at", [0, 1, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, -8, -1])
def test_a_flipped_byte_of_the_index_is_found(tensorflow, capfd, at):
    index = bytearray(INDEX.read_bytes())
    index[int(at * len(index)) if isinstance(at, float) else at] ^= 0x41
    refuse(capfd, damaged(index, DATA.read_bytes()), r"damaged\.ckpt: damaged")


@pytest.mark.parametrize("at", [0, 0.2, 0.5, 0.9, -1])
def test_a_flipped_byte_of_the_data_is_found(tensorflow, capfd, at):
    data = bytearray(DATA.read_bytes())
    data[int(at * len(data)) if isinstance(at, float) else at] ^= 0x01
    message = refuse(capfd, damaged(INDEX.read_bytes(), data), r"damaged\.ckpt: damaged")
    assert tempfile.gettempdir() not in message         # where it was read is no place that the user knows


@pytest.mark.parametrize("content", [b"", b"hello\nworld\n" * 100, b"\0" * 4096, b"\xff" * 4096])
def test_a_foreign_index_is_refused(tensorflow, capfd, content):
    refuse(capfd, damaged(content, DATA.read_bytes()), r"damaged\.ckpt: damaged")


def test_a_missing_file_is_named(tensorflow, capfd):
    refuse(capfd, "nowhere/model.ckpt", r"nowhere/model\.ckpt: no such checkpoint; nowhere/model\.ckpt\.index is not")
    refuse(capfd, damaged(INDEX.read_bytes(), None), r"damaged\.ckpt\.data-00000-of-00001 is not there")
    Path("damaged.ckpt.index").unlink()
    refuse(capfd, damaged(None, DATA.read_bytes()), r"damaged\.ckpt\.index is not there")


def test_a_directory_is_refused_with_the_prefix_that_it_holds(tensorflow, capfd):
    refuse(capfd, ORIGINAL.parent, f"a directory, expected the prefix .*, such as {ORIGINAL}$")
    Path("empty").mkdir()
    refuse(capfd, "empty", "empty: a directory, expected the prefix .* holds no checkpoint$")


def test_a_single_file_is_refused(tensorflow, capfd):
    refuse(capfd, ORIGINAL.with_name("checkpoint"), "checkpoint: is a single file, not a checkpoint's prefix")


def test_a_pytorch_checkpoint_is_refused_with_a_hint(model, capfd):
    refuse(capfd, model, r"model\.safetensors: .*--to-tf")


def test_a_tensorflow_2_checkpoint_is_refused(tensorflow, capfd):
    tensorflow.train.Checkpoint(weight=tensorflow.Variable(1.0)).save("two")
    refuse(capfd, "two-1", r"two-1: a TensorFlow 2 \(object-based\) checkpoint, expected one with the original's names")
    tensorflow.saved_model.save(tensorflow.Module(), "saved")
    refuse(capfd, "saved/variables/variables", "a TensorFlow 2")
    refuse(capfd, "saved", "saved: a directory")


def test_a_path_of_two_lines_stays_on_one(tensorflow, capfd):
    refuse(capfd, "two\nlines", r"two\\nlines: no such checkpoint")


# Wrong files on the way back -----------------------------------------------------------------------------------------

BACK = ["--alg=rrd", "--basis_alg=sac", "--to-tf"]


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.999])
def test_a_truncated_pytorch_checkpoint_is_refused(model, capfd, keep):
    data = model.read_bytes()
    Path("cut").write_bytes(data[:int(keep * len(data)) if isinstance(keep, float) else keep])
    refuse(capfd, "cut", r"cut: not a checkpoint", *BACK)


@pytest.mark.parametrize(("old", "new"), [
    ('"obs_dims"', '"obs_dimt"'), ('"(11,)"', '"(11,x"'), ('"(11,)"', '"abcde"'), ('"(11,)"', '"(99,)"'),
    ('"(11,)"', '"[],()"'), ('"(11,)"', '"9**99"'), ('"(3,)"', '"(-3)"'), ('"rrd"', '"rrx"'), ('"F32"', '"F64"'),
])
def test_a_flipped_header_of_a_pytorch_checkpoint_is_refused(model, capfd, old, new):
    data = model.read_bytes()
    assert old.encode() in data
    Path("flipped").write_bytes(data.replace(old.encode(), new.encode(), 1))
    refuse(capfd, "flipped", "flipped: |obs_dims|acts_dims", *BACK)


def test_a_header_of_sizes_that_no_memory_holds_is_refused(model, capfd):
    data = model.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = data[8:8 + size].replace(b"(11,)", b"(999999999,)").rstrip()
    Path("huge").write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size:])
    refuse(capfd, "huge", "huge: |obs_dims", *BACK)


def test_another_file_than_a_pytorch_checkpoint_is_refused(tensorflow, capfd):
    refuse(capfd, "nowhere", "nowhere: no such file", *BACK)
    refuse(capfd, INDEX, r"model\.ckpt\.index: not a checkpoint", *BACK)
    refuse(capfd, ORIGINAL.parent, "rrd_sac_tf1_checkpoint: not a checkpoint", *BACK)
    torch.save({"weight": torch.zeros(3)}, "foreign.pt")
    refuse(capfd, "foreign.pt", r"foreign\.pt: not a checkpoint", *BACK)


def test_a_pytorch_checkpoint_of_another_algorithm_is_refused(model, capfd):
    refuse(capfd, model, "alg: got 'rrd', expected 'sac'", "--alg=sac", "--to-tf")
    refuse(capfd, model, "basis_alg: got 'sac', expected 'td3'", "--alg=rrd", "--basis_alg=td3", "--to-tf")


# The place to write to, the disk, TensorFlow -------------------------------------------------------------------------

def assert_kept(capfd, argv: list, complaint: str, code: int = 2) -> None:
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    capfd.readouterr()
    assert main([str(word) for word in argv]) == code
    out, errors = capfd.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert re.search(complaint, errors), errors
    assert {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")} == before


@pytest.mark.parametrize("out", ["file", "dangling", "file/below", "file/far/below"])
def test_a_place_that_is_no_directory_and_below_none_is_refused(tensorflow, capfd, out):
    Path("file").write_text("kept")
    Path("dangling").symlink_to("nowhere")
    assert_kept(capfd, [ORIGINAL, f"--out={out}"], f"out: '{out.partition('/')[0]}' is not a directory")


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index"])
def test_what_is_there_already_is_kept(tensorflow, capfd, name):
    Path("out").mkdir()
    (Path("out") / name).write_text("kept")
    assert_kept(capfd, [ORIGINAL, "--out=out"], f"out: out/{name} exists already")


@pytest.mark.parametrize("part", ["", *PARTS])
def test_what_is_there_already_is_kept_on_the_way_back(model, capfd, part):
    Path("out").mkdir()
    Path(f"out/model.ckpt{part}").write_text("kept")
    assert_kept(capfd, [model, "--out=out", "--to-tf"], f"out: out/model.ckpt{part} exists already")


def test_a_directory_that_holds_other_things_will_do(tensorflow):
    for file in (INDEX, DATA):
        shutil.copy(file, ".")
    assert loaded(convert("model.ckpt", ".")).updates == 5


@pytest.fixture
def _full_disk():
    """No file may grow beyond a megabyte; a checkpoint has four."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("_full_disk")
def test_a_full_disk_is_told_and_leaves_no_file(tensorflow, capfd):
    refuse(capfd, ORIGINAL, "File too large", code=1)


@pytest.mark.usefixtures("_full_disk")
def test_a_full_disk_is_told_and_leaves_no_file_on_the_way_back(model, capfd):
    refuse(capfd, model, "File too large", *BACK, code=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_may_not_be_written_is_told(tensorflow, capfd):
    Path("locked").mkdir(0o500)
    assert_kept(capfd, [ORIGINAL, "--out=locked/out"], "Permission denied", code=1)


@pytest.mark.parametrize("flags", [[], ["--to-tf"]])
def test_without_tensorflow_its_extra_is_named(monkeypatch, capfd, flags):
    monkeypatch.setitem(sys.modules, "tensorflow", None)        # importing it fails, as if it were not installed
    refuse(capfd, ORIGINAL, r"tensorflow: is not installed; pip install .*\[tensorflow\]", "--alg=rrd", *flags)


@pytest.mark.parametrize("failure", ["ImportError('no shared object')", "TypeError('protobuf:\\nanother version')"])
def test_a_tensorflow_that_cannot_be_imported_is_told(monkeypatch, capfd, failure):
    Path("broken").mkdir()
    Path("broken/tensorflow.py").write_text(f"raise {failure}")
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.syspath_prepend("broken")
    READER.close()                      # it has imported the other one
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    refuse(capfd, ORIGINAL, "tensorflow: cannot be imported here .*(no shared object|another version)")


def test_an_interrupt_is_told(monkeypatch, capfd):
    def interrupt(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr("algorithm.tf.convert.read_checkpoint", interrupt)
    refuse(capfd, ORIGINAL, "interrupted", code=130)


def test_a_failed_write_keeps_the_old_checkpoint(original, monkeypatch):
    write_checkpoint("kept", original)
    old = {path: path.read_bytes() for path in Path().iterdir()}

    def fail(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint("kept", {"other": np.float32(1)})
    assert {path: path.read_bytes() for path in Path().iterdir()} == old
