"""Settings of a registered algorithm: flags, keys of files, schema entries and part of a run's identity."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import jsonschema
import pytest
from runs import SMALL, Finished, run

import evaluate
import train
from algorithm import Setting, create_agent, register_algorithm, register_decomposition
from algorithm.basis_alg.sac_torch import SAC
from sweeps.schema import suite_schema
from sweeps.suite import read_suite
from utils.errors import ConfigError
from utils.settings.algorithms import ALGORITHMS, names
from utils.settings.cli import _parser, parse_args
from utils.settings.completion import script
from utils.settings.fields import FIELDS, Config, all_settings
from utils.settings.json_files import section_of
from utils.settings.resolve import resolve
from utils.settings.schema import schema

pytestmark = pytest.mark.usefixtures("forget")
ROOT = Path(__file__).resolve().parent.parent.parent.parent
DECAY = Setting("temperature_decay", float, 0.99, low=0, high=1, help="factor of the temperature's loss")
MODULE = '''
from algorithm import Setting, register_algorithm
from algorithm.basis_alg.sac_torch import SAC


@register_algorithm("decaying", like="sac", settings=[
    Setting("temperature_decay", float, 0.99, low=0, high=1, help="factor of the critics' loss")])
class Decaying(SAC):
    def q_loss(self, batch):
        loss, info = super().q_loss(batch)
        return self.config.temperature_decay * loss, info
'''
IMPORT = ["--import=decaying", "--alg=decaying"]
PENDULUM = ["--env=Pendulum-v1", *SMALL]


@pytest.fixture
def module():
    """The file decaying.py in the current directory."""
    Path("decaying.py").write_text(MODULE)


def register(*settings, name: str = "mine", **more):
    return register_algorithm(name, settings=settings, **more)(SAC)


def program(*argv: str) -> subprocess.CompletedProcess:
    """A command of the repository in a process of its own, from a directory that is not on Python's path."""
    path = os.pathsep.join([str(ROOT), os.getcwd()])
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": path if argv[0] == "-m" else ""})


# Flags, in processes of their own -----------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.usefixtures("module")
def test_a_run_takes_it_as_a_flag_resumes_with_it_and_is_evaluated():
    done = program(str(ROOT / "train.py"), *IMPORT, *PENDULUM, "--temperature-decay=0.5", "--total_timesteps=80")
    assert (done.returncode, done.stderr) == (0, "")
    (directory,) = Path("outputs").glob("decaying-*")
    assert Finished(directory).config["temperature_decay"] == 0.5
    resume = [str(ROOT / "train.py"), f"--resume={directory}"]
    done = program(*resume, IMPORT[0], "--total_timesteps=120")
    assert (done.returncode, done.stderr) == (0, "")
    assert Finished(directory).rows[-1]["Timesteps"] == "120"
    done = program(*resume)
    assert done.returncode == 2
    known = ", ".join(name for name in names() if ALGORITHMS[name].built_in)
    assert done.stderr == (f"train.py: alg: got 'decaying', expected one of {known}, or one of your own with "
                           "--import=MODULE\n")
    done = program(str(ROOT / "evaluate.py"), str(directory), IMPORT[0], "--episodes=1")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("module")
def test_help_shows_it_once_its_module_is_imported():
    done = program(str(ROOT / "train.py"), "--help")
    assert "temperature_decay" not in done.stdout
    done = program(str(ROOT / "train.py"), IMPORT[0], "--help")
    assert re.search("--temperature_decay( X)?, --temperature-decay X", done.stdout)         # Python 3.13 says X once
    assert "factor of the critics' loss (default: decaying 0.99)" in " ".join(done.stdout.split())
    assert "alpha_init=1.0, temperature_decay=0.99" in " ".join(done.stdout.split())


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(("name", "file"), [("utils.settings.schema", "settings"), ("sweeps.schema", "suite")])
def test_a_schema_has_it_once_its_module_is_imported(name, file):
    done = program("-m", name, IMPORT[0])
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["$defs"]["temperature_decay"]
    assert found == {"description": "factor of the critics' loss (default: decaying 0.99)", "type": ["number", "null"],
                     "minimum": 0, "maximum": 1}
    assert "temperature_decay" not in program("-m", name).stdout
    done = program("-m", name, "--import=nowhere")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


@pytest.mark.usefixtures("module")
@pytest.mark.slow
def test_a_suite_sets_it():
    Path("suite.json").write_text(json.dumps(
        {"env": ["Pendulum-v1"], "common": dict(flag.lstrip("-").split("=") for flag in SMALL),
         "runs": {"half": {"alg": "decaying", "temperature_decay": 0.5},
                  "in a section": {"alg": "decaying", "algorithm": {"temperature_decay": 0.25}}}}))
    done = program(str(ROOT / "sweep.py"), "suite.json", IMPORT[0], "--seeds=0")
    assert (done.returncode, done.stderr) == (0, "")
    runs = [Finished(path).config for path in Path("outputs").glob("*decaying*")]
    assert sorted(config["temperature_decay"] for config in runs) == [0.25, 0.5]


