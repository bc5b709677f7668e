"""create_agent from any object with attributes, the registry, the backend switch, and wrong batches."""

from __future__ import annotations

import argparse
import copy
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from agents import BASES, IDS, PAIRS, A, B, K, N, O, make_agent, make_batch, parameters

import algorithm
from algorithm import create_agent, register_algorithm
from algorithm.basis_alg.sac_torch import SAC
from utils.config import ALGORITHMS, FIELDS, resolve

ROOT = Path(__file__).resolve().parent.parent
NEEDED = {"obs_dims": (O,), "acts_dims": A, "device": "cpu"}


class Settings:
    """Settings as attributes of a class and of an instance, and as a property."""

    acts_dims = (A,)

    def __init__(self):
        self.obs_dims = O

    @property
    def rrd_batch_size(self):
        return 512


class Replay:
    """What a loop of one's own might sample from: NumPy arrays."""

    def sample(self, batch_size):
        assert batch_size == B
        return {name: value.numpy() for name, value in make_batch().items() if "noise" not in name}


@pytest.fixture(autouse=True)
def _own_registry():
    """Algorithms registered by a test are gone after it."""
    tables = [(table, dict(table)) for table in (algorithm._REGISTRY, ALGORITHMS)]
    yield
    for table, before in tables:
        table.clear()
        table.update(before)


def args(**settings) -> argparse.Namespace:
    return argparse.Namespace(**{"alg": "sac", **NEEDED, **settings})


def assert_same(agent, expected: dict) -> None:
    """Every tensor of the agent's state is the expected one, to the bit."""
    torch.testing.assert_close(agent.state_dict(), expected, rtol=0, atol=0)


# A loop of one's own --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make_args", [lambda: argparse.Namespace(obs_dims=(O,), acts_dims=(A,)),
                                       lambda: types.SimpleNamespace(obs_dims=[O], acts_dims=A), Settings],
                         ids=["Namespace", "SimpleNamespace", "class"])
@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("alg", [*BASES, "rrd", "ircr"])
def test_the_documented_loop_runs_as_it_stands(alg, basis, make_args):
    args, replay_buffer, batch_size = make_args(), Replay(), B
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
    assert any("normalizer" in name for name in changed) == (agent.normalizer is not None)


# Settings -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("blank", [{}, dict.fromkeys(FIELDS)], ids=["missing", "None"])
@pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=IDS)
def test_what_is_missing_or_none_gets_the_algorithms_default(alg, basis, blank):
    agent = create_agent(argparse.Namespace(**blank | NEEDED | {"alg": alg, "basis_alg": basis}))
    assert agent.config.settings() == resolve({"alg": alg, "basis_alg": basis, "device": "cpu"}).settings()


def test_a_given_setting_wins_over_the_default_wherever_it_is_found():
    assert create_agent(args(gamma="0.5", q_lr=np.float32(0.25))).config.gamma == 0.5
    settings = Settings()
    settings.alg, settings.rrd_sample_size = "rrd", 16
    config = create_agent(settings).config
    assert (config.rrd_batch_size, config.rrd_sample_size) == (512, 16)


@pytest.mark.parametrize("left_over", [{"basis_alg": "junk"}, {"rrd_batch_size": "junk"}, {"std_act": -1},
                                       {"buffer": object(), "logger": object(), "acts_num": 2}], ids=str)
def test_attributes_that_are_no_settings_of_the_algorithm_are_not_read(left_over):
    assert create_agent(args(**left_over)).config == create_agent(args()).config


@pytest.mark.parametrize("of_the_run", [{"tag": 5}, {"epochs": "junk"}, {"epochs": 0}, {"env": print}, {"save_rews": 1},
                                        {"env_type": "mine"}, {"test_timesteps": 0}, {"total_timesteps": "x"}], ids=str)
def test_settings_of_the_run_that_no_agent_reads_do_not_stop_it(of_the_run):
    create_agent(args(**of_the_run))


@pytest.mark.parametrize("wrong", [{"gamma": 2}, {"pi_lr": 0}, {"seed": -1}, {"alpha_init": "x"}, {"device": "gpu"},
                                   {"obs_normalization": "maybe"}, {"alg": 3}, {"alg": ["sac"]}, {"alg": ""},
                                   {"alg": "rrd", "basis_alg": 3}, {"alg": "rrd", "basis_alg": "ircr"},
                                   {"alg": "rrd", "rrd_sample_size": 1, "rrd_bias_correction": True}], ids=repr)
def test_a_wrong_setting_is_a_value_error_that_names_it(wrong):
    names = [name for name in wrong if name != "alg"] or ["alg"]
    with pytest.raises(ValueError, match=rf"^{names[0]}: got .*wants"):
        create_agent(args(**wrong))


@pytest.mark.parametrize(("name", "nearest"), [("scc", "sac"), ("rdd", "rrd"), ("tdd3", "td3"), ("SAC", "sac")])
def test_an_unknown_algorithm_suggests_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"^alg: got '{name}'; did you mean {nearest}?"):
        create_agent(args(alg=name))


