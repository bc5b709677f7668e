"""The pages of docs/extending: their files, commands and tests, and runs of the algorithms that they define."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from extending import PAGES, ROOT, commands_of, files_of, run, said, small, write_files
from runs import SMALL, Finished
from saved import digest

import evaluate
import train
from utils.settings.algorithms import ALGORITHMS

pytestmark = pytest.mark.usefixtures("forget")

def test_every_file_of_the_pages_is_a_block_with_its_name():
    for page, text in PAGES.items():
        assert len(files_of(page)) == text.count("```python")
        assert text.startswith("# ")
        for name, code in files_of(page).items():
            compile(code, name, "exec")
    named = {name for page in PAGES for name in files_of(page)}
    assert named == {"munchausen.py", "test_munchausen.py", "recency.py", "my_rewards.py", "recurrent.py",
                     "offline.py", "test_my_rewards.py", "my_env.py", "my_pixels.py",
                     "my_carts.py", "my_loop.py", "state_std.py", "my_algorithm.py", "my_policy.py", "my_task.py",
                     "my_steps.py", "gated.py"}


@pytest.mark.parametrize(("page", "command"), commands_of(r"train\.py"))
@pytest.mark.sampled(14)
def test_the_pages_commands_run(page, command, capsys):
    write_files(page)
    done = run(*small(command))
    assert done.rows[-1]["Timesteps"] == str(-(-120 // done.config["num_envs"]) * done.config["num_envs"])
    (loss,) = {"value_loss", "V_loss", "Q_loss"} & set(done.rows[0])
    assert any(float(row[loss] or "nan") > 0 for row in done.rows)
    assert ":" in done.config["env"] or not re.search(r"--env=\S*:", command)
    assert "modules" not in done.config
    assert "imports" not in done.config
    if "--diagnose_every" in command:
        assert done.rows[-1]["Reward/std_within"] != ""


@pytest.mark.parametrize(("page", "name"), [("tensor_environments", "my_loop.py"), ("trainer", "my_steps.py")])
def test_the_loops_over_an_environment_run(page, name):
    write_files(page)
    done = subprocess.run([sys.executable, name], env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_curriculum_of_the_page_is_read():
    write_files("tensor_environments")
    (form,) = re.findall(r"^```json\n(.*?)^```", PAGES["tensor_environments"], re.DOTALL | re.MULTILINE)
    Path("stages.json").write_text(form)
    done = run(*SMALL, "--alg=sac", "--env=my_carts:Carts-v0", "--curriculum=stages.json")
    assert done.rows[-1]["Stage"] == "0"


@pytest.mark.parametrize("page", ["algorithm", "decomposition"])
@pytest.mark.sampled(1)
def test_the_pages_tests_pass(page):
    """In the directory of their files, as the page says; without the settings of this suite."""
    write_files(page)
    (command,) = re.findall(r"^    python -m pytest (.*)$", PAGES[page], re.MULTILINE)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *command.split()],
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{PAGES[page].count('def test_')} passed" in done.stdout


MUNCHAUSEN = ["--import=munchausen", "--alg=munchausen", "--env=Pendulum-v1"]
HUBER = ["--import=my_rewards", "--alg=rrd_huber", "--env=Pendulum-v1", "--rrd_batch_size=8", "--rrd_sample_size=4"]
RECENCY = ["--import=recency", "--alg=recency", "--env=Pendulum-v1"]
RECURRENT = ["--import=recurrent", "--alg=recurrent", "--env=Pendulum-v1"]
PARCEL = ["--import=my_env", "--alg=sac", "--env=Parcel-v0", "--test_timesteps=17"]      # iterations end in episodes
OWN = {"algorithm": MUNCHAUSEN, "decomposition": HUBER, "environment": PARCEL}


@pytest.mark.parametrize(("page", "flags", "engine"), [
    ("algorithm", MUNCHAUSEN, "eager (no gradients are written by hand for Munchausen)"),
    ("algorithm", ["--import=munchausen", "--alg=rrd", "--basis_alg=munchausen", "--env=Pendulum-v1",
                   "--rrd_batch_size=8", "--rrd_sample_size=4"],
     "eager (no gradients are written by hand for Munchausen)"),
    ("decomposition", RECENCY, "manual (gradients by hand are the fastest on CPUs; kernels"),
    ("decomposition", HUBER, "eager (no gradients are written by hand for HuberRRD)"),
    ("decomposition", ["--import=my_rewards", "--alg=rrd_state", *HUBER[2:]],
     "eager (no gradients are written by hand for networks such as StateReward)"),
    ("decomposition", RECURRENT, "eager (no gradients are written by hand for Recurrent)"),
], ids=lambda value: None if isinstance(value, str) else value[1])
def test_a_run_reports_its_engine_and_the_reason(page, flags, engine, capsys):
    write_files(page)
    done = run(*flags, *SMALL)
    assert said(capsys).startswith(engine)
    if "munchausen" in flags[0]:
        assert float(done.rows[-1]["Bonus"]) <= 0


@pytest.mark.slow
def test_the_record_contains_the_users_command():
    """In a process of its own, from a directory that is not on Python's path."""
    write_files("algorithm")
    flags = [*MUNCHAUSEN, *SMALL]
    subprocess.run([sys.executable, ROOT / "train.py", *flags], check=True, capture_output=True)
    (directory,) = Path("outputs").iterdir()
    assert "--import=munchausen" in json.dumps(Finished(directory).facts["command"])
    assert directory.name.startswith("-munchausen-Pendulum-v1") or directory.name.startswith("munchausen-Pendulum-v1")
    done = subprocess.run([sys.executable, ROOT / "train.py", "--import=munchausen", "--help"], check=True,
                          capture_output=True, text=True)
    assert "|munchausen" in done.stdout