# The same in one process --------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("module")
def test_it_is_part_of_a_runs_identity(capsys):
    half = run(*IMPORT, *PENDULUM, "--temperature_decay=0.5", "--tag=half")
    full = run(*IMPORT, *PENDULUM, "--temperature_decay=1", "--tag=full")
    assert half.rows[-1]["Q_loss"] != full.rows[-1]["Q_loss"]
    capsys.readouterr()
    assert train.main([f"--resume={half.directory}", IMPORT[0], "--temperature_decay=0.7"]) == 2
    assert "was run with other settings: temperature_decay 0.5 -> 0.7; expected" in capsys.readouterr().err
    assert evaluate.main([str(half.directory), IMPORT[0], "--episodes=1"]) == 0


@pytest.mark.usefixtures("module")
def test_seeds_and_workers_know_it():
    assert train.main([*IMPORT, *PENDULUM, "--temperature_decay=0.5", "--seeds=1,2"]) == 0
    assert {Finished(path).config["temperature_decay"] for path in Path("outputs").iterdir()} == {0.5}
    run(*IMPORT, *PENDULUM, "--temperature_decay=0.5", "--num_envs=2", "--tag=workers")


@pytest.mark.parametrize("content", [{"temperature_decay": 0.5}, {"algorithm": {"temperature_decay": 0.5}}], ids=str)
@pytest.mark.usefixtures("module")
def test_a_file_has_it_flat_or_in_its_section(content):
    Path("settings.json").write_text(json.dumps(content | {"alg": "decaying"}))
    config = parse_args(["--config=settings.json", IMPORT[0]])
    assert config.temperature_decay == config.settings()["temperature_decay"] == 0.5
    assert parse_args(["--config=settings.json", IMPORT[0], "--temperature_decay=0.25"]).temperature_decay == 0.25
    assert jsonschema.Draft202012Validator(schema()).is_valid(content)
    assert not jsonschema.Draft202012Validator(schema()).is_valid({"temperature_decay": 2})
    Path("settings.json").write_text(json.dumps({"policy": {"temperature_decay": 0.5}}))
    with pytest.raises(ConfigError, match=r"^policy\.temperature_decay: not a setting of this section; it belongs to"):
        parse_args(["--config=settings.json", IMPORT[0]])


@pytest.mark.parametrize(("flags", "message"), [
    (["--alg=mine", "--temperature_decay=2"], "temperature_decay: got 2.0, expected a finite number at least 0 "),
    (["--alg=mine", "--temperature_decay=x"], "temperature_decay: got 'x', expected a finite number"),
    (["--alg=sac", "--temperature_decay=0.5"], "temperature_decay: not a setting of sac; it belongs to mine"),
    (["--temperature_decay=0.5"], "temperature_decay: not a setting of rrd over sac; it belongs to mine"),
    (["--temperature_decya=0.5"], "--temperature_decya: unknown flag; did you mean --temperature_decay?"),
])
def test_a_wrong_use_is_refused_as_for_any_other_setting(flags, message):
    register(DECAY)
    with pytest.raises(ConfigError) as error:
        parse_args(flags)
    assert str(error.value).startswith(message)


def test_a_decomposition_finds_its_basis_setting_beside_its_own():
    register(DECAY)
    horizon = Setting("horizon", int, 5, low=1, help="steps")
    register_decomposition("paid", settings=[horizon])(lambda config, basis: basis)
    config = parse_args(["--alg=paid", "--basis_alg=mine", "--horizon=7"])
    assert (config.horizon, config.temperature_decay) == (7, 0.99)
    assert resolve(config.settings()) == config
    assert resolve({"alg": "paid"}).own == (("horizon", 5),)


def test_an_algorithm_that_is_like_another_reads_its_settings_too():
    register(DECAY)
    register(name="second", like="mine", temperature_decay=0.5)
    assert resolve({"alg": "second"}).temperature_decay == 0.5
    assert resolve({"alg": "mine"}).temperature_decay == 0.99
    with pytest.raises(ConfigError, match=r"^temperature_decay: a setting of another algorithm; expected"):
        register(name="third", temperature_decay=0.5)


