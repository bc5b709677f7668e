"""Every command in the README and docs/ works."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest
from documents import DOCS, PAGES, ROOT, commands, commands_of, tables
from runs import SMALL, SMALL_RRD
from shell import run
from test_library_pages import RUN

import train
from algorithm import create_agent
from utils.stop import AGAIN, INTERRUPTED

COMMANDS = commands()


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A directory with `outputs`: a small run of RRD, one of IRCR."""
    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for tag in ("rrd", "RRD"):
            assert train.main([*SMALL_RRD, "--env=HalfCheetah-v4", f"--tag={tag}"]) == 0
        for tag in ("ircr", "IRCR"):
            assert train.main([*SMALL, "--alg=ircr", "--env=HalfCheetah-v4", f"--tag={tag}"]) == 0
    return place


@pytest.fixture
def place(tmp_path, trained, monkeypatch) -> Path:
    """The directory in which the documents' commands run: the repository's files, runs, and files of the original."""
    for name in ("configs", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    shutil.copytree(next((trained / "outputs").glob("rrd-*")), tmp_path / "outputs" / "RUN")
    original = ROOT / "tests" / "reference"
    rews = tmp_path / "log" / "rews" / "TAG" / "RUN"
    rews.mkdir(parents=True)
    shutil.copy(original / "original_rews" / "HalfCheetah-v2_seed1.npz", rews / "HalfCheetah-v2.npz")
    for part in (original / "rrd_sac_tf1_checkpoint").glob("model.ckpt.*"):
        shutil.copy(part, tmp_path)
    (tmp_path / "anchors.json").write_text('{"HalfCheetah-v4": [0, 12000], "Hopper-v4": [20, 3200]}')
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(ROOT)                   # benchmarks.catch, of --env
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{COMMANDS[command]}: {command}")
@pytest.mark.sampled(45)
def test_every_command_works(command, place):
    if "--to-tf" in command:
        sizes = argparse.Namespace(alg="rrd", basis_alg="sac", obs_dims=(3,), acts_dims=(1,), device="cpu")
        create_agent(sizes).save_model("model.safetensors")
    run(command)


def test_there_are_commands_of_every_kind_and_page():
    assert len(COMMANDS) > 70
    assert {"make train", "python doctor.py", "pip install -e '.[plot]'", "tensorboard --logdir outputs",
            "srun python train.py --tag=mine ... --on_existing=resume"} <= set(COMMANDS)
    for page in ("quickstart", "figure1", "algorithms/rrd", "reliability", "plots", "performance"):
        assert f"docs/{page}.md" in {*COMMANDS.values()}


IN_DOCS = ("api.md", "arena.md", "migration.md", "marinenav.md", "offline.md", "torchrl.md")


def test_code_in_pages_is_run_by_some_test():
    """README.md and `IN_DOCS`: tests/docs/test_docs.py; others: test_library_pages.py."""
    others = {page.relative_to(ROOT) for page in PAGES if "```python" in page.read_text(encoding="utf-8")
              and page.name not in ("README.md", *IN_DOCS, *RUN)}
    assert {page.parent.name for page in others} <= {"extending"}
    assert not (DOCS / "extending").exists() or (ROOT / "tests" / "docs" / "test_extending.py").is_file()


def test_commands_are_found_in_pages():
    text = ("Say `make test`, not `python` or `A=1`.\n\n    python a.py  # why\n    # only why\n\n"
            "- in a list\n\n      b c\n\n```sh\n$ d \\\n  e\n```\n\n```python\nf()\n```\n\n```text\ng\n```\n\n"
            "| `pytest h` |\n|---|\n| `pip install i` |\n")
    assert list(commands_of(text)) == ["make test", "python a.py", "b c", "d    e", "pytest h", "pip install i"]


@pytest.mark.parametrize(("command", "complaint"), [
    ("python train.py --alg=rrd --gama=1", "--gama: unknown flag"),
    ("python train.py --config configs/nothing.json", "cannot read 'configs/nothing.json'"),
    ("python train.py --resume outputs/RUN --alg=sac", None),
    ("python evaluate.py outputs/RUN --episode 3", None), ("python evaluate.py outputs/NONE", None),
    ("python plot.py nowhere", None), ("python plot.py outputs --smoth=5", None),
    ("python sweep.py configs/quickstart.json", None), ("python sweep.py configs/suite.json --seedz 1", None),
    ("python benchmarks/speed.py --quickly", "unrecognized arguments: --quickly"),
    ("python benchmarks/nothing.py", "nothing.py"), ("python benchmarks/saving.py --stepps 3", "has no --stepps"),
    ("python tests/torture.py --kill 3", "has no --kill"), ("python doctor.py --jsn", None),
    ("python -m utils.settings.schema > configs/other.json", "configs/other.json"),
    ("make tset", "Makefile has no tset"), ("pip install -e '.[plots]'", "plots"),
    ("pip install tensorbord", "tensorbord"), ("pip install 'return-decomposition[plot]'", "return-decomposition"),
    ("rrd trian --alg=rrd", "no rule"), ("rrd train --alg=rrd --gama=1", "--gama: unknown flag"),
    ("pip install -c nothing.txt -e .", ""), ("pytest tests/test_nothing.py", "test_nothing"),
    ("[ $? -eq 76 ] && scontrol requeue $SLURM_JOB_ID", "76"), ("source <(python train.py --completion csh)", None),
    ("curl -O somewhere", "no rule"), ("python other.py", "no rule"), ("tensorboard --logdir runs", "no rule"),
])
def test_a_wrong_command_fails(command, complaint, place):
    with pytest.raises((AssertionError, ValueError, OSError, SystemExit)) as error:
        run(command)
    assert complaint is None or complaint in str(error.value)


# Code that is not run ------------------------------------------------------------------------------------------------

def test_exit_codes_are_the_programs():
    for page in ("reliability", "troubleshooting"):
        (codes,) = (table for table in tables((DOCS / f"{page}.md").read_text()) if table[0][0] == "exit code")
        assert [int(row[0]) for row in codes[1:]] == [0, 1, 2, AGAIN, INTERRUPTED]
