"""algorithm.tf.convert: wrong variables, algorithms and arguments are refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tf_checkpoints import (
    ORIGINAL,
    altered,
    convert,
    refuse,
)

from algorithm.tf.convert import main, to_pytorch
from algorithm.tf.files import write_checkpoint


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
def test_a_misshapen_variable_is_reported_alone_with_both_shapes(original, name, right, wrong):
    for shape in wrong:
        assert complaint_of(original | {name: np.zeros(shape, np.float32)}) == \
            f"checkpoint: {name}: got shape {shape}, expected {right}"


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


def test_a_name_with_a_line_break_stays_on_one_line(original, capfd):
    refuse(capfd, altered(original, **{"two\nlines": np.float32(1)}), r"two\\nlines: unknown")


@pytest.mark.parametrize("array", [np.array([b"x"], object), np.array([True]), np.array([1j], np.complex64)], ids=str)
def test_variables_that_are_not_numbers_are_refused(original, capfd, array):
    refuse(capfd, altered(original, **{"rrd/net/r/bias": array}), "rrd/net/r/bias: got dtype .*, expected float32")


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


def test_a_checkpoint_of_another_program_is_refused(tensorflow, capfd):
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