def test_the_agent_reads_it_by_its_name():
    register(DECAY)
    sizes = dict(alg="mine", obs_dims=3, acts_dims=1, device="cpu")
    assert create_agent(Namespace(**sizes, temperature_decay="0.5")).config.temperature_decay == 0.5
    assert create_agent(Namespace(**sizes)).config.temperature_decay == 0.99
    with pytest.raises(ConfigError, match=r"^temperature_decay: got 2\.0, expected"):
        create_agent(Namespace(**sizes, temperature_decay=2))


@pytest.mark.parametrize(("setting", "value"), [
    (Setting("a", int, 3, low=1, help="x"), 3), (Setting("a", float, 1, above=0, help="x"), 1.0),
    (Setting("a", bool, True, help="x"), True), (Setting("a", str, "b", choices=("b", "c"), help="x"), "b"),
    (Setting("a", tuple[int, ...], [4, 2], low=1, help="x"), (4, 2)),
])
def test_every_type_is_a_flag_a_key_and_a_schema_entry(setting, value):
    register(setting)
    config = resolve({"alg": "mine"})
    assert (type(config.a), config.a) == (type(value), value)
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    assert parse_args(["--alg=mine", f"--a={text}"]) == config
    stored = json.loads(json.dumps(config.settings()))
    assert resolve(stored) == config
    assert jsonschema.Draft202012Validator(schema()).is_valid(stored)
    assert section_of("a") == "algorithm"
    assert all(re.search(r"--a\b|-l a\b", script(_parser(), shell)) for shell in ("bash", "zsh", "fish"))


def sent(config: Config) -> Config:
    """The Config as a process of --num_envs gets it."""
    here, there = multiprocessing.Pipe()
    here.send(config)
    return there.recv()


def test_a_config_with_it_can_be_copied_sent_and_compared():
    register(DECAY)
    config = resolve({"alg": "mine", "temperature_decay": 0.5})
    for one in (copy.deepcopy(config), sent(config)):
        assert one == config
        assert one.temperature_decay == 0.5
    assert config != resolve({"alg": "mine"})
    with pytest.raises(AttributeError, match=r"cannot assign to field"):
        config.gamma = 0.5
    assert not hasattr(config, "nothing")
    assert not hasattr(resolve({}), "temperature_decay")


def test_a_suite_and_its_schema_know_it():
    register(DECAY)
    given = {"env": ["Pendulum-v1"], "runs": {"a": {"alg": "mine", "temperature_decay": 0.5}}}
    assert jsonschema.Draft202012Validator(suite_schema()).is_valid(given)
    Path("suite.json").write_text(json.dumps(given))
    (trial,) = read_suite(Path("suite.json"), "0", [])
    assert "--temperature_decay=0.5" in trial.flags


# Registering --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("register", [register_algorithm, register_decomposition])
@pytest.mark.parametrize(("setting", "message"), [
    *[(Setting(name, int, 1, help="x"), f"settings: '{name}' is the name of a built-in setting, flag or section")
      for name in ("gamma", "pi_lr", "obs_dims", "resume", "imports", "own", "settings", "run_length", "discrete",
                   "config", "help", "policy", "runtime", "completion", "cuda", "use_pytorch")],
    *[(Setting(name, int, 1, help="x"), f"settings: got the name {name!r}, expected a word")
      for name in ("", "a b", "a-b", "_a", "1a", "lambda", "a\n", None, 3)],
    (Setting("a", list, [], help="x"), "a: got the type <class 'list'>, expected int, float"),
    (Setting("a", int, help="x"), "a: got no default, expected one"),
    (Setting("a", int, 1.5, help="x"), "a: got 1.5, expected an integer"),
    (Setting("a", int, 0, low=1, help="x"), "a: got 0, expected an integer at least 1"),
    (Setting("a", str, "d", choices=("b", "c"), help="x"), "a: got 'd', expected one of b, c"),
    (Setting("a", int, 1, choices=(1, 2), help="x"), "a: got choices=(1, 2), expected words"),
    (Setting("a", str, "b", choices="bc", help="x"), "a: got choices='bc', expected words"),
    (Setting("a", int, 1), "a: got no help, expected one sentence"),
    (Setting("a", str, "b", low=1, help="x"), "a: got low for a str, expected no range"),
    (Setting("a", int, 1, low="0", help="x"), "a: got low='0', expected a number"),
    (Setting("a", int, 1, help="x", belongs="env"), "a: got belongs='env', expected one of learning, algorithm"),
    (Setting("a", int, 1, help="x", belongs="mine"), "a: got belongs='mine', expected one of"),
    ("a", "settings: got 'a', expected Setting("),
], ids=lambda value: getattr(value, "name", None))
def test_a_wrong_setting_is_refused_and_nothing_is_registered(register, setting, message):
    with pytest.raises(ConfigError) as error:
        register("mine", settings=[setting])
    assert str(error.value).startswith(message)
    assert "mine" not in ALGORITHMS
    assert all_settings() == FIELDS