@pytest.mark.parametrize(("page", "own"), [*OWN.items(), ("decomposition", RECURRENT)], ids=lambda value: value[1])
@pytest.mark.sampled(3)
def test_two_parts_equal_the_whole_run(page, own):
    write_files(page)
    flags = [*SMALL, *own]
    parts = run(*flags, "--total_timesteps=80", "--tag=parts")
    assert train.main([f"--resume={parts.directory}", own[0], "--total_timesteps=120"]) == 0
    whole = run(*flags, "--tag=whole")
    assert digest(parts.directory) == digest(whole.directory)


@pytest.mark.parametrize("page", ["algorithm", "decomposition"])
@pytest.mark.sampled(1)
def test_several_seeds_equal_their_single_runs(page):
    write_files(page)
    flags = [*OWN[page], *SMALL]
    assert train.main([*flags, "--seeds=1,2", "--tag=both"]) == 0
    single = run(*flags, "--seed=2", "--tag=single")
    (one,) = Path("outputs").glob("both*seed2*")
    assert digest(one) == digest(single.directory)


def test_several_environments_at_once_of_a_module_that_was_imported():
    """Workers import it themselves where the id is found in it, and only there."""
    write_files("environment")
    write_files("algorithm")
    flags = ["--alg=munchausen", "--import=munchausen", "--env=Parcel-v0", "--import=my_env", "--num_envs=2"]
    assert run(*flags, *SMALL).rows[-1]["Timesteps"] == "120"


@pytest.mark.parametrize(("page", "flags"), [("algorithm", MUNCHAUSEN), ("decomposition", RECENCY),
                                             ("decomposition", HUBER), ("decomposition", RECURRENT)],
                         ids=lambda value: value[1])
def test_evaluation(page, flags, capsys):
    write_files(page)
    done = run(*flags, *SMALL)
    argv = [str(done.directory), "--episodes=2", flags[0]]
    assert evaluate.main(argv) == 0
    capsys.readouterr()
    code = evaluate.main([*argv, "--diagnose"])
    out, err = capsys.readouterr()
    if page == "algorithm":
        assert code == 2
        assert err.startswith("evaluate.py: diagnose: munchausen learns no reward; expected a run of rrd, ircr, ")
        assert err.count("\n") == 1
    else:
        assert code == 0
        assert re.search(r"std_within +[\d.]", out)


@pytest.mark.parametrize("page", ["algorithm", "decomposition"])
def test_a_run_without_its_module_names_the_missing_import(page, capsys):
    write_files(page)
    done = run(*OWN[page], *SMALL)
    name = OWN[page][1].removeprefix("--alg=")
    del ALGORITHMS[name]
    capsys.readouterr()
    for main, argv in ((train.main, [f"--resume={done.directory}"]), (evaluate.main, [str(done.directory)])):
        assert main(argv) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(rf"alg: got '{name}'.*--import=MODULE", line)
