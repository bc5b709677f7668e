"""Settings: types, ranges, defaults by algorithm, precedence, and one-line errors that begin with a name."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settings_cases import FUZZ, NAMES, SCALARS, WORDS, check_line, complaint

from utils.errors import ConfigError
from utils.settings.algorithms import ALGORITHMS
from utils.settings.cli import parse_args
from utils.settings.fields import FIELDS, Config
from utils.settings.json_files import read_json
from utils.settings.resolve import coerce, resolve

BASES = ["sac", "td3", "ddpg"]
CHOICES = [{"alg": basis} for basis in BASES] + [{"alg": alg, "basis_alg": b} for alg in ("rrd", "ircr", "uniform")
                                              for b in BASES]

# The table of the original, specs/rrd.md; `seed` and `device` are the port's own.
COMMON = dict(engine="auto", kernels="auto", precision="fp32", buffer_device="auto", num_envs=1, diagnose_every=0,
              checkpoint_every=1, track=False, on_existing="new", best="Rewards", curriculum="default", on_nan="stop",
              reward_every=0, load_model="", run_dir="",
              worker_restarts=3, worker_timeout=60.0,    # of which the original has no word
              tag="", seed=0, device="auto", env="Ant-v2", env_type="ep_rews", epochs=3, cycles=100, iterations=100,
              timesteps=100, test_rollouts=10, test_timesteps=1000, save_rews=True, buffer_size=1_000_000,
              batch_size=256, warmup=10_000, gamma=0.99, train_batches=100)
BASIS = {
    "sac": dict(train_target=1, pi_lr=3e-4, q_lr=3e-4, polyak=0.995, obs_normalization=False, alpha_lr=3e-4,
                alpha_init=1.0),
    "td3": dict(train_target=2, pi_lr=3e-4, q_lr=3e-4, polyak=0.995, obs_normalization=False, std_act=0.1, pi_t_std=0.2,
                pi_t_clip=0.5, pi_delay_freq=2),
    "ddpg": dict(train_target=2, pi_lr=1e-4, q_lr=1e-3, polyak=0.999, obs_normalization=True, std_act=0.1, q_reg=1e-2),
}
ON_TOP = {
    "rrd": dict(r_lr=3e-4, rrd_batch_size=256, rrd_sample_size=64, rrd_bias_correction=False, return_scale=1.0),
    "ircr": dict(buffer_size=300_000, polyak=0.999, batch_size=512),
}


def label(choice: dict) -> str:
    return "-".join(choice.values())


def typed(values: dict) -> dict:
    """1, 1.0 and True are equal, but not the same setting."""
    return {name: (type(value), value) for name, value in values.items()}


@pytest.fixture
def load(tmp_path):
    """Command line and the text of a JSON file -> the settings."""
    def load(content, *flags: str) -> Config:
        path = tmp_path / "settings.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return parse_args([f"--config={path}", *flags])
    return load


# Defaults -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("choice", CHOICES, ids=label)
def test_defaults_are_the_originals(choice):
    alg, basis = choice["alg"], choice.get("basis_alg", choice["alg"])
    assert typed(resolve(choice).settings()) == typed(COMMON | BASIS[basis] | ON_TOP.get(alg, {}) | choice)


def test_without_a_choice_it_is_rrd_over_sac_for_three_million_steps():
    assert resolve({}) == resolve({"alg": "rrd", "basis_alg": "sac"})
    assert parse_args([]).run_length == 3_000_000
    assert parse_args(["--epochs=2", "--cycles=3", "--iterations=5", "--timesteps=7"]).run_length == 210


@pytest.mark.parametrize("env", ["Humanoid-v2", "Humanoid-v4", "Humanoid-v5"])
def test_ircr_over_sac_on_humanoid_fixes_the_temperature_unless_it_is_given(env):
    config = resolve({"alg": "ircr", "env": env})
    assert (config.alpha_lr, config.alpha_init) == (0.0, 0.1)
    assert resolve({"alg": "ircr", "env": env, "alpha_lr": 1e-3}).alpha_lr == 1e-3


@pytest.mark.parametrize("choice", [{"alg": "ircr", "env": "HumanoidStandup-v2"}, {"alg": "rrd", "env": "Humanoid-v2"},
                                    {"alg": "sac", "env": "Humanoid-v2"}], ids=label)
def test_others_learn_the_temperature_even_after_humanoid(choice):
    resolve({"alg": "ircr", "env": "Humanoid-v2"})
    assert (resolve(choice).alpha_lr, resolve(choice).alpha_init) == (3e-4, 1.0)


@pytest.mark.parametrize("basis", ["td3", "ddpg"])
def test_ircr_on_humanoid_gives_no_temperature_to_a_basis_without_one(basis):
    config = resolve({"alg": "ircr", "basis_alg": basis, "env": "Humanoid-v2"})
    assert config.alpha_lr is None
    assert config.alpha_init is None


# Round trip -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("env", ["Ant-v2", "Humanoid-v2"])
@pytest.mark.parametrize("choice", CHOICES, ids=label)
def test_a_stored_configuration_resolves_to_itself(choice, env):
    config = resolve(choice | {"env": env, "seed": 7, "gamma": 0.5, "total_timesteps": 123})
    assert resolve(config.settings()) == config
    assert resolve(json.loads(json.dumps(config.settings()))) == config


def test_resolving_changes_neither_its_argument_nor_the_tables():
    choice, tables = {"alg": "ircr", "env": "Humanoid-v2", "epochs": "5"}, repr(ALGORITHMS)
    resolve(choice)
    assert choice == {"alg": "ircr", "env": "Humanoid-v2", "epochs": "5"}
    assert repr(ALGORITHMS) == tables


# Types and ranges -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "text", "value"), [
    ("epochs", "5", 5), ("total_timesteps", "1e6", 1_000_000), ("epochs", 5.0, 5), ("warmup", 0, 0),
    ("gamma", "1", 1.0), ("gamma", 0, 0.0), ("pi_lr", "3e-4", 3e-4), ("save_rews", "False", False),
    ("save_rews", "yes", True), ("tag", "", ""), ("tag", "日本 / [x]", "日本 / [x]"), ("device", "cuda:1", "cuda:1"),
    ("env_type", "normal", "normal"), ("seed", 2**53 + 1, 2**53 + 1), ("seed", str(2**53 + 1), 2**53 + 1),
    ("seed", 2**63 - 1, 2**63 - 1), ("noop", "1000", 1000),
])
def test_a_value_takes_the_type_of_its_setting_exactly(name, text, value):
    got = coerce(name, text)
    assert (type(got), got) == (type(value), value)


@pytest.mark.parametrize(("name", "value"), [
    ("epochs", 0), ("epochs", "5.5"), ("epochs", True), ("epochs", ""), ("epochs", "nan"), ("epochs", math.inf),
    ("epochs", "1e400"), ("epochs", "9" * 5000), ("epochs", [5]), ("seed", -1), ("seed", 2**63), ("warmup", -1),
    ("gamma", 1.5), ("gamma", -0.1), ("gamma", math.nan), ("gamma", True), ("gamma", "0.5x"), ("gamma", 10**400),
    ("polyak", 2), ("pi_lr", 0), ("q_lr", -1e-3), ("r_lr", {}), ("alpha_init", 0), ("alpha_lr", -1),
    ("pi_lr", math.inf), ("std_act", "inf"), ("pi_delay_freq", 0), ("rrd_sample_size", 0), ("test_rollouts", -1),
    ("test_timesteps", 0), ("buffer_size", 0), ("save_rews", "maybe"), ("save_rews", 2), ("save_rews", None),
    ("noop", -1), ("noop", 1001), ("noop", 2**63 - 1), ("tag", 5), ("tag", ["a"]), ("alg", {"a": 1}),
    ("env_type", "norml"), ("device", "mps:x"), ("device", "cuda:-1"), ("device", "cpu\n"), ("device", "cuda:\u0663"),
])
def test_a_wrong_value_is_named_with_the_expected_one(name, value):
    message = complaint(coerce, name, value)
    assert message.startswith(f"{name}: got ")
    assert "expected" in message


# Precedence -----------------------------------------------------------------------------------------------------

def test_defaults_yield_to_the_file_and_the_file_to_flags(load):
    config = load('{"gamma": 0.5, "batch_size": 32, "alg": "sac"}', "--batch_size=64", "--alg=td3")
    assert (config.gamma, config.batch_size, config.alg, config.timesteps) == (0.5, 64, "td3", 100)


def test_null_in_the_file_means_the_default(load):
    assert load('{"epochs": null, "basis_alg": null}') == parse_args([])


def test_the_last_of_two_equal_flags_wins():
    assert parse_args(["--seed=1", "--seed=2"]).seed == 2


# JSON files -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("content", "begins", "holds"), [
    ('{"epochs": 3, "seed": 1, "epochs": 4}', "epochs:", "2 values"),
    ('{"epochs": 3, "epochs": null}', "epochs:", "2 values"),
    ('{"gamma": NaN}', "gamma:", "finite"),
    ('{"gamma": -Infinity}', "gamma:", "finite"),
    ('{"epochs": Infinity}', "epochs:", "an integer"),
    (f'{{"epochs": {"9" * 5000}}}', "config:", "not JSON"),
    (f'{{"gamma": {"9" * 400}}}', "gamma:", "finite"),
    ('{"epochs": {"a": 1}}', "epochs:", "an integer"),
    ('{"alg": ["sac"]}', "alg:", "a string"),
    ("[]", "config:", "expected an object"),
    ("null", "config:", "expected an object"),
    ("3", "config:", "expected an object"),
    ("", "config:", "not JSON"),
    ('{"epochs": 3,}', "config:", "not JSON"),
    ('{"epochs": 3} {}', "config:", "not JSON"),
    ('{"a":' * 100_000, "config:", "not JSON"),
    (b"\x00\xff\xfe\x80binary", "config:", "not JSON"),
    (b'{"tag": "\xff"}', "config:", "not JSON"),
])
def test_a_wrong_file_is_an_error(load, content, begins, holds):
    message = complaint(load, content)
    assert message.startswith(begins)
    assert holds in message


@pytest.mark.parametrize("value", [3, None])
@pytest.mark.parametrize(("key", "holds"), [
    ("epoch", "did you mean epochs?"), ("total-timesteps", "did you mean total_timesteps?"), ("obs_dims", "unknown"),
    ("", "unknown"), ("a\nb", "unknown"), ("a\u2028b", "unknown"), ("\x85", "unknown"),
])
def test_an_unknown_key_is_named_in_one_line_with_the_nearest(load, key, holds, value):
    with pytest.raises(ConfigError, match=re.escape(holds)) as error:
        load(json.dumps({key: value}))
    check_line(str(error.value), [key])


@pytest.mark.parametrize("path", ["missing.json", ".", "", "a/b\0c"])
def test_a_file_that_cannot_be_read_is_an_error(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    assert complaint(read_json, path).startswith("config: cannot read")


def test_the_file_is_checked_even_where_a_flag_wins(load):
    assert complaint(load, '{"epochs": -5}', "--epochs=4").startswith("epochs: got -5")


# Settings of other algorithms ----------------------------------------------------------------------------------

@pytest.mark.parametrize(("flags", "begins"), [
    (["--alg=sac", "--std_act=0.1"], "std_act: not a setting of sac; it belongs to ddpg, td3"),
    (["--std_act=0.1"], "std_act: not a setting of rrd over sac"),
    (["--alg=sac", "--basis_alg=td3"], "basis_alg: not a setting of sac; it belongs to rrd, ircr, uniform"),
    (["--alg=ircr", "--rrd_bias_correction"], "rrd_bias_correction: not a setting of ircr over sac; it belongs to rrd"),
    (["--basis_alg=ddpg", "--alpha_lr=0"], "alpha_lr: not a setting of rrd over ddpg; it belongs to sac"),
    (["--rrd_bias_correction", "--rrd_sample_size=1"], "rrd_sample_size: got 1"),
    (["--rrd_sample_size=512", "--rrd_batch_size=256"], "rrd_batch_size: got 256"),
    (["--epochs=2", "--total_timesteps=100"], "epochs: not read with --total_timesteps"),
    (["--rrd_batch_size=63"], "rrd_batch_size: got 63"),
    (["--alg=ircr", "--batch_size=1"], "batch_size: got 1"),
    (["--test_timesteps=1000001"], "buffer_size: got 1000000"),
    (["--alg=scc"], "alg: got 'scc'; did you mean sac?"),
    (["--basis_alg=sacc"], "basis_alg: got 'sacc'; did you mean sac?"),
    (["--basis_alg=rrd"], "basis_alg: got 'rrd'"),
    (["--sticky"], "sticky: not a setting of rrd over sac; it belongs to the Atari games"),
    (["--env=Pong", "--rews_scale=1"], "rews_scale: not a setting of rrd over dqn; it belongs to the Atari games with"),
    (["--alg=dqn", "--RMSProp_eps=1"], "RMSProp_eps: not a setting of dqn; it belongs to dqn with --optimizer=rmsprop"),
])
def test_settings_that_contradict_each_other_are_refused(flags, begins):
    assert complaint(parse_args, flags).startswith(begins)


def test_an_error_about_a_setting_in_the_file_names_the_file(load):
    message = complaint(load, '{"alg": "rrd", "r_lr": 0.1}', "--alg=sac")
    assert message.startswith("r_lr: not a setting of sac; it belongs to rrd, rd, vib_rd, lrr, ")
    assert re.search(r"grd \(set in ", message)


def test_epochs_on_the_command_line_win_over_the_files_total(load):
    assert load('{"total_timesteps": 70, "iterations": 1}', "--epochs=2").run_length == 2 * 100 * 1 * 100
    assert load('{"total_timesteps": 70, "iterations": 1}', "--iterations=2").run_length == 70


def test_a_longer_sub_sequence_than_the_default_batch_makes_the_batch_one_sub_sequence():
    assert parse_args(["--rrd_sample_size=512"]).rrd_batch_size == 512


@pytest.mark.parametrize("flags", [["--rrd_sample_size=1"], ["--rrd_sample_size=2", "--rrd_bias_correction"],
                                   ["--rrd_batch_size=64"], ["--alg=ircr", "--batch_size=2"],
                                   ["--alg=ircr", "--env=Pong", "--batch_size=1"], ["--test_timesteps=1000000"]])
def test_the_nearest_valid_settings_are_accepted(flags):
    parse_args(flags)


# Random input --------------------------------------------------------------------------------------------------


NESTED = st.lists(SCALARS, max_size=2) | st.dictionaries(NAMES, SCALARS, max_size=2)
TOKENS = st.text(max_size=12) | st.builds("--{}={}".format, NAMES | st.just("config"), st.text(max_size=12) | WORDS) \
    | st.sampled_from([f"--{name}" for name in [*FIELDS, "config"]])


@FUZZ
@given(st.dictionaries(NAMES, SCALARS | NESTED, max_size=4))
def test_any_json_object_gives_settings_or_one_line(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    try:
        config = resolve(read_json(path))
    except ConfigError as error:
        check_line(str(error), list(values))
    else:
        assert resolve(config.settings()) == config


@FUZZ
@given(st.lists(TOKENS, max_size=4))
def test_any_command_line_gives_settings_or_one_line(argv):
    try:
        config = parse_args(argv)
    except ConfigError as error:
        check_line(str(error), [*argv, *(token.split("=")[0] for token in argv)])
    except SystemExit:
        assert any(token.startswith(("-h", "--help")) for token in argv)
    else:
        assert resolve(config.settings()) == config
