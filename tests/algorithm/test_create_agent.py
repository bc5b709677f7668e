"""create_agent from any object with attributes, the registry, the backend switch, and wrong batches."""

from __future__ import annotations

import argparse
import copy
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from agents import BASES, IDS, PAIRS, A, B, N, O, make_agent, make_batch, parameters

from algorithm import create_agent, register_algorithm
from algorithm.basis_alg.sac_torch import SAC
from utils.settings.algorithms import ALGORITHMS
from utils.settings.fields import FIELDS
from utils.settings.resolve import resolve

ROOT = Path(__file__).resolve().parent.parent.parent
NEEDED = {"obs_dims": (O,), "acts_dims": A, "device": "cpu"}


class Settings:
    obs_dims, acts_dims = O, (A,)

    @property
    def rrd_batch_size(self):
        return 512


def sample(batch_size: int) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in make_batch().items() if "noise" not in name}


@pytest.fixture(autouse=True)
def _own_registry():
    """Remove the algorithms that a test registers after it."""
    with mock.patch.dict(ALGORITHMS):
        yield


def args(**settings) -> argparse.Namespace:
    return argparse.Namespace(**{"alg": "sac", **NEEDED, **settings})


def assert_same(agent, expected: dict) -> None:
    """Every tensor of the agent's state is the expected one, to the bit."""
    torch.testing.assert_close(agent.state_dict(), expected, rtol=0, atol=0)


# A user's own loop ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make_args", [lambda: argparse.Namespace(obs_dims=(O,), acts_dims=(A,)),
                                       lambda: types.SimpleNamespace(obs_dims=[O], acts_dims=A), Settings],
                         ids=["Namespace", "SimpleNamespace", "class"])
@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("alg", [*BASES, "rrd", "ircr", "uniform"])
def test_the_documented_loop_runs(alg, basis, make_args):
    args, replay_buffer, batch_size = make_args(), types.SimpleNamespace(sample=sample), B
    args.use_pytorch = True
    args.alg, args.basis_alg = alg, basis
    args.cuda = torch.cuda.is_available()
    agent = create_agent(args)
    before = parameters(agent)
    batch = replay_buffer.sample(batch_size)
    agent.normalizer_update(batch)
    info = agent.train(batch)
    agent.target_update()
    assert set(info) == set(agent.train_info) - ({"Pi_loss"} if agent.pi_delay_freq > 1 else set())
    assert all(value.isfinite() for value in info.values())
    assert all(tensor.isfinite().all() for tensor in agent.state_dict().values())
    changed = {name for name, tensor in agent.state_dict().items() if not torch.equal(tensor, before[name])}
    assert any("target" in name for name in changed)


# Settings -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("blank", [{}, dict.fromkeys(FIELDS)], ids=["missing", "None"])
@pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=IDS)
def test_missing_and_none_settings_get_the_algorithms_default(alg, basis, blank):
    agent = create_agent(argparse.Namespace(**blank | NEEDED | {"alg": alg, "basis_alg": basis}))
    assert agent.config.settings() == resolve({"alg": alg, "basis_alg": basis, "device": "cpu"}).settings()


def test_a_given_setting_wins_over_the_default_wherever_it_is_found():
    assert create_agent(args(gamma="0.5", q_lr=np.float32(0.25))).config.gamma == 0.5
    settings = Settings()
    settings.alg, settings.rrd_sample_size = "rrd", 16
    config = create_agent(settings).config
    assert (config.rrd_batch_size, config.rrd_sample_size) == (512, 16)


@pytest.mark.parametrize("left_over", [{"basis_alg": "junk"}, {"rrd_batch_size": "junk"}, {"std_act": -1},
                                       {"buffer": object(), "logger": object(), "acts_num": 2}], ids=" ".join)
def test_attributes_that_are_no_settings_of_the_algorithm_are_not_read(left_over):
    assert create_agent(args(**left_over)).config == create_agent(args()).config


@pytest.mark.parametrize("of_the_run", [{"tag": 5}, {"epochs": "junk"}, {"epochs": 0}, {"env": print}, {"save_rews": 1},
                                        {"env_type": "mine"}, {"test_timesteps": 0}, {"total_timesteps": "x"}], ids=str)
def test_settings_of_the_run_that_no_agent_reads_do_not_stop_it(of_the_run):
    create_agent(args(**of_the_run))