@pytest.mark.parametrize("wrong", [DECAY, 3, None], ids=str)
def test_settings_are_a_list(wrong):
    with pytest.raises(ConfigError, match=r"^settings: got .*, expected a list, such as \[Setting"):
        register_algorithm("mine", settings=wrong)


def test_a_name_belongs_to_one_algorithm_only():
    register(DECAY)
    with pytest.raises(ConfigError, match=r"^settings: 'temperature_decay' is a setting of mine; expected another"):
        register(DECAY, name="second")
    with pytest.raises(ConfigError, match=r"^settings: 'temperature_decay' is a setting of mine; expected another"):
        register(DECAY, name="second", like="mine")
    with pytest.raises(ConfigError, match=r"^settings: 'a' is named twice"):
        register(*[Setting("a", int, 1, help="x")] * 2, name="second")


def test_registering_again_replaces_the_settings():
    register(DECAY)
    register(Setting("temperature_decay", int, 3, help="x"))
    assert resolve({"alg": "mine"}).temperature_decay == 3
    register()
    assert "temperature_decay" not in all_settings()


def test_a_help_text_of_several_lines_is_joined():
    register(Setting("a", int, 1, help="50 % of\n    a line"))
    assert all_settings()["a"].help == "50 % of a line"
    with pytest.raises(SystemExit):
        parse_args(["--help"])


# The table ----------------------------------------------------------------------------------------------------------

def test_registered_defaults_win_over_those_of_an_optimizer():
    from algorithm.basis_alg.dqn_torch import DQN
    register_algorithm("mine", like="dqn", q_lr=0.5, optimizer="rmsprop")(DQN)
    config = resolve({"alg": "mine"})
    assert (config.q_lr, config.optimizer, config.RMSProp_decay, config.Adam_eps) == (0.5, "rmsprop", 0.95, None)
    assert resolve({"alg": "mine", "optimizer": "adam"}).RMSProp_decay is None


def test_every_list_of_names_has_what_is_registered():
    from envs import make_env
    register_algorithm("my_dqn", like="dqn")(SAC)
    register_decomposition("my_pay")(lambda config, basis: basis)
    for given, text in (({"alg": "scc"}, "sac, dqn, iqn, .*ppo, a2c, grpo, my_dqn, rrd, ircr, uniform, .*grd, my_pay"),
                        ({"alg": "sac", "diagnose_every": 1}, "--alg=rrd, ircr, uniform, .*grd or my_pay"),
                        ({"alg": "sac", "basis_alg": "sac"}, "it belongs to rrd, ircr, uniform, .*grd, my_pay")):
        with pytest.raises(ConfigError, match=text):
            resolve(given)
    with pytest.raises(ConfigError, match=r"--alg=dqn, .* or --alg=my_dqn, or --basis_alg=dqn, .* or "
                                          r"--basis_alg=my_dqn with rrd, ircr, uniform, .*grd or my_pay"):
        make_env(Config(alg="sac", env="CartPole-v1"))


def test_workers_know_that_a_users_algorithm_has_discrete_actions():
    """They do not import its module where the environment is Gymnasium's."""
    Path("discretely.py").write_text("from algorithm import register_algorithm\n"
                                     "from algorithm.basis_alg.dqn_torch import DQN\n"
                                     "register_algorithm('discretely', like='dqn')(DQN)\n")
    run("--import=discretely", "--alg=discretely", "--env=CartPole-v1", "--num_envs=2", *SMALL)


def test_an_algorithm_without_a_reference_gives_a_one_line_error_under_tensorflow(capsys, monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setenv("USE_PYTORCH", "0")
    register(DECAY)
    for flags, field in ((["--alg=mine"], "alg"), (["--alg=rrd", "--basis_alg=mine"], "basis_alg")):
        assert train.main([*flags, *PENDULUM, "--batch_size=8"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"train.py: {field}: got 'mine', which is for PyTorch only; expected one of ddpg, td3")
    assert not Path("outputs").exists()


def test_a_setting_of_another_algorithm_leads_to_those_that_the_chosen_one_reads():
    with pytest.raises(ConfigError, match=r"^learning_rate: not a setting of sac; it belongs to .*ppo.*; expected "
                                          r"pi_lr or q_lr \(of policy, critics"):
        resolve({"alg": "sac", "learning_rate": 1e-3})
    with pytest.raises(ConfigError, match=r"expected q_lr or r_lr"):
        resolve({"alg": "rrd", "basis_alg": "dqn", "env": "CartPole-v1", "learning_rate": 1e-3})
