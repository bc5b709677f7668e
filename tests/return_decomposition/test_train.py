"""`train`: every setting by name, environments as objects, callbacks, errors as exceptions."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import gymnasium as gym
import pytest
import tiny_envs
import torch
from resumes import same
from runs import ROOT, Finished
from runs import run as run_program

import evaluate
import train as program
from record.run import Run
from return_decomposition.training import train
from utils.errors import ConfigError, NotFiniteError, SeedsError
from utils.stop import SIGNALS, Stop

SIZES = dict(device="cpu", test_timesteps=10, timesteps=20, iterations=2, total_timesteps=120, warmup=40,
             buffer_size=200, batch_size=8, train_batches=5, test_rollouts=2)
SMALL = dict(alg="rrd", rrd_batch_size=8, rrd_sample_size=4, **SIZES)
FLAGS = [f"--{name}={value}" for name, value in SMALL.items()]


class Closing(tiny_envs.Match):
    """Counts how many of its kind are open."""

    open = 0

    def __init__(self, shift: float = 0.0):
        super().__init__(shift=shift)
        Closing.open += 1

    def close(self):
        Closing.open -= 1


class Broken(tiny_envs.Match):
    """Observes a NaN at step 75."""

    steps = 0

    def step(self, action):
        self.steps += 1
        obs, *rest = super().step(action)
        return obs * (float("nan") if self.steps == 75 else 1), *rest


def refused(**settings) -> str:
    """The message of the ConfigError that `train` raises; it must write nothing."""
    with pytest.raises(ConfigError) as caught:
        train(**settings)
    assert not Path("outputs").exists()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# The run ------------------------------------------------------------------------------------------------------------

def test_it_computes_what_the_program_computes_and_returns_the_run(capsys):
    run = train(env="Match-v0", **SMALL)
    shown = capsys.readouterr()
    theirs = run_program(*FLAGS, "--env=Match-v0")
    ours = Finished(run.directory)
    assert (ours.config, ours.untimed()) == (theirs.config, theirs.untimed())
    assert all(torch.equal(value, theirs.tensors()[name]) for name, value in ours.tensors().items())
    assert run.agent.updates == 25
    assert [row["Timesteps"] for row in run.metrics] == [40, 80, 120]
    assert run.metrics == [{name: float(value) for name, value in row.items() if value} for row in ours.rows]
    assert len(shown.out.splitlines()) == 5
    assert shown.err == ""


def test_calls_are_independent_of_each_other_and_of_the_thread():
    found = [train(env="Match-v0", **SMALL)]
    thread = threading.Thread(target=lambda: found.append(train(env="Match-v0", **SMALL)))
    thread.start()
    thread.join()
    first, second = (Finished(run.directory) for run in found)
    assert first.directory != second.directory
    assert first.untimed() == second.untimed()


def test_it_needs_no_terminal_and_leaves_standard_output_as_it_was(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr("sys.stdout", out)
    train(env="Match-v0", tag="日本", **SMALL)
    assert out.errors == "strict"
    out.flush()
    assert b"record in outputs/??-rrd-sac-Match-v0" in out.buffer.getvalue()


def test_signal_handlers_are_restored():
    before = [signal.getsignal(number) for number in SIGNALS]
    seen = []
    train(env="Match-v0", callback=lambda row: seen.append(signal.getsignal(signal.SIGTERM)), **SMALL)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert all(isinstance(handler.__self__, Stop) for handler in seen)


def test_several_seeds_give_a_list_of_runs(capsys):
    runs = train(env=tiny_envs.Match, seeds="1,0", **SMALL)
    assert [Finished(run.directory).config["seed"] for run in runs] == [1, 0]
    assert runs[0].metrics[-1]["Rewards"] != runs[1].metrics[-1]["Rewards"]
    with pytest.raises(SeedsError, match=r"^seeds: 0, 1 of 0, 1 failed$"):
        train(env=Broken, seeds=(0, 1), **SMALL)
    assert re.match(r"seed [01]: observation\[0\]: got nan at step 75", capsys.readouterr().err)


# Callbacks ----------------------------------------------------------------------------------------------------------

def test_the_callback_gets_each_row_of_the_record():
    rows = []
    run = train(env="Match-v0", callback=rows.append, **SMALL)
    assert rows == run.metrics
    assert all(type(value) is float for row in rows for value in row.values())


@pytest.mark.parametrize("every", [1, 0])
@pytest.mark.sampled(1)
def test_a_callback_that_returns_false_stops_and_saves_and_the_rest_makes_the_run_whole(every, capsys):
    settings = dict(env="Match-v0", checkpoint_every=every) | SMALL
    parts = train(callback=lambda row: row["Timesteps"] < 80, **settings)
    assert [row["Timesteps"] for row in parts.metrics] == [40, 80]
    assert f"stopped by the callback after 80 steps; resume with --resume={parts.directory}" in capsys.readouterr().out
    resumed = train(resume=parts.directory)
    assert "resumed after 80 steps of 120" in capsys.readouterr().out
    assert resumed.directory == parts.directory
    assert len(resumed.metrics) == 3
    same(parts.directory, train(**settings).directory)


def test_an_error_in_the_callback_is_raised_and_kept():
    def fail(row):
        raise ZeroDivisionError("mine")
    with pytest.raises(ZeroDivisionError, match="mine"):
        train(env="Match-v0", callback=fail, **SMALL)
    (directory,) = Path("outputs").iterdir()
    assert "in fail" in (directory / "error.txt").read_text()
    assert len(train(resume=directory).metrics) == 3


# Environments as objects --------------------------------------------------------------------------------------------

def test_an_instance_trains_without_evaluation_with_one_note(capsys):
    env = Closing()
    run = train(env=env, **SMALL)
    assert capsys.readouterr().out.count("evaluation is off") == 1
    assert "Rewards" not in run.metrics[-1]
    assert Finished(run.directory).config["test_rollouts"] == 0
    assert not (run.directory / "checkpoints" / "best.safetensors").exists()
    assert Closing.open == 1                            # it is the caller's
    env.close()


@pytest.mark.parametrize("eval_env", ["Match-v0", tiny_envs.Match, tiny_envs.Match()], ids=["id", "callable", "object"])
@pytest.mark.sampled(2)
def test_an_instance_with_an_environment_for_evaluation_is_the_run_of_its_id(eval_env, capsys):
    run = train(env=gym.make("Match-v0"), eval_env=eval_env, **SMALL)
    assert "evaluation is off" not in capsys.readouterr().out
    assert Finished(run.directory).untimed() == run_program(*FLAGS, "--env=Match-v0").untimed()


def test_a_function_makes_all_environments_and_they_are_closed():
    run = train(env=lambda: Closing(shift=0.0), diagnose_every=1, **SMALL)
    assert Closing.open == 0
    assert "Reward/std_within" in run.metrics[-1]
    whole = Finished(run.directory)
    assert whole.config["env"] == "object=Closing"
    assert run.directory.name.startswith("rrd-sac-object=Closing_")
    assert [row["Rewards"] for row in whole.rows] == [
        row["Rewards"] for row in run_program(*FLAGS, "--env=Match-v0").rows]


@pytest.mark.parametrize("env", [tiny_envs.Match, "Match-v0"], ids=["callable", "id"])
@pytest.mark.sampled(1)
def test_an_environment_for_evaluation_alone_changes_no_training(env, capsys):
    run = train(env=env, eval_env=lambda: tiny_envs.Match(shift=0.5), **SMALL)
    theirs = run_program(*FLAGS, "--env=Match-v0")
    ours = Finished(run.directory)
    assert [row["Q_loss"] for row in ours.rows] == [row["Q_loss"] for row in theirs.rows]
    assert [row["Rewards"] for row in ours.rows] != [row["Rewards"] for row in theirs.rows]
    assert ours.facts["eval_env"] == "object=Match"
    train(env=env, resume=run.directory)
    assert "uninterrupted run: eval_env object=Match -> None\n" in capsys.readouterr().out


def test_worker_processes_make_an_environment_by_its_function():
    eval_env = tiny_envs.Match()
    eval_env.lock = threading.Lock()                    # which cannot be sent to a process
    run = train(env=tiny_envs.Match, eval_env=eval_env, num_envs=2, **SMALL)
    theirs = run_program(*FLAGS, "--env=tiny_envs:Match-v0", "--num_envs=2")
    assert Finished(run.directory).untimed() == theirs.untimed()


@pytest.mark.slow
def test_resuming_needs_an_object_again(capsys):
    whole = train(env=tiny_envs.Match, tag="whole", **SMALL)
    parts = train(env=tiny_envs.Match, tag="parts", **SMALL | {"total_timesteps": 60})
    facts = json.loads((parts.directory / "run.json").read_text())
    assert (facts["resume_needs"], facts["env_id"]) == (["env"], "object=Match")
    capsys.readouterr()
    assert program.main([f"--resume={parts.directory}"]) == 2
    reported = (f"resume: the environment of '{parts.directory}' was given as a Python object, expected it again: "
            f"train(env=..., resume='{parts.directory}') of return_decomposition")
    assert capsys.readouterr().err == f"train.py: {reported}\n"
    with pytest.raises(ConfigError, match=f"^{re.escape(reported)}$"):
        train(resume=parts.directory)
    with pytest.raises(ConfigError, match=r"was run with other settings: env object=Match -> object=Clock; "):
        train(env=tiny_envs.Clock, resume=parts.directory)
    resumed = train(env=tiny_envs.Match, resume=parts.directory, total_timesteps=120)
    assert resumed.metrics[-1]["Timesteps"] == 120
    same(parts.directory, whole.directory)


def test_other_programs_refuse_the_name_of_an_object(capsys):
    run = train(env=tiny_envs.Match, **SMALL)
    shutil.copy(run.directory / "config.json", "settings.json")
    reported = ("env: 'object=Match' was given as a Python object, which no name can make again; expected a registered "
            "Gymnasium id")
    assert program.main(["--config=settings.json"]) == 2
    assert evaluate.main([str(run.directory)]) == 2
    assert capsys.readouterr().err == f"train.py: {reported}\nevaluate.py: {reported}\n"
    assert evaluate.main([str(run.directory), "--env=Match-v0", "--episodes=1"]) == 0


# Refusals -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("settings", "message"), [
    (dict(pi_lrr=1), "pi_lrr: unknown setting; did you mean pi_lr?"),
    (dict(calback=print), "calback: unknown keyword; did you mean callback?"),
    (dict(evalenv="Match-v0"), "evalenv: unknown keyword; did you mean eval_env?"),
    (dict(batch_size="many"), "batch_size: got 'many', expected an integer"),
    (dict(env="Macth-v0"), "env: got 'Macth-v0'; did you mean Match-v0?; --import=MODULE imports the module that "
                           "registers one of your own"),
    (dict(env=3), "env: got int, expected an id, a gymnasium.Env, or a function that makes one"),
    (dict(env=dict), "env: its function returned dict, expected a gymnasium.Env"),
    (dict(eval_env=tiny_envs.Clock), "eval_env: got observation_space Box(-inf, inf, (2,), float32), expected that of "
     "env, Box(-1.0, 1.0, (1,), float32)"),
    (dict(seeds=(0, 1), callback=print), "callback: not called with several seeds; expected None, or one seed"),
    (dict(resume="nowhere"), "resume: got 'nowhere', expected a run's directory, such as outputs/RUN"),
    (dict(env=tiny_envs.Match(), num_envs=2),
     "env: got an instance with num_envs=2, expected an id or a function that makes one"),
    (dict(eval_env=tiny_envs.Match(), seeds=(0, 1)),
     "eval_env: got an instance with several seeds, expected an id or a function that makes one"),
    (dict(env=tiny_envs.Match(), diagnose_every=2), "diagnose_every: got 2, but diagnoses need an environment of their "
     "own; expected an id or a function as eval_env, or 0"),
], ids=lambda value: "-".join(value) if isinstance(value, dict) else "")
def test_wrong_settings_give_a_one_line_error(settings, message):
    assert refused(**dict(env="Match-v0") | SMALL | settings) == message


def test_a_function_that_workers_cannot_import_gives_a_one_line_error(monkeypatch):
    reported = refused(env=lambda: tiny_envs.Match(gain=0.8), num_envs=2, **SMALL)
    assert reported.startswith("env: its function cannot be pickled for num_envs > 1: ")
    assert reported.endswith("; expected a function of a module, which worker processes can import, or num_envs=1")
    env = tiny_envs.Match()
    assert refused(env=env, eval_env=env, **SMALL) == "eval_env: got the environment that trains, expected another one"
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)         # as in a notebook
    monkeypatch.setattr(sys.modules["__main__"], "Match", tiny_envs.Match, raising=False)
    monkeypatch.setattr(tiny_envs.Match, "__module__", "__main__")
    reported = refused(env=tiny_envs.Match, num_envs=2, **SMALL)
    assert reported.startswith("env: its function was typed into a notebook or a shell; ")


def test_a_number_that_is_not_finite_is_an_exception():
    with pytest.raises(NotFiniteError, match=r"^observation\[0\]: got nan at step 75"):
        train(env=Broken, **SMALL)


# Signals ------------------------------------------------------------------------------------------------------------

def test_ctrl_c_saves_and_raises_keyboard_interrupt(monkeypatch, capsys):
    progress = Run.progress

    def interrupted(self, steps):
        if steps == 60:
            signal.raise_signal(signal.SIGINT)
        progress(self, steps)
    whole = train(env="Match-v0", **SMALL).directory
    with monkeypatch.context() as patched:
        patched.setattr(Run, "progress", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(env="Match-v0", tag="parts", **SMALL)
    (parts,) = Path("outputs").glob("parts*")
    assert f"saved after 60 steps; resume with --resume={parts}\n" in capsys.readouterr().out
    train(resume=parts)
    same(parts, whole)


@pytest.mark.slow
def test_another_signal_has_its_usual_effect_after_the_run_is_saved(monkeypatch):
    heard, progress = [], Run.progress

    def stopped(self, steps):
        signal.raise_signal(signal.SIGTERM)
        progress(self, steps)
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with monkeypatch.context() as patched:
            patched.setattr(Run, "progress", stopped)
            with pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM"):
                train(env="Match-v0", **SMALL)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    (directory,) = Path("outputs").iterdir()
    assert len(train(resume=directory).metrics) == 3
    code = ("from return_decomposition.training import train\nimport os, signal, tiny_envs\n"
            f"train('Match-v0', callback=lambda row: os.kill(os.getpid(), signal.SIGTERM), **{SMALL})")
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120,
                          check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    assert "saved after 40 steps" in done.stdout or "saved after 60 steps" in done.stdout


def test_learning_goes_through_one_function(monkeypatch):
    calls = []
    monkeypatch.setattr("learner.training.train_runs", lambda *args, **kwargs: calls.append(args))
    assert program.main([*FLAGS, "--env=Match-v0"]) == 0
    assert calls[0][0].env == "Match-v0"