@pytest.mark.parametrize("name", ["alg", "obs_dims", "acts_dims"])
def test_what_has_no_default_is_asked_for(name):
    with pytest.raises(ValueError, match=f"^{name}: missing, wants"):
        create_agent(args(**{name: None}))


@pytest.mark.parametrize("dims", [O, (O,), [O], np.int64(O), np.array([O]), (np.int32(O),), torch.Size([O])], ids=repr)
def test_a_width_may_be_a_number_or_a_sequence_of_one(dims):
    agent = create_agent(args(obs_dims=dims, acts_dims=dims))
    assert (agent.config.obs_dims, agent.config.acts_dims) == ((O,), (O,))
    assert agent.step(np.zeros(O)).shape == (O,)


@pytest.mark.parametrize("dims", [0, -1, (), [], (3, 4), (84, 84, 4), 3.7, [3.7], True, float("nan"), "wide"], ids=repr)
@pytest.mark.parametrize("name", ["obs_dims", "acts_dims"])
def test_any_other_width_is_refused(name, dims):
    with pytest.raises(ValueError, match=rf"^{name}: got .*wants the width"):
        create_agent(args(**{name: dims}))


# Batches --------------------------------------------------------------------------------------------------------

RRD_FIELDS = {"obs": (B, O), "obs_next": (B, O), "acts": (B, A), "done": (B, 1), "rrd_obs": (N, K, O),
              "rrd_obs_next": (N, K, O), "rrd_acts": (N, K, A), "rrd_rews": (N, 1), "rrd_var_coef": (N, 1)}


@pytest.mark.parametrize("verb", ["train", "train_q"])
@pytest.mark.parametrize("spoil", [
    lambda x: x.reshape(-1), lambda x: x[None], lambda x: torch.cat([x, x], -1), lambda x: x[:0], lambda x: None,
    lambda x: x.to(torch.complex64), lambda x: x.numpy().astype(str), lambda x: x.numpy().astype(object),
], ids=["flat", "extra dimension", "too wide", "empty", "None", "complex", "text", "objects"])
@pytest.mark.parametrize("name", RRD_FIELDS)
def test_a_wrong_field_is_named_and_nothing_has_changed(name, spoil, verb):
    agent, batch = make_agent("rrd", "sac", rrd_bias_correction=True), make_batch()
    before, wrong = parameters(agent), spoil(batch[name])
    with pytest.raises(ValueError, match=re.escape(f"batch['{name}']: got ") + ".*wants") as error:
        getattr(agent, verb)(batch | {name: wrong})
    got = str(tuple(wrong.shape)) if isinstance(wrong, torch.Tensor) and not wrong.is_complex() else "dtype"
    assert got in str(error.value)
    assert_same(agent, before)


@pytest.mark.parametrize("name", RRD_FIELDS)
def test_a_missing_field_is_named(name):
    batch = make_batch()
    del batch[name]
    with pytest.raises(ValueError, match=re.escape(f"batch['{name}']: missing, wants shape (")):
        make_agent("rrd", "sac", rrd_bias_correction=True).train(batch)


@pytest.mark.parametrize("name", [name for name in RRD_FIELDS if name not in ("obs", "rrd_obs")])
def test_sizes_that_disagree_are_named(name):
    short, size = make_batch()[name][1:], f"N = {N}" if name.startswith("rrd") else f"B = {B}"
    with pytest.raises(ValueError, match=re.escape(f"batch['{name}']: got shape {tuple(short.shape)}, ") + f".*{size}"):
        make_agent("rrd", "sac", rrd_bias_correction=True).train(make_batch(**{name: short}))


@pytest.mark.parametrize("batch", [None, [1], 3, {}], ids=repr)
def test_what_is_no_batch_at_all_is_a_value_error(batch):
    with pytest.raises(ValueError, match="^batch"):
        make_agent("sac").train(batch)


@pytest.mark.parametrize(("name", "wrong", "message"), [
    ("obs", torch.zeros(B, O, dtype=torch.int64), "got dtype int64, wants float32"),
    ("rrd_rews", torch.zeros(N, 1, dtype=torch.int64), "got dtype int64, wants float32"),
    ("pi_noise", torch.zeros(B, A + 1), f"got shape ({B}, {A + 1}), wants (B, {A})"),
])
def test_integers_and_noise_of_the_wrong_shape_are_refused(name, wrong, message):
    with pytest.raises(ValueError, match=re.escape(f"batch['{name}']: {message}")):
        make_agent("rrd", "sac").train(make_batch(**{name: wrong}))


def test_one_step_sub_sequences_are_refused_with_bias_correction_and_only_then():
    single = {name: make_batch()[name][:, :1] for name in ("rrd_obs", "rrd_obs_next", "rrd_acts")}
    agent = make_agent("rrd", "sac", rrd_bias_correction=True)
    before = parameters(agent)
    with pytest.raises(ValueError, match=r"^batch\['rrd_\w+'\]: got shape .* wants .*"):
        agent.train(make_batch() | single)
    assert_same(agent, before)
    assert make_agent("rrd", "sac").train(make_batch() | single)["R_loss"].isfinite()


