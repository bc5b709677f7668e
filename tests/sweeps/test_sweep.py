"""Environments x algorithms x seeds: each trial equals its single run; failed and stopped ones are resumed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console
from runs import ROOT, SMALL
from saved import digest

import sweep
import train
from record.directories import finished
from sweeps import board, lanes, ray_lanes, suite
from utils.installed import as_called

COMMON = dict(flag.lstrip("-").split("=") for flag in SMALL)
RUNS = {"SAC": {"alg": "sac"}, "RRD-SAC": {"alg": "rrd", "rrd_batch_size": 8, "rrd_sample_size": 4}}


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    """Trials find the tests' environments."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def write(env=("Pendulum-v1",), runs=RUNS, **common) -> str:
    Path("suite.json").write_text(json.dumps({"common": COMMON | common, "env": list(env), "runs": runs}))
    return "suite.json"


def directories(pattern: str) -> list[Path]:
    return sorted(path for path in Path("outputs").glob(pattern) if (path / "config.json").exists())


def test_every_trial_is_its_single_run(capsys):
    assert sweep.main([write(runs={"RRD-SAC": RUNS["RRD-SAC"]}), "--seeds=0-2", "--jobs=2"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("3 done\n")
    assert out.count(": running") == out.count(": done") == 3
    assert len(directories("*")) == 3
    (ours,) = directories("RRD-SAC_seed_1-*")
    single = ["--tag=single", "--seed=1", "--env=Pendulum-v1", *SMALL,
              *(f"--{name}={value}" for name, value in RUNS["RRD-SAC"].items())]
    assert train.main(single) == 0
    (theirs,) = directories("single*")
    assert digest(ours) == digest(theirs)


def test_the_same_command_again_resumes(capsys, monkeypatch):
    suite = write(runs={"SAC": RUNS["SAC"]})
    assert sweep.main([suite]) == 0
    (run,) = directories("*")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    first = capsys.readouterr().out
    monkeypatch.setattr(lanes.Lanes, "start", lambda self, trial: pytest.fail("a process was started"))
    assert sweep.main([suite]) == 0
    assert directories("*") == [run]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    second = capsys.readouterr().out
    assert re.fullmatch(r"SAC, Pendulum-v1, seed 0: done; return -[\d.]+ after 120 steps\n1 done\n", second)
    assert second.splitlines() == first.splitlines()[1:]


def ended(run: Path, **changes):
    """What `finished` finds of the suite's only trial, with changed settings."""
    (trial,) = suite.read_suite(Path(write(runs={"SAC": RUNS["SAC"]}, **changes)), "0", [])
    return finished(trial.config, Path("outputs"))


def test_only_what_has_ended_as_it_is_asked_for_needs_no_process():
    assert sweep.main([write(runs={"SAC": RUNS["SAC"]})]) == 0
    (run,) = directories("*")
    assert ended(run)["Timesteps"] == "120"
    assert ended(run, test_rollouts=2, worker_restarts=1) is not None
    assert ended(run, total_timesteps=121) is None                      # not done
    assert ended(run, total_timesteps=100) is not None
    assert ended(run, gamma=0.5) is None                                # train.py says what differs
    metrics = (run / "metrics.csv").read_text()
    for damaged in ("", metrics.splitlines()[0], metrics.replace("Timesteps", "Steps2"), "\0"):
        (run / "metrics.csv").write_text(damaged)
        assert ended(run) is None
    (run / "metrics.csv").write_text(metrics)
    assert ended(run) is not None
    (run / "error.txt").write_text("SaveError: no space\n")
    assert ended(run) is None


@pytest.mark.slow
def test_a_trial_that_fails_is_tried_again_and_reported_and_stops_no_other(capsys):
    runs = {"bad": {"alg": "sac", "num_envs": 2, "worker_restarts": 0}, "SAC": {"alg": "sac"}}
    env = "tiny_envs:Fails-kill-v0"
    suite = write([env], {"bad": runs["bad"]})
    assert sweep.main([suite]) == 2
    assert capsys.readouterr().err == ("sweep.py: env: 'tiny_envs:Fails-kill-v0' names a module to import, which only "
                                       "a flag may: give --import=tiny_envs\n")
    assert sweep.main([suite, "--retries=2", "--import=tiny_envs"]) == 1
    err = capsys.readouterr().err
    assert re.match(r"sweep\.py: bad, tiny_envs:Fails-kill-v0, seed 0: failed 3 times: train\.py: env: .* "
                    r"\(whole log: outputs/sweep/bad_tiny_envs_Fails-kill-v0_seed_0\.log\)\n$", err)
    full = runs | {"bad": {"alg": "sac", "buffer_size": 10**15}}
    assert sweep.main([write(["Pendulum-v1"], full), "--retries=0"]) == 1
    reported = capsys.readouterr()
    assert "SAC, Pendulum-v1, seed 0: done" in reported.out
    assert "bad, Pendulum-v1, seed 0: failed once: train.py: buffer_size" in reported.err


GOOD = {"env": ["A"], "runs": {"x": {"alg": "sac"}}}


@pytest.mark.parametrize(("suite", "message"), [
    ({}, "env: missing in 'suite.json'"),
    ({"env": ["A"], "runs": {"x": 3}}, "runs: 'x': got 3, expected an object of settings"),
    (GOOD | {"env": "A"}, 'env: got "A", expected a list of environments, at least one'),
    (GOOD | {"env": []}, "env: got [], expected a list of environments, at least one"),
    (GOOD | {"env": [3]}, "env: got 3, expected the id of an environment"),
    (GOOD | {"env": [""]}, 'env: got "", expected the id of an environment'),
    (GOOD | {"env": [{"a:": 1}]}, 'env: got {"a:": 1}, expected the id of an environment'),
    (GOOD | {"env": ["A", "B", "A"]}, "env: got 'A' 2 times, expected each once"),
    (GOOD | {"runs": {}}, "runs: got {}, expected an object of runs by name, at least one"),
    (GOOD | {"common": []}, "common: got [], expected an object of settings"),
    (GOOD | {"more": 1}, "more: unknown in a suite, expected common, env, runs"),
    (GOOD | {"runs": {"x": {"alg": "what"}}}, "runs: 'x': alg: got 'what', expected one of"),
    (GOOD | {"runs": {"x": {"alg": "sac", "gama": 1}}}, "runs: 'x': gama: unknown setting; did you mean gamma?"),
    (GOOD | {"common": {"lr": 1}}, "common: lr: unknown setting; expected pi_lr, q_lr or r_lr "),
    (GOOD | {"runs": {"x": {"completion": "bash"}}}, "runs: 'x': completion: unknown setting"),
    (GOOD | {"runs": {"x": {"gamma": [1]}}}, "runs: 'x': gamma: got [1], expected a finite number"),
    (GOOD | {"runs": {"x": {"runtime": {"gamma": 1}}}}, "runs: 'x': runtime.gamma: not a setting of this section"),
    (GOOD | {"runs": {"x": {"seed": 1}}}, "runs: 'x': seed: not read here: --seeds chooses"),
    (GOOD | {"common": {"tag": "t"}}, "common: tag: not read here: the run's name is the tag"),
    (GOOD | {"common": {"on_existing": "new"}}, "common: on_existing: not read here: the same command always resumes"),
    (GOOD | {"runs": {"": {}}}, "runs: got '', expected a name of 1 to 60 printable characters"),
    (GOOD | {"runs": {"a\nb": {}}}, "runs: got 'a\\nb', expected a name of 1 to 60 printable characters"),
    (GOOD | {"runs": {61 * "x": {}}}, "runs: got 'xxxxx"),
    (GOOD | {"runs": {"A B": {}, "A/B": {}}}, "runs: 'A B, A, seed 0' and 'A/B, A, seed 0' would share a directory; "),
    (GOOD | {"env": ["Hopper-v4", "Hopper-v2"]}, "env: got 'Hopper-v4' and 'Hopper-v2', one task, Hopper-v4; "),
    (GOOD | {"env": ["Hopper-v4", "Pendulm-v1"]}, "env: got 'Pendulm-v1'; did you mean Pendulum-v1?"),
])
def test_a_wrong_suite_gives_a_one_line_error_and_nothing_is_started(suite, message, capsys):
    Path("suite.json").write_text(json.dumps(suite))
    assert sweep.main(["suite.json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"sweep.py: {message}")
    assert err.count("\n") == 1
    assert not Path("outputs").exists()


@pytest.mark.parametrize("settings", [{"alg": "sac", "env": "Pendulum-v1"}, {"policy": {"pi_lr": 1e-3}}])
def test_a_file_of_settings_leads_to_train_and_a_suite_to_sweep(settings, capsys):
    Path("my run.json").write_text(json.dumps(settings))
    assert sweep.main(["my run.json"]) == 2
    assert capsys.readouterr().err == as_called("sweep.py: 'my run.json' holds the settings of one run; "
                                                "`python train.py --config 'my run.json'` runs it\n")
    assert train.main(["--config", write()]) == 2
    assert capsys.readouterr().err == as_called("train.py: config: 'suite.json' is a suite of runs; "
                                                "`python sweep.py suite.json` runs it\n")
    assert not Path("outputs").exists()


def test_settings_may_be_in_sections_and_null_is_not_given():
    Path("suite.json").write_text(json.dumps({
        "common": {"runtime": {"total_timesteps": 50}, "env": {"test_rollouts": 2}, "gamma": 0.9, "noop": None},
        "env": ["Ant-v4"], "runs": {"x": {"alg": "sac", "env": {"test_rollouts": 3}, "gamma": None, "pi_lr": 1e-3}}}))
    (trial,) = suite.read_suite(Path("suite.json"), "7", ["tiny_envs"])
    assert trial.flags == ["--import=tiny_envs", "--total_timesteps=50", "--test_rollouts=3", "--alg=sac",
                           "--pi_lr=0.001", "--env=Ant-v4", "--seed=7", "--tag=x seed 7", "--on_existing=resume"]


@pytest.mark.parametrize("flags", [
    ["nowhere.json"], ["suite.json", "--seeds=x"], ["suite.json", "--jobs=0"],
    ["suite.json", "--jobs=\u00b2"], ["suite.json", "--retries=-1"], ["suite.json", "--retries=x"],
    ["suite.json", "--nope"], ["suite.json", "--import=no_such_module"], []])
def test_wrong_flags(flags, capsys):
    write()
    assert sweep.main(flags) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_ray_one_line_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert sweep.main([write(), "--engine=ray"]) == 2
    assert capsys.readouterr().err == (
        "sweep.py: engine: ray is not installed; pip install -e '.[ray]' installs it\n")


@pytest.fixture(autouse=True)
def _hangup_is_not_ignored():
    """Start a sweep as a terminal does; under `nohup` it would inherit that SIGHUP is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "code", "reported"), [
    (signal.SIGINT, 130, "interrupted"), (signal.SIGHUP, 75, "stopped by SIGHUP")])
@pytest.mark.sampled(1)
def test_a_signal_stops_all_trials_which_save_themselves(number, code, reported):
    with long_sweep() as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    waiting, end = err.splitlines()
    names = "SAC, Pendulum-v1, seed 0; RRD-SAC, Pendulum-v1, seed 0"
    assert waiting.startswith(f"sweep.py: {reported}; waiting until {names} have saved; ")
    assert end == f"sweep.py: {reported}; run the same command to resume"
    assert out.endswith("2 stopped\n")
    assert all(digest(path) for path in directories("*"))
    assert children() == []


@contextlib.contextmanager
def long_sweep(*flags, program=(ROOT / "sweep.py",), **settings):
    """A sweep that would run for days, with both of its trials training."""
    write(total_timesteps=100_000_000)
    before = len(list(Path("outputs").glob("*/checkpoints/last.safetensors")))
    with subprocess.Popen([sys.executable, *program, "suite.json", "--jobs=2", *flags], text=True,
                          **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings)) as process:
        end = time.monotonic() + 120
        while len(list(Path("outputs").glob("*/checkpoints/last.safetensors"))) < before + 2:
            assert time.monotonic() < end
            time.sleep(0.1)
        yield process


def children() -> list[int]:
    """Processes whose directory is this test's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").resolve() == Path.cwd() and process.name != str(os.getpid()):
                found.append(int(process.name))
    return found


@pytest.mark.slow
def test_a_closed_pipe_does_not_stop_the_sweep():
    reader, writer = os.pipe()
    os.close(reader)
    with long_sweep(stdout=writer) as process:
        assert len(children()) == 3
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    os.close(writer)
    assert process.returncode == 75
    assert children() == []


@pytest.mark.slow
def test_trials_of_a_killed_sweep_save_themselves():
    with long_sweep() as process:
        process.kill()
        process.communicate(timeout=60)
        wait_until(lambda: children() == [])
    assert all(digest(path) for path in directories("*"))
    assert sweep.main([write(total_timesteps=100), "--seeds=1", "--jobs=2"]) == 0           # and others may begin


def wait_until(done, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_trial_that_hangs_is_killed_by_another_ctrl_c(monkeypatch):
    code = "import utils.stop, sweep, sys; utils.stop.PATIENCE = 0.5; sys.exit(sweep.main(sys.argv[1:]))"
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with long_sweep(program=("-c", code)) as process:
        hung = [one for one in children() if one != process.pid]
        os.kill(hung[0], signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        assert "waiting until" in process.stderr.readline()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "sweep.py: interrupted\n"), err
    assert children() == []


@pytest.mark.slow
def test_a_closed_terminal_ends_the_sweep_with_its_exit_code():
    main, other = pty.openpty()
    with long_sweep(stdout=other, stderr=other, stdin=other, start_new_session=True) as process:
        os.close(other)
        os.close(main)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 75
    assert children() == []


@pytest.mark.slow
def test_an_error_in_the_sweep_itself_ends_its_trials(monkeypatch):
    def fail(trial, code):
        if trial.new_lines():
            monkeypatch.setattr(sweep, "look", look)
            raise RuntimeError("of its own")
    look = sweep.look
    monkeypatch.setattr(sweep, "look", fail)
    with pytest.raises(RuntimeError, match="of its own"):
        sweep.main([write(total_timesteps=100_000_000), "--jobs=2"])
    assert children() == []


@pytest.mark.slow
def test_a_trial_that_another_process_runs_is_no_failure(capsys):
    with long_sweep() as process:
        assert sweep.main(["suite.json"]) == 75
        out, err = capsys.readouterr()
        assert out.endswith("2 elsewhere\n")
        assert err.splitlines() == ["sweep.py: SAC, Pendulum-v1, seed 0: another process is running it",
                                    "sweep.py: RRD-SAC, Pendulum-v1, seed 0: another process is running it",
                                    "sweep.py: unfinished; run the same command to resume"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_a_trial_that_was_stopped_from_outside_is_not_done(capsys):
    def stop_it():
        end = time.monotonic() + 60
        while not list(Path("outputs").glob("*/checkpoints/last.safetensors")) and time.monotonic() < end:
            time.sleep(0.1)
        for one in children():
            os.kill(one, signal.SIGTERM)
    thread = threading.Thread(target=stop_it)
    suite_file = write(runs={"SAC": RUNS["SAC"]}, total_timesteps=100_000_000)
    thread.start()
    assert sweep.main([suite_file]) == 75
    thread.join()
    out, err = capsys.readouterr()
    assert out.endswith("1 stopped\n")
    assert err == ("sweep.py: SAC, Pendulum-v1, seed 0: stopped by a signal from outside\n"
                   "sweep.py: unfinished; run the same command to resume\n")


def test_a_sweep_whose_trials_end_never_imports_pytorch():
    """Ctrl-C in the middle of that import ended the process by a segmentation fault."""
    code = ("import sys, types; import sweep, sweeps.lanes, sweeps.board; from utils.stop import Stop\n"
            "trial = types.SimpleNamespace(error='', stopping=False, name='a', state='done', new_lines=lambda: [])\n"
            "assert sweep.look(trial, 0)\nprint('torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_trial_has_one_thread_and_no_terminal(monkeypatch, tmp_path):
    monkeypatch.delenv("OMP_NUM_THREADS")
    (tmp_path / "train.py").write_text("import os, sys; print(os.environ['OMP_NUM_THREADS'], sys.stdin.read() == '')")
    assert lanes.spawn([], "log", ".", [str(tmp_path / "train.py")]).wait() == 0
    assert Path("log").read_text() == "1 True\n"


@pytest.mark.parametrize(("code", "log", "state", "reported", "again"), [
    (0, "", "done", "", False), (75, "", "stopped", "", False), (130, "", "stopped", "", False),
    (1, "Epoch=0  Rewards=3\ntrain.py: no disk\nEpoch=9  Rewards=4\n", "failed", "train.py: no disk", True),
    (2, "train.py: gamma: wrong\n", "failed", "train.py: gamma: wrong", False),
    (2, "train.py: d: in use by another process, expected to be alone\n", "elsewhere", None, False),
    (-9, "", "failed", "killed by SIGKILL", True), (1, "Traceback\n", "failed", "exit code 1", True),
    (1, 'Traceback (most recent call last):\n  File "a"\nKeyError: 3\nin two lines\n', "failed", "KeyError: 3", True),
    (1, "Traceback (most recent call last):\nOSError: x\ntrain.py: no disk\n", "failed", "train.py: no disk", True)])
def test_the_state_of_a_trial_follows_from_its_exit_code_and_its_own_lines(code, log, state, reported, again):
    trial = suite.Trial("a, b", {})
    trial.log.parent.mkdir(parents=True)
    trial.log.write_text("train.py: an older try's\n")
    trial.read = trial.log.stat().st_size
    with open(trial.log, "a") as file:
        file.write(log)
    assert sweep.look(trial, code)
    assert (trial.state, trial.may_recover) == (state, again)
    assert reported is None or trial.error == reported
    if "Epoch=9" in log:
        assert trial.fields == {"Epoch": "9", "Rewards": "4"}


@pytest.mark.parametrize("height", [12, 24, 200])
def test_the_live_table_shows_running_trials(height):
    states = ["done"] * 40 + ["running"] * 2 + ["failed"] + ["waiting"] * 17
    trials = [suite.Trial(f"[/b] {i}", {}, state=state) for i, state in enumerate(states)]
    file = io.StringIO()
    Console(file=file, width=80, height=height).print(board.table(trials, height, 80))
    lines = file.getvalue().splitlines()
    assert len(lines) <= max(height, 40 + 2 + 1 + 5)
    assert len(lines) <= height or height == 200
    assert [line.split()[2] for line in lines if "running" in line and "[/b]" in line] == ["40", "41"]
    assert "40 done, 2 running, 1 failed, 17 waiting" in lines[-1]


class Length:
    """The settings of a run, as far as its length."""

    run_length = 1000


def trial_at(steps: int, began=(100.0, 0), now: float = 110.0, state: str = "running", name: str = "a") -> suite.Trial:
    """A trial whose last line of the record was written now."""
    return suite.Trial(name, {}, config=Length(), state=state, began=began, last=(now, steps),
                       fields={"Timesteps": str(steps), "Rewards": "-1234.5678"})


def test_the_time_left_follows_from_the_speed_of_this_try():
    trial = trial_at(500)                                               # 50 steps a second
    assert trial.left(110.0) == 10
    assert trial.left(114.0) == 6                                       # it has gone on since
    assert trial.left(999.0) == 0
    assert trial_at(500, began=(100.0, 400)).left(110.0) == 50          # resumed after 400 steps: 10 a second
    assert suite.Trial("a", {}, config=Length(), state="running").left(110.0) is None
    assert trial_at(500, state="done").left(110.0) is None


def test_the_time_left_of_the_sweep_counts_what_waits_and_the_slowest():
    waiting = suite.Trial("w", {}, config=Length())
    both = [trial_at(500), trial_at(500)]
    assert board.seconds_left([*both, trial_at(1000, state="done")], 110.0) == 10
    assert board.seconds_left([*both, waiting, waiting], 110.0) == (500 + 500 + 2000) / 100
    assert board.seconds_left([trial_at(900), trial_at(100)], 110.0) == 90
    assert board.seconds_left([waiting], 110.0) is None
    begins = suite.Trial("b", {}, config=Length(), state="running")     # at the others' speed
    assert board.seconds_left([*both, begins], 110.0) == pytest.approx(2000 / 150)


def test_a_log_says_where_a_resumed_trial_began():
    trial = suite.Trial("a, b", {}, config=Length(), state="running")
    trial.log.parent.mkdir(parents=True)
    trial.log.write_text("env E: ...\nresumed after 400 steps of 1000\nEpoch=0  Timesteps=500  Progress=50%\n")
    sweep.read_log(trial)
    assert (trial.began[1], trial.last[1], trial.steps) == (400, 500, 500)


@pytest.mark.parametrize(("width", "steps"), [(60, "500/1000"), (120, "500/1000")])
def test_the_table_fits_and_says_how_many_steps_of_how_many_and_how_long(width, steps, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 110.0)
    long = "RRD with a name of forty letters or more, HalfCheetah-v4, seed "
    trials = [trial_at(500, name=f"{long}{i}") for i in range(12)] + [suite.Trial("w", {}, config=Length())]
    file = io.StringIO()
    Console(file=file, width=width, height=30).print(board.table(trials, 30, width))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if "running " in line]
    for i, row in enumerate(rows):
        words = row.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split()
        assert words[-5:] == [str(i), "running", steps, "0:00:10", "-1234.57"]
    assert len(rows) == 12
    assert lines[-1].startswith("12 running, 1 waiting; about 0:00:12 left")


@pytest.mark.parametrize(("name", "width", "shown"), [
    ("abc", 8, "abc"), ("abcdefghijkl", 8, "abc\u2026ijkl"), ("abcdefghijkl", 2, "abc\u2026ijkl"),
    ("\u6f22" * 9, 10, "\u6f22\u6f22 \u2026\u6f22\u6f22")])
def test_a_long_name_keeps_its_beginning_and_its_end(name, width, shown):
    assert board.shortened(name, width) == shown


def test_on_a_terminal_the_table_is_drawn(monkeypatch):
    main, other = pty.openpty()
    process = subprocess.Popen([sys.executable, ROOT / "sweep.py", write(runs={"SAC": RUNS["SAC"]})], stdout=other,
                               env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"})
    os.close(other)
    shown = b""
    with contextlib.suppress(OSError):                  # the other end closed
        while chunk := os.read(main, 65536):
            shown += chunk
    os.close(main)
    assert process.wait() == 0
    text = shown.decode()
    assert "running" in text
    assert re.search(r"SAC, Pendulum-v1, seed 0 .*done.*120.*-\d", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))
    assert "1 done" in text


@pytest.mark.parametrize("name", ["\u6f22" * 33, "x" * 60])
def test_long_names_are_distinguished_by_their_ends(name):
    write(["tiny_envs:Match-v0"], {name: {"alg": "sac"}, name[:-1] + "y": {"alg": "sac"}})
    trials = suite.read_suite(Path("suite.json"), "0-2", ["tiny_envs"])
    assert len({trial.log for trial in trials}) == len(trials) == 6
    for trial in trials:
        trial.log.parent.mkdir(parents=True, exist_ok=True)
        trial.log.touch()


@pytest.mark.slow
def test_trials_on_a_local_ray_cluster(capsys):
    pytest.importorskip("ray")
    assert sweep.main([write(runs={"SAC": RUNS["SAC"]}), "--seeds=0,1", "--engine=ray", "--jobs=2"]) == 0
    assert capsys.readouterr().out.endswith("2 done\n")
    assert len(directories("*")) == 2


@pytest.mark.slow
def test_a_signal_reaches_trials_on_a_cluster():
    pytest.importorskip("ray")
    with long_sweep("--engine=ray") as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert out.endswith("2 stopped\n")
    assert all(digest(path) for path in directories("*"))


@pytest.mark.parametrize(("address", "why"), [
    ("127.0.0.1:1", "Connection refused"), ("ray://127.0.0.1:1", "Connection refused"), ("127.0.0.1:99999", "")])
def test_a_cluster_that_does_not_answer_gives_a_one_line_error_at_once(address, why, monkeypatch, capsys):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    assert sweep.main([write(), "--engine=ray"]) == 2
    assert time.monotonic() - began < 12
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sweep.py: engine: RAY_ADDRESS={address} does not answer: {why}")


class Cluster:
    """A stand-in for Ray: a task begins only when the test starts it."""

    def __init__(self, cores: float):
        self.cores, self.cancelled = cores, []
        self.cloudpickle = self.exceptions = self
        self.RayError = RuntimeError

    def init(self, **options):
        pass

    def shutdown(self):
        pass

    def register_pickle_by_value(self, module):
        pass

    def cluster_resources(self):
        return {"CPU": self.cores}

    def remote(self, *given, **options):
        if given and not callable(given[0]):
            return given                                # a task: its arguments
        return lambda function: type("Remote", (), {"remote": staticmethod(lambda *args: args)})

    def wait(self, tasks, timeout):
        return [], tasks

    def cancel(self, task, force=False):
        self.cancelled.append((task, force))


@pytest.mark.parametrize("cores", [0, 0.5])
def test_a_cluster_without_cores_gives_a_one_line_error(cores, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", Cluster(cores))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert sweep.main([write(), "--engine=ray"]) == 2
    assert capsys.readouterr().err == "sweep.py: engine: the Ray cluster has no CPU, of which each trial needs one\n"


def test_a_trial_that_waits_for_the_cluster_can_be_stopped(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", cluster := Cluster(2))
    lane = ray_lanes.RayLanes(None)
    assert lane.jobs == 2
    trial = suite.Trial("a", {})
    lane.start(trial)
    assert lane.poll(trial) is None
    lane.stop(trial)
    assert lane.poll(trial) == 75
    (task, force), = cluster.cancelled
    assert not force
    assert ray_lanes.run_remotely(*task) == 75                              # in case it begins after all
    lane.start(trial)                                                   # a resumed sweep starts it again
    assert lane.poll(trial) is None