@pytest.mark.parametrize("wrong", [{"gamma": 2}, {"pi_lr": 0}, {"seed": -1}, {"alpha_init": "x"}, {"device": "gpu"},
                                   {"obs_normalization": "maybe"}, {"alg": 3}, {"alg": ["sac"]}, {"alg": ""},
                                   {"basis_alg": 3, "alg": "rrd"}, {"basis_alg": "ircr", "alg": "rrd"},
                                   {"rrd_sample_size": 1, "alg": "rrd", "rrd_bias_correction": True},
                                   {"alg": None}, {"obs_dims": None}, {"acts_dims": None}], ids=repr)
def test_a_wrong_or_missing_setting_is_a_value_error_that_names_it(wrong):
    first, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=rf"^{first}: {'missing' if value is None else 'got'}\b.*expected"):
        create_agent(args(**wrong))


@pytest.mark.parametrize(("name", "nearest"), [("scc", "sac"), ("rdd", "rd"), ("SAC", "sac"), ("wlaker", "walker")])
def test_an_unknown_algorithm_suggests_the_nearest(name, nearest):
    register_algorithm("walker")(SAC)
    with pytest.raises(ValueError, match=f"^alg: got '{name}'; did you mean {nearest}?"):
        create_agent(args(alg=name))


@pytest.mark.parametrize("dims", [O, (O,), [O], np.int64(O), np.array([O]), (np.int32(O),), torch.Size([O])], ids=repr)
def test_a_width_may_be_a_number_or_a_sequence_of_one(dims):
    agent = create_agent(args(obs_dims=dims, acts_dims=dims))
    assert (agent.config.obs_dims, agent.config.acts_dims) == ((O,), (O,))
    assert agent.step(np.zeros(O)).shape == (O,)


@pytest.mark.parametrize("dims", [0, -1, (), [], (3, 4), (84, 84, 4), 3.7, [3.7], True, float("nan"), "wide"], ids=repr)
@pytest.mark.parametrize("name", ["obs_dims", "acts_dims"])
def test_any_other_width_is_refused(name, dims):
    with pytest.raises(ValueError, match=rf"^{name}: got .*expected the width"):
        create_agent(args(**{name: dims}))


# Batches --------------------------------------------------------------------------------------------------------

RRD_FIELDS = ["obs", "obs_next", "acts", "done", "rrd_obs", "rrd_obs_next", "rrd_acts", "rrd_rews", "rrd_var_coef"]


@pytest.fixture
def learner():
    return make_agent("rrd", "ddpg", rrd_bias_correction=True)


@pytest.mark.parametrize("spoil", [
    lambda x: x.reshape(-1), lambda x: x[None], lambda x: torch.cat([x, x], -1), lambda x: x[:0], lambda x: None,
    lambda x: x.to(torch.complex64), lambda x: x.numpy().astype(str), lambda x: x.numpy().astype(object),
], ids=["flat", "extra dimension", "too wide", "empty", "None", "complex", "text", "objects"])
@pytest.mark.parametrize(("verb", "name"), [(verb, name) for verb in ("train", "train_q") for name in RRD_FIELDS]
                         + [("train_pi", "obs"), ("normalizer_update", "obs"), ("normalizer_update", "obs_next")])
def test_a_wrong_field_is_named_and_nothing_has_changed(name, spoil, verb, learner):
    before, wrong = parameters(learner), spoil(make_batch()[name])
    is_float = isinstance(wrong, torch.Tensor) and not wrong.is_complex()
    got = f"got shape {tuple(wrong.shape)}" if is_float else "got dtype"
    with pytest.raises(ValueError, match=re.escape(f"batch['{name}']: {got}") + ".*expected"):
        getattr(learner, verb)(make_batch(**{name: wrong}))
    assert_same(learner, before)


@pytest.mark.parametrize("name", RRD_FIELDS)
def test_a_missing_field_is_named(name, learner):
    batch = make_batch()
    del batch[name]
    with pytest.raises(ValueError, match=re.escape(f"batch['{name}']: missing, expected shape (")):
        learner.train(batch)


@pytest.mark.parametrize("name", [name for name in RRD_FIELDS if name not in ("obs", "rrd_obs")])
def test_sizes_that_disagree_are_named(name, learner):
    short, size = make_batch()[name][1:], f"N = {N}" if name.startswith("rrd") else f"B = {B}"
    with pytest.raises(ValueError, match=re.escape(f"batch['{name}']: got shape {tuple(short.shape)}, ") + f".*{size}"):
        learner.train(make_batch(**{name: short}))


