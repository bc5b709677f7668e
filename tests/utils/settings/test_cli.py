"""The command line: the original's commands word for word, and one line with exit code 2 for every error."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from runs import refusal

import train
from program import foreign_package
from utils.settings.cli import parse_args

ROOT = Path(__file__).resolve().parent.parent.parent.parent
COMMANDS = """
python train.py --tag='RRD Ant-v2' --alg=rrd --basis_alg=sac --env=Ant-v2
python train.py --tag='RRD-L(RD) Ant-v2' --alg=rrd --basis_alg=sac --rrd_bias_correction=True --env=Ant-v2
python train.py --tag='RRD-TD3 Ant-v2' --alg=rrd --basis_alg=td3 --env=Ant-v2
python train.py --tag='RRD-DDPG Ant-v2' --alg=rrd --basis_alg=ddpg --env=Ant-v2
python train.py --tag='IRCR-SAC Ant-v2' --alg=ircr --basis_alg=sac --env=Ant-v2
python train.py --tag='IRCR-TD3 Ant-v2' --alg=ircr --basis_alg=td3 --env=Ant-v2
python train.py --tag='IRCR-DDPG Ant-v2' --alg=ircr --basis_alg=ddpg --env=Ant-v2
""".strip().splitlines()
ATARI = """
python train.py --tag='RRD-DQN Assault' --alg=rrd --basis_alg=dqn --env=Assault
python train.py --tag='IRCR-DQN Assault' --alg=ircr --basis_alg=dqn --env=Assault
""".strip().splitlines()
SHORT = shlex.split("--device=cpu --total_timesteps=40 --timesteps=20 --iterations=2 --warmup=20 --train_batches=1 "
                    "--batch_size=8 --buffer_size=100 --test_rollouts=1 --test_timesteps=20")
PENDULUM = ["--env=Pendulum-v1", *SHORT]


@pytest.fixture
def register():
    """Register environments with these spaces, for one test."""
    ids = []

    def add(observes, acts) -> str:
        def make(**_):
            env = gym.Env()
            env.observation_space, env.action_space = observes, acts
            return env
        ids.append(f"ForTestCli{len(ids)}-v0")
        gym.register(ids[-1], entry_point=make)
        return ids[-1]
    yield add
    for name in ids:
        del gym.registry[name]


@pytest.fixture
def no_env(monkeypatch):
    """Building an environment fails the test."""
    monkeypatch.setattr("envs.make_env", lambda config: pytest.fail("an environment was built"))


def flags(command: str) -> list[str]:
    return shlex.split(command)[2:]


# The original's commands ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("command", COMMANDS)
def test_the_originals_commands_are_understood(command):
    config = parse_args(flags(command))
    tag, alg, basis = re.search(r"--tag='(.*)' --alg=(\w+) --basis_alg=(\w+)", command).groups()
    assert (config.tag, config.alg, config.basis_alg, config.env) == (tag, alg, basis, "Ant-v2")
    assert config.rrd_bias_correction == {"rrd": "L(RD)" in tag}.get(alg)
    assert config.run_length == 3_000_000


@pytest.mark.parametrize("command", COMMANDS)
def test_the_originals_commands_run(command, capsys):
    assert train.main(flags(command) + SHORT) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "env Ant-v4, use_contact_forces=True: 111 observations, 8 actions" in out
    tag, alg, basis = re.search(r"--tag='(.*)' --alg=(\w+) --basis_alg=(\w+)", command).groups()
    name, = os.listdir("outputs")
    assert name.startswith(f"{tag.replace(' ', '_')}-{alg}-{basis}-Ant-v2_")


@pytest.mark.parametrize("command", ATARI)
def test_the_originals_atari_commands_are_understood(command):
    config = parse_args(flags(command))
    assert (config.basis_alg, config.run_length, config.batch_size) == ("dqn", 10_000_000, 32)
    assert (config.test_timesteps, config.warmup, config.buffer_size) == (27_000, 30_000, 1_000_000)
    assert (config.sticky, config.noop, config.frames, config.test_eps) == (False, 30, 4, 0.001)
    assert config.rews_scale is None
    assert (config.rrd_batch_size, config.rrd_sample_size) == {"rrd": (32, 32)}.get(config.alg, (None, None))


@pytest.mark.parametrize("command", ATARI)
def test_the_originals_atari_commands_run(command, capsys):
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    assert train.main(flags(command) + SHORT) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "env ALE/Assault-v5: 84x84x4 observations, 7 actions; replay of 100 steps, up to " in out


# Flags ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("argv", [["--total-timesteps=7"], ["--total_timesteps=7"], ["--total_timesteps", "7"]])
def test_a_flag_may_be_spelt_with_dashes_or_underscores_and_with_or_without_equals(argv):
    assert parse_args(argv).total_timesteps == 7


@pytest.mark.parametrize(("argv", "value"), [
    (["--save_rews"], True), (["--save_rews=True"], True), (["--save_rews", "--seed=1"], True), ([], True),
    (["--save_rews=False"], False), (["--save_rews", "false"], False), (["--save-rews=0"], False),
    (["--save_rews=False", "--save_rews"], True),
])
def test_a_boolean_flag_may_have_no_value(argv, value):
    assert parse_args(argv).save_rews is value


def test_help_is_instant_and_imports_no_torch():
    seconds = []
    for _ in range(3):                                      # the best of three: the machine may be busy
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-X", "importtime", ROOT / "train.py", "--help"],
                              capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1
    assert done.returncode == 0
    assert all(f"--{name}" in done.stdout for name in ("config", "rrd_sample_size", "total_timesteps"))
    assert "utils.settings.cli" in done.stderr
    assert not re.search(r"\| +(torch|numpy|gymnasium|tensorflow)\b", done.stderr)


@pytest.mark.parametrize(("argv", "begins"), [
    (["--epoch=3"], "--epoch: unknown flag; did you mean --epochs?"),
    (["--total-timestep=3"], "--total-timestep: unknown flag; did you mean --total_timesteps?"),
    (["--learning_rate=1"], "learning_rate: not a setting of rrd over sac; it belongs to ppo, a2c, grpo; expected "),
    (["--LR", "1"], "--LR: unknown flag; expected --pi_lr, --q_lr or --r_lr"),
    (["--learning-starts=9"], "--learning-starts: unknown flag; expected --warmup"),
    (["--tau=0.005"], "--tau: unknown flag; expected --polyak (1 - tau)"),
    (["-x"], "-x: unknown flag"),
    (["--a\nb=3"], ""),
    (["--epochs"], "--epochs: "),
    (["--pi_lr"], "--pi_lr"),
    (["--tag", "--epochs=3"], "--tag: "),
    (["Ant-v2"], "'Ant-v2': expected a --flag"),
    (["--epochs=3", "rest"], "'rest': expected a --flag"),
    ([""], "'': expected a --flag"),
    (["--epochs=x"], "epochs: got 'x', expected an integer"),
    (["--save_rews=maybe"], "save_rews: got 'maybe', expected True or False"),
    (["--device=gpu"], "device: got 'gpu'"),
    (["--config=missing.json"], "config: cannot read 'missing.json'"),
    (["--env=NoSuch-v1", "--seed=-1"], "seed: got -1"),
    (["--alg=sac", "--r_lr=1e-3"], "r_lr: not a setting of sac"),
    (["--alg=RRD"], "alg: got 'RRD'; did you mean rrd?"),
])
def test_a_wrong_command_line_is_refused_before_any_environment_is_built(argv, begins, capsys, no_env):
    assert refusal(argv, capsys).startswith(begins)


# Checks of this machine ----------------------------------------------------------------------------------------

@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_where_there_is_none_is_refused_before_any_environment_is_built(device, capsys, no_env):
    assert refusal([*PENDULUM, f"--device={device}"], capsys).startswith(f"device: got '{device}'")


@pytest.mark.parametrize("device", ["cuda:99", "cuda:99999999999999999999"])
def test_a_cuda_device_beyond_the_last_is_refused(device, capsys, no_env):
    assert refusal([*PENDULUM, f"--device={device}"], capsys).startswith(f"device: got '{device}'")


@pytest.mark.usefixtures("no_env")
def test_a_backend_of_another_name_is_refused_before_any_environment_is_built(capsys, monkeypatch):
    monkeypatch.setenv("USE_PYTORCH", "maybe")
    assert refusal(PENDULUM, capsys) == ("USE_PYTORCH: got 'maybe', expected 1, true, yes (PyTorch) "
                                         "or 0, false, no (TensorFlow)")


@pytest.mark.usefixtures("no_env")
def test_tensorflow_that_is_not_installed_is_refused_before_any_environment_is_built(capsys, monkeypatch):
    monkeypatch.setenv("USE_PYTORCH", "0")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert refusal(PENDULUM, capsys).startswith("tensorflow: is not installed; pip install")


@pytest.mark.parametrize(("name", "holds"), [
    ("NoSuch-v1", "registered"), ("HalfCheeta-v4", "did you mean HalfCheetah-v4?"), ("", "''"), ("a:b:c", "a:b:c"),
    ("nosuchmodule:Foo-v0", "nosuchmodule"), ("Pusher-v4", "mujoco<3"), ("CartPole-v1", "expected --alg=dqn"),
    ("Asault", "did you mean Assault?"), ("ALE/Asault-v5", "did you mean ALE/Assault-v5?"),
    ("Blackjack-v1", "expected --alg=dqn"),
])
def test_a_wrong_environment_is_refused(name, holds, capsys):
    message = refusal([*SHORT, f"--env={name}"], capsys)
    assert message.startswith("env: ")
    assert holds in message


@pytest.mark.parametrize("acts", [Box(-float("inf"), float("inf"), (2,)), Box(-1, 1, (2, 2)), Discrete(3)], ids=repr)
def test_an_action_space_that_is_no_bounded_vector_is_refused(acts, capsys, register):
    name = register(Box(-1, 1, (3,)), acts)
    assert refusal([*SHORT, f"--env={name}"], capsys).startswith(f"env: '{name}' acts in ")


@pytest.mark.parametrize("size", ["1e30", "1e300"])
def test_a_buffer_that_cannot_fit_is_refused(size, capsys):
    assert refusal([*PENDULUM, f"--buffer_size={size}"], capsys).startswith("buffer_size: ")


def test_a_batch_of_one_is_refused_for_ircr_where_observations_turn_out_to_be_vectors(capsys):
    argv = [*SHORT, "--alg=ircr", "--basis_alg=dqn", "--env=CartPole-v1", "--batch_size=1"]
    assert refusal(argv, capsys).startswith("batch_size: got 1, expected at least 2 for ircr over vectors")


def test_dueling_is_refused_where_observations_turn_out_to_be_vectors(capsys):
    argv = [*SHORT, "--alg=dqn", "--env=CartPole-v1", "--dueling"]
    assert refusal(argv, capsys).startswith("dueling: got True over vectors (4,), expected images")


# Where the record goes ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("tag", ["日本語 🎉", "../../a/b\\c", "..", "[red]", "a\nb", "x" * 300, "語" * 300, "\udcff"])
def test_any_tag_gives_one_directory_under_outputs(tag, capsys):
    assert train.main([*PENDULUM, f"--tag={tag}"]) == 0
    assert os.listdir() == ["outputs"]
    name, = os.listdir("outputs")
    assert not name.startswith((".", "-"))
    assert f"record in outputs/{name}" in capsys.readouterr().out


def test_outputs_that_is_a_file_is_an_error(capsys):
    Path("outputs").write_text("mine")
    assert train.main(PENDULUM) == 2
    err = capsys.readouterr().err
    assert err.startswith("train.py: outputs: cannot create")
    assert len(err.splitlines()) == 1
    assert Path("outputs").read_text() == "mine"


def test_a_terminal_without_unicode_does_not_end_the_run(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert train.main([*PENDULUM, "--tag=日本"]) == 0


def test_ctrl_c_gives_a_one_line_error_and_130(monkeypatch, capsys):
    def interrupt(self):
        raise KeyboardInterrupt
    monkeypatch.setattr("learner.Learner.learn", interrupt)
    assert train.main(PENDULUM) == 130
    assert capsys.readouterr().err == "train.py: interrupted\n"


# Foreign packages ----------------------------------------------------------------------------------------------

def write_package(folder: Path, files: list[str]) -> None:
    """A package that cannot be imported, with these files."""
    folder.mkdir()
    for name in files:
        (folder / name).write_text("1 / 0")


def test_a_foreign_utils_in_the_working_directory_gives_a_one_line_error():
    write_package(Path("utils"), ["__init__.py", "config.py"])
    done = subprocess.run([sys.executable, "-m", "train", *PENDULUM], env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("train.py: the package `utils` at ")
    assert len(done.stderr.splitlines()) == 1
    assert not Path("outputs").exists()


@pytest.mark.parametrize("files", [["__init__.py"], ["__init__.py", "config.py", "wrappers.py", "logger.py"]])
@pytest.mark.parametrize("name", ["utils", "algorithm", "envs", "learner"])
def test_a_foreign_package_is_found_without_importing_it(name, files, tmp_path, monkeypatch):
    write_package(tmp_path / name, files)
    for package in ("utils", "algorithm", "envs", "learner"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert foreign_package().startswith(f"the package `{name}` at {tmp_path}")


def test_our_own_packages_are_not_foreign():
    assert foreign_package() is None