def test_a_wrong_batch_leaves_the_normalizer_as_it_was():
    agent, batch = make_agent("ddpg"), make_batch()
    before = parameters(agent)
    with pytest.raises(ValueError, match=re.escape(f"batch['obs_next']: got shape ({B}, {O + 1})")):
        agent.normalizer_update(batch | {"obs_next": torch.zeros(B, O + 1)})
    assert_same(agent, before)


def read_only(x: torch.Tensor) -> np.ndarray:
    array = x.numpy().copy()
    array.setflags(write=False)
    return array


@pytest.fixture
def _every_warning():
    """PyTorch gives some warnings only once a process."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.usefixtures("_every_warning")
@pytest.mark.parametrize("convert", [
    lambda x: x.numpy(), lambda x: x.double(), lambda x: x.numpy().astype(np.float64), read_only, lambda x: x.tolist(),
    lambda x: x.clone().requires_grad_(), lambda x: np.ascontiguousarray(x.numpy()[::-1])[::-1],
    lambda x: np.asfortranarray(x.numpy()), lambda x: x.numpy().astype(">f4"),
], ids=["NumPy", "float64", "NumPy float64", "read-only", "lists", "gradients", "reversed", "Fortran", "big-endian"])
def test_a_batch_may_hold_any_kind_of_numbers(convert):
    agent, twin, batch = make_agent("rrd", "sac"), make_agent("rrd", "sac"), make_batch()
    agent.train(batch)
    twin.train({name: convert(value) for name, value in batch.items()})
    assert_same(twin, parameters(agent))


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


@pytest.mark.parametrize(("variable", "attribute"), [("0", None), ("False", None), ("1", False), ("1", 0)])
def test_tensorflow_says_that_it_is_not_there_yet(variable, attribute, monkeypatch):
    monkeypatch.setenv("USE_PYTORCH", variable)
    with pytest.raises(ValueError, match=r"^(USE_PYTORCH|use_pytorch): .*TensorFlow backend .* is not there yet"):
        create_agent(args(use_pytorch=attribute))


@pytest.mark.parametrize(("variable", "attribute"), [("maybe", None), ("1", "maybe")])
def test_any_other_switch_is_refused(variable, attribute, monkeypatch):
    monkeypatch.setenv("USE_PYTORCH", variable)
    with pytest.raises(ValueError, match=r"^(USE_PYTORCH|use_pytorch): got 'maybe', wants"):
        create_agent(args(use_pytorch=attribute))


def test_importing_the_package_imports_neither_backend():
    code = "import sys, algorithm; print(algorithm.create_agent.__name__, {'torch', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "create_agent set()\n"


# The registry ---------------------------------------------------------------------------------------------------

def test_a_class_of_ones_own_sees_its_own_attributes_and_the_filled_in_settings():
    @register_algorithm("mine")
    class Mine:
        def __init__(self, args):
            self.args = args
    seen = create_agent(args(alg="mine", hidden=77, gamma=0.5)).args
    assert (seen.hidden, seen.gamma, seen.pi_lr, seen.obs_dims, seen.acts_dims) == (77, 0.5, 3e-4, (O,), (A,))
    assert not hasattr(seen, "nothing")
    assert copy.deepcopy(seen).hidden == 77


def test_its_own_defaults_yield_to_what_is_given():
    register_algorithm("mine", q_lr=0.5, polyak=0.25)(lambda settings: settings)
    seen = create_agent(args(alg="mine", polyak=0.75))
    assert (seen.q_lr, seen.polyak) == (0.5, 0.75)


@pytest.mark.parametrize("alg", ["rrd", "ircr"])
def test_an_agent_of_ones_own_can_be_a_basis(alg):
    @register_algorithm("my_sac")
    class MySAC(SAC):
        def __init__(self, args):
            super().__init__(args)
            self.hidden = args.hidden
    agent = create_agent(args(alg=alg, basis_alg="my_sac", hidden=9))
    assert getattr(agent, "basis", agent).hidden == 9
    assert agent.train(make_batch()) == make_agent(alg, "sac").train(make_batch())


def test_it_is_suggested_and_it_replaces_its_predecessor():
    register_algorithm("walker")(lambda settings: 1)
    register_algorithm("walker")(lambda settings: 2)
    assert create_agent(args(alg="walker")) == 2
    with pytest.raises(ValueError, match="did you mean walker"):
        create_agent(args(alg="wakler"))


@pytest.mark.parametrize("name", ["rrd", "ircr"])
def test_a_decomposition_cannot_be_replaced_by_an_agent(name):
    with pytest.raises(ValueError, match=f"^name: got '{name}', wants"):
        register_algorithm(name)