@pytest.mark.parametrize("batch", [None, [1], {}], ids=repr)
def test_another_object_than_a_batch_is_a_value_error(batch, learner):
    with pytest.raises(ValueError, match=r"^batch\b"):
        learner.train(batch)


@pytest.mark.parametrize(("name", "wrong", "message"), [
    ("obs", torch.zeros(B, O).long(), "got dtype int64, expected float32"),
    ("rrd_rews", torch.zeros(N, 1).long(), "got dtype int64, expected float32"),
    ("pi_noise", torch.zeros(B, A + 1), f"got shape ({B}, {A + 1}), expected (B, {A})"),
])
def test_integers_and_noise_of_the_wrong_shape_are_refused(name, wrong, message):
    with pytest.raises(ValueError, match=re.escape(f"batch['{name}']: {message}")):
        make_agent("rrd", "sac").train(make_batch(**{name: wrong}))


def test_one_step_sub_sequences_are_refused_only_with_bias_correction(learner):
    single = make_batch() | {name: make_batch()[name][:, :1] for name in ("rrd_obs", "rrd_obs_next", "rrd_acts")}
    before = parameters(learner)
    with pytest.raises(ValueError, match=r"^batch\['rrd_\w+'\]: got shape .*expected"):
        learner.train(single)
    assert_same(learner, before)
    assert make_agent("rrd", "sac").train(single)["R_loss"].isfinite()


