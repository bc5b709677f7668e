"""algorithm.tf.convert: the numbers of steps, which TensorFlow 1 keeps as powers of Adam's betas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import Case
from tf_checkpoints import (
    ORIGINAL,
    altered,
    everything,
    loaded,
    refuse,
)

from algorithm import tf_names
from algorithm.tf.convert import to_pytorch
from algorithm.tf.files import read_checkpoint
from utils.checkpoint import CheckpointError

BETAS = [(0.9, 828), (0.999, 87_293)]           # and of how many steps the power is no longer a normal float32


@pytest.mark.parametrize(("beta", "end"), BETAS)
def test_a_power_above_zero_determines_the_step_count(beta, end):
    counts = {*range(min(2001, end)), *range(0, end, 101), *range(end - 100, end)}
    assert [count for count in counts if tf_names.count_of(beta, float(tf_names.power(beta, count))) != count] == []


@pytest.mark.parametrize(("beta", "end"), BETAS)
def test_a_power_of_zero_gives_the_first_such_step_count(beta, end):
    assert tf_names.power(beta, end - 1) >= np.finfo(np.float32).tiny
    for value in [float(tf_names.power(beta, count)) for count in (end, end + 1, 3_000_000)] + [1e-45, 1e-40]:
        assert value < np.finfo(np.float32).tiny
        assert tf_names.count_of(beta, value) == end


def test_powers_equal_tensorflows_products(tensorflow):
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
def test_values_near_a_power_have_its_count_and_others_none(beta, count, share, sign):
    power = float(tf_names.power(beta, count))
    assert tf_names.count_of(beta, power * (1 + 9e-5 * share * sign)) == count
    with pytest.raises(ValueError, match=f"expected a power of {beta}"):
        tf_names.count_of(beta, power * (1 + (2e-4 + 2e-4 * share) * sign))


@pytest.mark.parametrize("beta", [0.9, 0.999])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e-45, -0.9, 1.0, 1.5, 3.4e38, 1e300])
def test_values_outside_of_0_and_1_are_no_power(beta, value):
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
def test_both_backends_read_the_same_number_of_updates(original, count):
    powers = {name: tf_names.power(0.9 if "beta1" in name else 0.999, count) for name in original if "power" in name}
    path = altered(original, **powers)
    assert loaded(path, "tensorflow").updates == to_pytorch(read_checkpoint(path), "rrd", "sac").updates == count


def test_training_continues_unchanged_after_more_steps_than_a_power_can_encode(model):
    batch = Case("rrd_sac").batch(0)
    agents = [loaded(model), loaded(model)]
    for agent, count in zip(agents, (87_293, 3_000_000), strict=True):
        for _, group in agent.groups():
            tf_names._set_count(agent, group, count)
        agent.train(batch)
    theirs = agents[1].tf_variables()
    assert all(np.array_equal(value, theirs[name]) for name, value in agents[0].tf_variables().items())


@pytest.mark.parametrize("name", ["beta1_power", "beta2_power_2"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.53, 1.0, 1.5, 3.4e38, 0.53])
def test_a_power_of_no_step_count_is_refused(original, capfd, name, value):
    refuse(capfd, altered(original, **{name: np.float32(value)}), rf"'{name}'\]: got .*, expected a power of 0.9")


def test_the_reference_refuses_a_power_of_no_step_count_and_does_not_change(original):
    agent, path = loaded(ORIGINAL, "tensorflow"), altered(original, beta2_power_2=np.float32(np.nan))
    agent.load_tf_variables({"main/alpha/log_alpha": np.float32(9)})
    with pytest.raises(CheckpointError, match=r"altered\.ckpt: .*beta2_power_2.* got nan, expected a power of 0\.999"):
        agent.load_model(path)
    assert (everything(agent)["main/alpha/log_alpha"], agent.updates) == (9, 5)


@pytest.mark.parametrize(("beta1", "beta2"), [(0, 5), (5, 828), (5, 90_000), (6, 5), (828, 827), (828, 5)])
def test_powers_of_different_step_counts_are_refused(original, capfd, beta1, beta2):
    path = altered(original, beta1_power_1=tf_names.power(0.9, beta1), beta2_power_1=tf_names.power(0.999, beta2))
    refuse(capfd, path, r"beta1_power_1'\]: got \d+ steps, expected the \d+ of beta2_power_1$")
