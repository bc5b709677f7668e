"""The wheel: one name, one command; in a fresh virtual environment, beside a project whose names are the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import SMALL
from wheels import ROOT, build, copy_sources, environment, install

pytestmark = pytest.mark.slow
TINY = [*SMALL, "--env=Pendulum-v1", "--rrd_batch_size=8", "--rrd_sample_size=4"]
# What a user's own project may hold; each of these ends a program that imports it.
HOSTILE = ("utils.py", "train.py", "program.py", "plot.py", "envs/__init__.py", "algorithm/__init__.py",
           "results/__init__.py", "record.py", "learner/__init__.py", "sweeps.py")


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> Path:
    return copy_sources(tmp_path_factory.mktemp("sources") / "copy")


@pytest.fixture(scope="session")
def wheel(sources, tmp_path_factory) -> Path:
    return build(sources, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def python(wheel, tmp_path_factory) -> Path:
    return install(wheel, tmp_path_factory.mktemp("installed") / "venv")


@pytest.fixture(params=["empty", "hostile"])
def place(request, tmp_path, monkeypatch) -> Path:
    """The current directory: an empty one, or one of a project with the same names."""
    folder = tmp_path / request.param
    folder.mkdir()
    for name in HOSTILE * (request.param == "hostile"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("raise SystemExit('a module of the user was imported')\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def rrd(python) -> Callable[..., subprocess.CompletedProcess]:
    """Run the command `rrd`."""
    return lambda *argv, **variables: run(python.with_name("rrd"), *argv, **variables)


def run(*command, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, env=environment(**variables), capture_output=True, text=True, check=False,
                          timeout=300)


def names(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as file:
        return set(file.namelist())


# Content --------------------------------------------------------------------------------------------------------

def test_a_wheel_installs_one_name(wheel):
    assert {name.partition("/")[0] for name in names(wheel)} == \
        {"return_decomposition", "return_decomposition-0.1.0.dist-info"}
    with zipfile.ZipFile(wheel) as file:
        assert file.read("return_decomposition-0.1.0.dist-info/top_level.txt") == b"return_decomposition\n"


def test_a_wheel_holds_every_module_and_all_data(wheel):
    there = {name.removeprefix("return_decomposition/") for name in names(wheel)}
    assert {"py.typed", "results/page.html", "configs/quickstart.json", "configs/quickstart.txt", "program.py",
            "programs/__init__.py", "programs/train.py", "programs/doctor.py", "cli.py"} <= there
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*") if path.is_file()} <= there
    for room in ("adapters", "algorithm", "envs", "learner", "record", "results", "sweeps", "torchrl_gpu", "utils"):
        ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / room).rglob("*.py")}
        assert ours == {name for name in there if name.startswith(f"{room}/") and name.endswith(".py")}
    assert not any("setup" in name or name.startswith("tests") for name in there)


def test_files_of_an_earlier_build_are_not_installed(sources, tmp_path, wheel):
    """`pip install .` builds in the repository; build/ may hold the packages of an older version."""
    copy = tmp_path / "again"
    shutil.copytree(sources, copy, ignore=shutil.ignore_patterns("build"))
    (copy / "build" / "lib" / "utils").mkdir(parents=True)
    (copy / "build" / "lib" / "utils" / "old.py").touch()
    assert names(build(copy, tmp_path / "dist")) == names(wheel)


def test_an_sdist_builds_the_same_wheel(sources, tmp_path, wheel):
    archive = build(sources, tmp_path, "build_sdist")
    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = build(unpacked, tmp_path / "dist")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert names(wheel) == names(again)
        for name in names(wheel):
            assert one.read(name) == other.read(name), name


def test_an_editable_install_keeps_the_names_at_the_top(sources, tmp_path):
    copy = tmp_path / "clone"
    shutil.copytree(sources, copy, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    python = install(build(copy, tmp_path / "dist", "build_editable"), tmp_path / "venv")
    code = ("import algorithm, train, utils, return_decomposition as rd; print(algorithm.__file__, train.__file__); "
            "print(rd.create_agent is algorithm.create_agent_for_spaces)")
    done = run(python, "-P", "-c", code)
    assert done.stdout == f"{copy}/algorithm/__init__.py {copy}/train.py\nTrue\n", done.stderr
    done = run(python.with_name("rrd"), "train", "--env=Pendulum-v1", "--wrong")
    assert (done.returncode, done.stderr) == (2, "rrd train: --wrong: unknown flag; the settings of an algorithm of "
                                                 "your own need --import=MODULE\n")
    foreign = tmp_path / "foreign"
    (foreign / "utils").mkdir(parents=True)
    (foreign / "utils" / "__init__.py").touch()
    done = run(python.with_name("rrd"), "train", PYTHONPATH=str(foreign))
    assert done.returncode == 2
    assert done.stderr.startswith("rrd: the package `utils` at ")
    assert done.stderr.count("\n") == 1


# Behaviour ------------------------------------------------------------------------------------------------------

def test_importing_it_imports_neither_a_backend_nor_names_of_the_clone(python, place):
    code = ("import sys, return_decomposition as rd; "
            "print(rd.__version__, sorted({'torch', 'tensorflow', 'utils', 'train'} & {*sys.modules}))")
    assert run(python, "-c", code).stdout == "0.1.0 []\n"


def test_create_agent(python, place):
    code = ("import return_decomposition as rd\n"
            "from gymnasium.spaces import Box, Discrete\n"
            "for alg, basis in (('rrd', 'sac'), ('ircr', 'td3'), ('uniform', 'ddpg'), ('dqn', None)):\n"
            "    actions = Box(-1, 1, (2,)) if basis else Discrete(2)\n"
            "    agent = rd.create_agent(alg=alg, observation_space=Box(-9, 9, (3,)), action_space=actions,\n"
            "                            **({'basis_alg': basis} if basis else {}), device='cpu')\n"
            "    print(type(agent).__module__.partition('.')[0])\n")
    done = run(python, "-c", code)
    assert done.stdout == "return_decomposition\n" * 4, done.stderr


@pytest.mark.parametrize("place", ["empty"], indirect=True)
def test_its_agents_and_replays_are_in_the_package(python, place):
    """So a CUDA graph may capture their updates, as in a clone."""
    code = ("from argparse import Namespace\n"
            "from return_decomposition.algorithm import create_agent\n"
            "from return_decomposition.algorithm.engine import _is_ours\n"
            "from return_decomposition.algorithm.replay_buffer import create_buffer\n"
            "class Mine:\n    pass\n"
            "args = Namespace(alg='rrd', basis_alg='sac', obs_dims=(3,), acts_dims=(2,), device='cpu', "
            "buffer_size=1000, test_timesteps=100)\n"
            "agent = create_agent(args)\n"
            "print(_is_ours(agent, create_buffer(args)), _is_ours(agent, Mine()))\n")
    done = run(python, "-c", code)
    assert done.stdout == "True False\n", done.stderr


def test_help_and_version(rrd, python, place):
    done = rrd("--help")
    assert done.returncode == 0
    assert re.findall(r"^  (\w+) ", done.stdout, re.MULTILINE) == \
        ["train", "evaluate", "plot", "report", "sweep", "relabel", "doctor", "convert", "export"]
    assert run(python, "-m", "return_decomposition", "--version").stdout == rrd("--version").stdout == "rrd 0.1.0\n"


@pytest.mark.parametrize("program", ["train", "evaluate", "plot", "report", "sweep", "relabel", "doctor", "convert",
                                     "export"])
def test_the_help_of_a_program_names_the_command(program, rrd):
    shown = rrd(program, "--help")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"usage: rrd {program} ")
    assert not re.search(r"python \w+\.py|python -m", shown.stdout)


@pytest.mark.parametrize(("argv", "line"), [
    (["trian"], "rrd: command: got 'trian', expected one of train, evaluate, plot, report, sweep, relabel, doctor, "
                "convert, export, or --help; did you mean train?"),
    ([], "rrd: command: none given, expected one of train, evaluate, plot, report, sweep, relabel, doctor, convert, "
     "export, or --help"),
    (["train", "--env=Pendulum-v1", "--wrong"], "rrd train: --wrong: unknown flag"),
    (["evaluate", "nowhere"], "rrd evaluate: "), (["plot"], "rrd plot: "), (["report"], "rrd report: "),
    (["sweep"], "rrd sweep: "), (["doctor", "--wrong"], "rrd doctor: ")])
def test_an_error_is_one_line_that_begins_with_the_command(argv, line, rrd):
    done = rrd(*argv)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith(line)
    assert done.stderr.count("\n") == 1


def test_an_error_of_the_converter_begins_with_the_command(rrd):
    """TensorFlow, which it loads, may write lines of its own before."""
    done = rrd("convert", "--wrong")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("rrd convert: ")


@pytest.mark.parametrize("place", ["hostile"], indirect=True)
def test_a_checkpoint_of_the_original_is_converted(rrd, place):
    pytest.importorskip("tensorflow")
    original = ROOT / "tests" / "reference" / "rrd_sac_tf1_checkpoint" / "model.ckpt"
    done = rrd("convert", original, "--alg=rrd", "--basis_alg=sac", "--out=there")
    assert done.returncode == 0, done.stderr
    assert Path("there/model.safetensors").is_file()


def test_a_run_its_evaluation_and_its_figures(rrd, place):
    """Two environments, each in a spawned process; the record names the command, and not the user's repository."""
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty",
                    "--message=theirs"], check=True)
    done = rrd("train", *TINY, "--num_envs=2")
    assert done.returncode == 0, done.stderr
    (directory,) = Path("outputs").iterdir()
    facts = json.loads((directory / "run.json").read_text())
    assert facts["command"][:2] == ["rrd", "train"]
    assert facts["git_commit"] is None
    done = rrd("evaluate", directory, "--episodes=2")
    assert done.returncode == 0, done.stderr
    done = rrd("plot", "outputs", "--resamples=20")
    assert done.returncode == 0, done.stderr
    assert list(Path("plots").glob("curves-*.png"))
    done = rrd("report", "outputs", "--resamples=20")
    assert done.returncode == 0, done.stderr
    assert "rrd report outputs" in Path("report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("place", ["hostile"], indirect=True)
def test_several_seeds(rrd, place):
    done = rrd("train", *TINY, "--seeds=0,1")
    assert done.returncode == 0, done.stderr
    assert len(list(Path("outputs").iterdir())) == 2


def test_a_sweep_of_two_trials(rrd, place):
    """A trial is started by `python -m`, which must not look into the current directory first."""
    Path("random.py").write_text("raise SystemExit('a module of the user was imported')\n")
    common = dict(flag.lstrip("-").split("=") for flag in TINY)
    suite = {"env": [common.pop("env")], "common": common, "runs": {"A": {"alg": "rrd"}}}
    Path("suite.json").write_text(json.dumps(suite))
    done = rrd("sweep", "suite.json", "--seeds=0,1", "--jobs=2")
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.endswith("2 done\n")
    assert len(list(Path("outputs").glob("*/run.json"))) == 2


@pytest.mark.parametrize("place", ["hostile"], indirect=True)
def test_a_module_of_the_user_is_imported_from_the_current_directory(rrd, place):
    Path("my_algorithm.py").write_text(
        "from return_decomposition.algorithm import register_algorithm\n"
        "from return_decomposition.algorithm.basis_alg.sac_torch import SAC\n\n\n"
        "@register_algorithm('mine', like='sac')\nclass Mine(SAC):\n    pass\n")
    done = rrd("train", *SMALL, "--env=Pendulum-v1", "--import=my_algorithm", "--alg=mine")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("place", ["hostile"], indirect=True)
def test_doctor(rrd, place):
    done = rrd("doctor", "--json", "--only=python,project,torch,mujoco,opencv,tensorboard")
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert {one["status"] for name, one in found.items() if name != "tensorboard"} == {"ok"}
    assert found["tensorboard"]["mend"] in ("", "pip install 'tensorboard>=2.18'")


def test_hints_name_the_packages_themselves(rrd, python, tmp_path):
    """The wheel is on no index, so no hint may name it."""
    code = ("import sys; sys.modules['matplotlib'] = sys.modules['ale_py'] = None; sys.argv[:1] = ['rrd']\n"
            "from return_decomposition.cli import main; sys.exit(main(sys.argv[1:]))")
    done = run(python, "-c", code, "plot", "outputs")
    assert (done.returncode, done.stderr) == (2, "rrd plot: matplotlib is not installed; pip install "
                                                 "'matplotlib>=3.9' 'jinja2>=3.1.3' installs it\n")
    done = run(python, "-c", code, "train", "--alg=dqn", "--env=Assault")
    assert done.returncode == 2
    assert done.stderr.endswith("which is not installed; pip install 'ale-py>=0.12.0' installs it\n")
    done = run(python, "-c", "from return_decomposition.utils.installed import pip_install; print(pip_install())")
    assert done.stdout.startswith("pip install 'torch>=2.10.0' 'numpy>=2.0.0' 'gymnasium[mujoco]>=1.1.0' ")
    assert "'opencv-python-headless>=" in done.stdout
    assert "matplotlib" not in done.stdout


@pytest.mark.parametrize("place", ["hostile"], indirect=True)
@pytest.mark.parametrize("module", ["utils.tf_checkpoint", "algorithm.tf.convert", "programs.train", "sweeps.schema",
                                    "adapters.convert_sb3", "utils.settings.schema"])
def test_modules_that_are_commands(module, python, place):
    done = run(python, "-m", f"return_decomposition.{module}", *["--help"] * ("schema" not in module))
    assert done.returncode == 0, done.stderr
    assert done.stdout