@pytest.fixture
def _all_warnings():
    """PyTorch prints some warnings only once per process."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.usefixtures("_all_warnings")
@pytest.mark.parametrize("convert", [
    lambda x: x.numpy(), lambda x: x.double(), lambda x: x.numpy().astype(np.float64), lambda x: x.tolist(),
    lambda x: np.broadcast_to(x.numpy(), x.shape), lambda x: x.clone().requires_grad_(),
    lambda x: np.asfortranarray(x.numpy()), lambda x: x.numpy()[::-1].copy()[::-1], lambda x: x.numpy().astype(">f4"),
], ids=["NumPy", "float64", "NumPy float64", "lists", "read-only", "gradients", "Fortran", "reversed", "big-endian"])
def test_a_batch_may_hold_any_kind_of_floats(convert):
    agent, twin, batch = make_agent("rrd", "sac"), make_agent("rrd", "sac"), make_batch()
    agent.train(batch)
    twin.train({name: convert(value) for name, value in batch.items()})
    torch.testing.assert_close(twin.state_dict(), agent.state_dict())


@pytest.mark.usefixtures("_all_warnings")
@pytest.mark.parametrize("obs", [np.full(O, 0.5), np.broadcast_to(np.float32(0.5), O), np.full(O, 0.5)[::-1]],
                         ids=["float64", "read-only", "reversed"])
def test_an_observation_may_be_any_kind_of_numbers(obs):
    np.testing.assert_array_equal(make_agent("sac").step(obs), make_agent("sac").step(torch.full((O,), 0.5)))


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int64, torch.float64])
def test_done_may_be_boolean_or_integer(kind):
    agent, twin, done = make_agent("td3"), make_agent("td3"), (torch.arange(B) % 2).float()[:, None]
    agent.train(make_batch(done=done))
    twin.train(make_batch(done=done.to(kind)))
    assert_same(twin, parameters(agent))


# The backend ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("variable", "attribute"), [(None, None), ("1", None), ("yes", None), ("", None), ("0", True),
                                                     ("maybe", True), ("0", 1)])
def test_pytorch_is_the_default_and_the_attribute_wins_over_the_variable(variable, attribute, monkeypatch):
    if variable is not None:
        monkeypatch.setenv("USE_PYTORCH", variable)
    assert isinstance(create_agent(args(use_pytorch=attribute)), SAC)


@pytest.mark.parametrize(("variable", "attribute"), [
    ("0", None), ("False", None), ("no", None), ("1", False), ("1", 0), ("", "No"),
])
@pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=IDS)
@pytest.mark.sampled(18)
def test_tensorflow_is_chosen_by_the_variable_or_over_it_by_the_attribute(alg, basis, variable, attribute, monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setenv("USE_PYTORCH", variable)
    agent = create_agent(args(alg=alg, basis_alg=basis, use_pytorch=attribute))
    assert not type(agent).__module__.endswith("_torch")


@pytest.mark.parametrize(("variable", "attribute", "field"), [
    ("maybe", None, "USE_PYTORCH"), ("2", None, "USE_PYTORCH"), ("1", "maybe", "use_pytorch"), ("0", 2, "use_pytorch"),
])
def test_any_other_word_is_refused_with_those_that_are_allowed(variable, attribute, field, monkeypatch):
    monkeypatch.setenv("USE_PYTORCH", variable)
    with pytest.raises(ValueError, match=f"^{field}: got '?(maybe|2)'?, expected 1, true, yes .* or 0, false, no"):
        create_agent(args(use_pytorch=attribute))


def test_without_tensorflow_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)        # importing it fails, as if it were not installed
    with pytest.raises(ValueError, match=r"^tensorflow: is not installed; pip install .*\[tensorflow\]"):
        create_agent(args(use_pytorch=False))


def test_a_users_agent_has_no_tensorflow_reference():
    pytest.importorskip("tensorflow")
    register_algorithm("my_sac")(SAC)
    with pytest.raises(ValueError, match=r"^alg: got .my_sac., which is for PyTorch only; expected one of ddpg, td3, "):
        create_agent(args(alg="my_sac", use_pytorch=False))


def test_the_pytorch_backend_imports_neither_tensorflow_nor_pytorchs_compiler():
    """Importing torch._dynamo takes about as long as importing torch."""
    pairs = [*PAIRS, ("dqn", None), ("rrd", "dqn")]
    code = f"""if True:
        import argparse, sys
        from algorithm import create_agent
        import train, envs, learner, algorithm.replay_buffer, record.run, utils.settings.cli, algorithm.tf.convert
        for alg, basis in {pairs!r}:
            args = argparse.Namespace(alg=alg, basis_alg=basis, **{NEEDED!r})
            agent = create_agent(args)
            agent.step([0.0] * {O}, explore=True, test_info=True)
            agent.save_model("model")
            agent.load_tf_variables(agent.tf_variables(optimizer=True))
        print([name for name in sys.modules if name.partition(".")[0] in ("tensorflow", "keras")
               or name == "torch._dynamo"])"""
    environment = {name: value for name, value in os.environ.items() if name != "USE_PYTORCH"}
    done = subprocess.run([sys.executable, "-c", code], env=environment | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_importing_the_package_imports_neither_backend():
    code = "import sys, algorithm; print(algorithm.create_agent.__name__, {'torch', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "create_agent set()\n"


# The registry ---------------------------------------------------------------------------------------------------

def test_a_users_class_gets_its_own_attributes_and_the_resolved_settings():
    @register_algorithm("mine", q_lr=0.5, polyak=0.25)
    class Mine:
        def __init__(self, args):
            self.args = args
    seen = create_agent(args(alg="mine", hidden=77, polyak=0.75)).args
    assert (seen.hidden, seen.polyak, seen.q_lr, seen.gamma) == (77, 0.75, 0.5, 0.99)
    assert (seen.obs_dims, seen.acts_dims) == ((O,), (A,))
    assert not hasattr(seen, "nothing")
    assert copy.deepcopy(seen).hidden == 77


def test_one_changed_default_keeps_the_others():
    register_algorithm("fast_sac", pi_lr=0.5)(SAC)
    agent = create_agent(args(alg="fast_sac"))
    assert set(agent.train(make_batch())) == {"Pi_loss", "Q_loss"}
    assert [group["lr"] for group in agent.opts[0].param_groups] == [0.5, 3e-4, 3e-4]


@pytest.mark.parametrize("alg", ["rrd", "ircr"])
def test_a_users_agent_can_be_a_basis(alg):
    @register_algorithm("my_sac")
    class MySAC(SAC):
        def __init__(self, args):
            super().__init__(args)
            self.hidden = args.hidden
    agent = create_agent(args(alg=alg, basis_alg="my_sac", hidden=9))
    assert getattr(agent, "basis", agent).hidden == 9
    assert agent.train(make_batch()) == make_agent(alg, "sac").train(make_batch())


@pytest.mark.parametrize("name", ["rrd", "ircr"])
def test_a_decomposition_cannot_be_replaced_by_an_agent(name):
    with pytest.raises(ValueError, match=f"^name: got '{name}', expected"):
        register_algorithm(name)
