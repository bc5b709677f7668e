"""A run that is stopped and resumed equals an uninterrupted one, to the bit."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from resumes import FLAGS, flags_of, run, same, twice
from runs import ROOT, SMALL, SMALL_RRD
from saved import digest, rows

import record.directories
import record.system
import train
from algorithm import create_agent
from envs import make_env
from envs.origin import Origin, random_state, replay_actions, set_random_state
from record.store import Store
from utils.errors import CheckpointError, ConfigError
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes
from utils.stop import Stop, Stopped

PAIRS = [(alg, basis) for alg in (None, "rrd", "ircr", "uniform") for basis in ("ddpg", "td3", "sac")]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("env", ["Ant-v4", "Humanoid-v4", "HalfCheetah-v4", "Hopper-v4"])
@pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=str)
@pytest.mark.sampled(6)
def test_two_parts_equal_the_whole_run(alg, basis, env):
    """Ant's and Humanoid's rewards depend on arrays that positions and velocities do not determine."""
    twice([*FLAGS, *flags_of(alg, basis), f"--env={env}"], 60, 120)


@pytest.mark.parametrize("env", ["Ant-v2", "Humanoid-v4"])
@pytest.mark.sampled(1)
def test_two_parts_with_bias_correction_equal_the_whole_run(env):
    twice([*FLAGS, *flags_of("rrd", "sac"), f"--env={env}", "--rrd_bias_correction=True"], 100, 200)


@pytest.mark.parametrize(("short", "long"), [(40, 80), (47, 80), (60, 90), (93, 131), (20, 200)])
@pytest.mark.sampled(3)
def test_wherever_the_first_part_ends(short, long):
    """At the end of a cycle, within an iteration, within a cycle, at neither; before the first update."""
    twice([*FLAGS, *flags_of("rrd", "td3"), "--env=Hopper-v4", "--obs_normalization=True"], short, long)


@pytest.mark.parametrize("alg", [["--alg=dqn"], *(pytest.param(flags, marks=pytest.mark.slow) for flags in (
    ["--alg=rrd", "--rrd_batch_size=2", "--rrd_sample_size=2"], ["--alg=ircr"], ["--alg=uniform"]))], ids=str)
def test_two_parts_of_a_game_equal_the_whole_run(alg):
    """With sticky actions, whose chance the emulator draws itself, and no-ops at the start."""
    twice([*FLAGS, *alg, "--env=Assault", "--sticky=True", "--noop=5", "--eps_decay=100", "--batch_size=2",
           "--train_batches=1"], 60, 100)


@pytest.mark.parametrize("option", [["--env=CartPole-v1", "--alg=dqn", "--optimizer=rmsprop"],
                                    ["--env=Match-v0", "--alg=sac", "--test_rollouts=0"],
                                    ["--env=Match-v0", "--alg=sac", "--env_type=normal", "--checkpoint_every=0"],
                                    ["--env=Hopper-v4", "--alg=td3", "--engine=eager", "--checkpoint_every=3"]],
                         ids=str)
def test_other_kinds_of_runs_resume(option):
    twice([*FLAGS, *option], 100, 160)


@pytest.mark.parametrize("flags", [["--num_envs=2", *flags_of("rrd", "sac"), "--env=Hopper-v4"],
                                   ["--num_envs=3", "--alg=dqn", "--env=CartPole-v1"]], ids=str)
@pytest.mark.sampled(1)
def test_several_environments(flags):
    twice([*FLAGS, *flags], 80, 160)


def test_three_parts_and_a_run_that_has_ended_already():
    argv = [*FLAGS, *flags_of("rrd", "sac"), "--env=Hopper-v4"]
    parts = run(*argv, "--total_timesteps=47", "--tag=parts")
    for steps in (100, 133, 133):
        assert train.main([f"--resume={parts}", f"--total_timesteps={steps}"]) == 0
    same(parts, run(*argv, "--total_timesteps=133", "--tag=whole"))


@pytest.mark.parametrize("steps", [1, 3, 4, 7])
@pytest.mark.sampled(2)
def test_a_run_that_is_asked_to_stop_saves_itself_and_resumes(steps, monkeypatch):
    """After so many iterations; a second and a third request change nothing."""
    argv = [*FLAGS, *flags_of("rrd", "sac"), "--env=Hopper-v4", "--total_timesteps=180"]
    whole = run(*argv, "--tag=whole")
    calls, check = [], Stop.check

    def ask(self):
        calls.append(self)
        if len(calls) == steps:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                signal.raise_signal(number)
        check(self)
    with monkeypatch.context() as patched:
        patched.setattr(Stop, "check", ask)
        assert train.main([*argv, "--tag=parts"]) == 75
    (parts,) = Path("outputs").glob("parts*")
    assert train.main([*argv, "--tag=parts", "--on_existing=resume"]) == 0
    assert len(list(Path("outputs").glob("parts*"))) == 1
    same(parts, whole)


def test_ctrl_c_prints_how_to_resume(monkeypatch, capsys):
    monkeypatch.setattr(Stop, "check", lambda self: signal.raise_signal(signal.SIGINT) or _stop())
    assert train.main([*SMALL_RRD, "--env=Match-v0"]) == 130
    shown = capsys.readouterr()
    assert shown.err == "train.py: interrupted\n"
    (directory,) = Path("outputs").iterdir()
    assert f"saved after 20 steps; resume with --resume={directory}" in shown.out


def _stop():
    raise Stopped


# Settings of a resumed run --------------------------------------------------------------------------------------

def test_on_existing():
    argv = [*SMALL, "--alg=sac", "--env=Match-v0", "--tag=one"]
    first = run(*argv)
    second = run(*argv)                                             # new
    assert run(*argv, "--on_existing=resume") is None               # the last one, which has ended
    (second / "mark").touch()
    assert train.main([*argv, "--on_existing=overwrite"]) == 0
    assert first.is_dir()
    assert len(list(Path("outputs").iterdir())) == 2
    assert not (second / "mark").exists()
    assert run(*argv[:-1], "--tag=two", "--on_existing=resume").name.startswith("two")


def test_a_directory_is_named_after_its_basis_and_one_of_an_older_name_is_found():
    argv = [*SMALL_RRD, "--env=Match-v0", "--basis_alg=td3"]
    (sac, td3) = (run(*argv[:-1]), run(*argv))
    assert sac.name.startswith("rrd-sac-Match-v0_")
    assert td3.name.startswith("rrd-td3-Match-v0_")
    assert run(*SMALL, "--env=Match-v0", "--alg=sac").name.startswith("sac-Match-v0_")
    assert run(*argv, "--tag=a b", "--seeds=3").name.startswith("a_b-rrd-td3-Match-v0_seed3_")
    older = td3.rename(td3.with_name(td3.name.replace("rrd-td3-", "rrd-")))
    assert run(*argv, "--on_existing=resume") is None
    assert json.loads((older / "run.json").read_text())["resumed"]
    assert not json.loads((sac / "run.json").read_text())["resumed"]


MAY_CHANGE = (" (only epochs, total_timesteps, save_rews, checkpoint_every, worker_restarts, worker_timeout, "
              "track, run_dir and on_nan may change)")


def test_what_may_change_is_what_the_error_and_the_documents_list(capsys):
    argv = [*SMALL, "--alg=sac", "--env=Match-v0"]
    directory = run(*argv)
    changed = ["--total_timesteps=160", "--save_rews=False", "--checkpoint_every=2", "--worker_restarts=1",
               "--worker_timeout=9"]
    assert train.main([*argv, *changed, "--on_existing=resume"]) == 0
    capsys.readouterr()
    assert train.main([*argv, *changed, "--on_existing=resume", "--gamma=0.5"]) == 2
    assert capsys.readouterr().err == (
        f"train.py: on_existing: '{directory}' was run with other settings: gamma 0.99 -> 0.5; expected the same ones, "
        f"or a new run by --on_existing=new{MAY_CHANGE}\n")
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    line = page[page.index("**Settings**"):page.index("may change.")]
    assert re.findall(r"`(\w+)`", line) == list(record.directories.MAY_CHANGE)


def test_another_setting_is_refused_with_all_differences(capsys):
    directory = run(*SMALL, "--alg=sac", "--env=Match-v0")
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert train.main([f"--resume={directory}", "--gamma=0.5", "--batch_size=9", "--save_rews=False"]) == 2
    assert capsys.readouterr().err == (
        f"train.py: resume: '{directory}' was run with other settings: batch_size 8 -> 9, gamma 0.99 -> 0.5; expected "
        f"the same ones, or a new run without --resume{MAY_CHANGE}\n")
    assert before == {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("flags", "message"), [
    (["--resume=nowhere"], "resume: got 'nowhere', expected a run's directory, such as outputs/RUN"),
    (["--resume=x", "--config=y"], "config: not read with --resume, whose run has its settings"),
    (["--resume=x", "--seeds=0,1"], "seeds: not read with --resume, whose run has its settings; --on_existing=resume "
                                    "resumes several seeds"),
    (["--on_existing=maybe"], "on_existing: got 'maybe', expected one of new, resume, overwrite"),
])
def test_wrong_flags(flags, message, capsys):
    assert train.main(flags) == 2
    assert capsys.readouterr().err == f"train.py: {message}\n"


def test_a_run_that_another_process_writes_is_not_touched(capsys):
    directory = run(*SMALL, "--alg=sac", "--env=Match-v0", "--tag=x")
    store = Store(directory / "checkpoints" / "resume")
    store.open()
    for flags in (["--resume=" + str(directory)], [*SMALL, "--alg=sac", "--env=Match-v0", "--tag=x",
                                                   "--on_existing=overwrite"]):
        assert train.main(flags) == 2
        assert "in use by another process" in capsys.readouterr().err
    store.close()
    assert train.main([f"--resume={directory}"]) == 0


def test_several_seeds_resume_and_each_equals_its_single_run():
    argv = [*FLAGS, *flags_of("rrd", "sac"), "--env=Hopper-v4", "--total_timesteps=60", "--tag=many"]
    assert train.main([*argv, "--seeds=0,1"]) == 0
    longer = [*argv[:-2], "--total_timesteps=120"]
    assert train.main([*longer, "--tag=many", "--seeds=0,1", "--on_existing=resume"]) == 0
    for seed in (0, 1):
        (parts,) = Path("outputs").glob(f"many*_seed{seed}_*")
        same(parts, run(*longer, f"--seed={seed}", f"--tag=single{seed}"))


def test_other_versions_are_reported_and_recorded(capsys, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(record.system, "_version", lambda package: "1.2.3" if package == "mujoco" else version(package))
        patched.setattr(record.system, "PACKAGES", [name for name in record.system.PACKAGES if name != "tensorflow"])
        directory = run(*SMALL, "--alg=sac", "--env=Match-v0")
    assert train.main([f"--resume={directory}", "--total_timesteps=160"]) == 0
    change = f"mujoco 1.2.3 -> {version('mujoco')}"
    assert f"the numbers may differ from those of an uninterrupted run: {change}" in capsys.readouterr().out
    (resumed,) = json.loads((directory / "run.json").read_text())["resumed"]
    assert (resumed["at"], resumed["changes"]) == (120, [change])


# Environments ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("env", ["Ant-v4", "Humanoid-v4", "Assault"])
def test_playing_an_episode_again_is_exact(env):
    config = resolve({"env": env, "alg": "dqn" if env == "Assault" else "sac", "test_timesteps": 50, "env_type":
                      "normal"} | ({"sticky": True} if env == "Assault" else {}))
    ours, theirs = make_env(config), make_env(config)
    origin = Origin(ours, 3)
    space = copy.deepcopy(ours.action_space)                        # the environment may draw from its own
    space.seed(0)
    for _ in range(3):                                              # the third one has a generator's state before it
        first, _ = origin.reset()
        steps = []
        for _ in range(20):
            action = space.sample()
            obs, reward, done, over, _ = ours.step(action)
            steps.append((action, reward, done, obs))
            if done or over:
                break
    before, acts = json.loads(json.dumps(origin.before)), [step[0] for step in steps]
    again, played = replay_actions(Origin(theirs, 3), before, acts)
    assert (again == first).all()
    assert len(played) == len(steps)
    for (_, reward, done, obs), (_, other, ended, seen) in zip(steps, played, strict=True):
        assert (reward, done) == (other, ended)
        assert (obs == seen).all()
    assert json.dumps(random_state(theirs)) == json.dumps(random_state(ours))
    set_random_state(theirs, random_state(ours))


def test_an_environment_that_does_not_repeat_itself_is_reported(capsys):
    directory = run(*FLAGS, "--alg=sac", "--env=tiny_envs:Forgetful-v0", "--total_timesteps=50")
    assert train.main([f"--resume={directory}", "--env=tiny_envs:Forgetful-v0", "--total_timesteps=100"]) == 0
    assert "1 open episode could not be restored" in capsys.readouterr().out


# Processes ------------------------------------------------------------------------------------------------------

def start(*argv: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(ROOT / "train.py"), *argv], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
@pytest.mark.sampled(1)
def test_a_signal_ends_a_process_with_its_code(number, code):
    process = start(*FLAGS, "--alg=sac", "--env=Hopper-v4", "--total_timesteps=10000000")
    for line in process.stdout:
        if line.startswith("Epoch"):
            break
    for _ in range(3):
        process.send_signal(number)
        time.sleep(0.02)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert re.fullmatch(r"train.py: (interrupted|stopped by SIG\w+)\n", err)
    assert "; resume with --resume=" in out
    (directory,) = Path("outputs").iterdir()
    assert digest(directory)


def test_a_damaged_run_gives_a_one_line_error(capsys):
    directory = run(*SMALL, "--alg=sac", "--env=Match-v0")
    for path in (directory / "checkpoints" / "resume").rglob("manifest.json"):
        path.write_bytes(path.read_bytes()[:-5])
    assert train.main([f"--resume={directory}"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "damaged manifest" in err
    with pytest.raises(CheckpointError):
        digest(directory)


@pytest.mark.parametrize("name", ["run-1", "run-2"])
def test_old_runs_are_resumed(name):
    """tests/reference/README.md says how they were made. Their files never change."""
    kept = ROOT / "tests" / "reference" / name
    shutil.copytree(kept, "kept")
    assert digest(Path("kept")) == json.loads((kept / "digest.json").read_text())
    config = with_sizes(resolve(json.loads((kept / "config.json").read_text())), 4, 2)
    create_agent(config).load_model("kept/checkpoints/last.safetensors")
    assert train.main(["--resume=kept", "--total_timesteps=150"]) == 0
    assert [row["Timesteps"] for row in rows(Path("kept/metrics.csv").read_text())] == ["40", "80", "120", "150"]


# Found by a review ----------------------------------------------------------------------------------------------

def test_a_run_is_locked_from_its_start(monkeypatch, capsys):
    """Also before the first save; otherwise a second process would restart in its directory."""
    argv = [*SMALL, "--alg=sac", "--env=Match-v0", "--tag=x", "--checkpoint_every=0"]
    codes = []

    def second(self):
        if not codes:
            codes.append(None)
            codes[:] = [train.main([*argv, f"--on_existing={how}"]) for how in ("resume", "overwrite")]
    with monkeypatch.context() as patched:
        patched.setattr(Stop, "check", second)
        assert train.main(argv) == 0
    assert codes == [2, 2]
    assert capsys.readouterr().err.count("in use by another process") == 2


def test_a_finished_run_without_checkpoints_is_not_overwritten(capsys):
    directory = run(*SMALL, "--alg=sac", "--env=Match-v0")
    before = (directory / "metrics.csv").read_bytes()
    resume = directory / "checkpoints" / "resume"
    (resume / "a" / "manifest.json").unlink()
    assert train.main([f"--resume={directory}"]) == 0                   # the other one holds the last generation
    assert "a/manifest.json: missing" in capsys.readouterr().out
    (resume / "b" / "manifest.json").unlink()
    assert train.main([f"--resume={directory}"]) in (0, 2)
    shutil.rmtree(resume)
    assert train.main([f"--resume={directory}"]) == 2
    assert "missing, so the run cannot be resumed" in capsys.readouterr().err
    assert (directory / "metrics.csv").read_bytes() == before


def test_settings_are_compared_with_the_saved_ones_not_with_an_edited_file(capsys):
    directory = run(*SMALL, "--alg=sac", "--env=Match-v0")
    path = directory / "config.json"
    path.write_text(path.read_text().replace('"gamma": 0.99', '"gamma": 0.5'))
    assert train.main([f"--resume={directory}", "--total_timesteps=200"]) == 2
    assert "gamma 0.99 -> 0.5" in capsys.readouterr().err


def test_a_longer_run_repeats_the_last_evaluation_that_was_stopped(monkeypatch):
    argv = [*FLAGS, *flags_of("rrd", "sac"), "--env=Hopper-v4"]
    calls, check = [], Stop.check

    def ask(self):
        calls.append(self)
        if len(calls) == 20:
            signal.raise_signal(signal.SIGTERM)
        check(self)
    with monkeypatch.context() as patched:
        patched.setattr(Stop, "check", ask)
        assert train.main([*argv, "--total_timesteps=47", "--tag=parts"]) == 75
    (parts,) = Path("outputs").glob("parts*")
    for steps in (47, 133):
        assert train.main([f"--resume={parts}", f"--total_timesteps={steps}"]) == 0
    same(parts, run(*argv, "--total_timesteps=133", "--tag=whole"))


def test_runs_of_one_tag_are_distinguished_by_their_seeds():
    argv = [*SMALL, "--alg=sac", "--env=Match-v0", "--tag=x"]
    first, second = (run(*argv, f"--seed={seed}") for seed in (1, 2))
    assert train.main([*argv, "--seed=1", "--on_existing=resume"]) == 0
    (first / "mark").touch()
    assert train.main([*argv, "--seed=2", "--on_existing=overwrite"]) == 0
    assert (first / "mark").exists()
    assert len(list(Path("outputs").iterdir())) == 2 or not second.exists()


def test_a_resumed_run_removes_its_old_error():
    directory = run(*FLAGS, "--alg=sac", "--env=Hopper-v4", "--total_timesteps=60")
    (directory / "error.txt").write_text("SaveError: no space\n")
    assert train.main([f"--resume={directory}", "--gamma=0.5"]) == 2
    assert (directory / "error.txt").exists()                           # it was not resumed
    assert train.main([f"--resume={directory}", "--total_timesteps=80"]) == 0
    assert not (directory / "error.txt").exists()


def hears(pid: int, number: int) -> bool:
    """Whether a process has set a handler of this signal."""
    (mask,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_signals_before_and_after_a_run_have_its_exit_codes():
    for number, code in ((signal.SIGTERM, 75), (signal.SIGINT, 130)):
        process = start(*FLAGS, "--alg=sac", "--env=Hopper-v4", "--total_timesteps=10000000")
        while not hears(process.pid, signal.SIGTERM):                       # then it is within the imports
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code
        assert "Traceback" not in err


@pytest.mark.slow
def test_a_reader_may_close_the_pipe():
    process = start(*FLAGS, "--alg=sac", "--env=Hopper-v4", "--total_timesteps=200")
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert process.stderr.read() == ""
    process.stderr.close()
    (directory,) = Path("outputs").iterdir()
    assert rows((directory / "metrics.csv").read_text())[-1]["Timesteps"] == "200"


def test_a_record_that_lacks_a_newer_setting_of_its_algorithm_has_its_default(tmp_path):
    config = resolve({"alg": "iqn", "env": "CartPole-v1", "device": "cpu"})
    older = {name: value for name, value in config.settings().items() if name != "grad_accum_steps"}
    record.directories.compare(older, config, tmp_path)
    with pytest.raises(ConfigError, match="grad_accum_steps 1 -> 2"):
        record.directories.compare(older, dataclasses.replace(config, grad_accum_steps=2), tmp_path)
