"""The command `rrd` in a clone; tests/packaging/test_wheel.py has it in a wheel."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from wheels import ROOT, environment

from return_decomposition import cli


@pytest.fixture
def rrd(monkeypatch):
    """Run the command in this process, as the script that pip makes does."""
    def run(*argv: str) -> int:
        monkeypatch.setattr(sys, "argv", ["rrd", *argv])
        return cli.main()
    return run


@pytest.mark.parametrize("name", ["train", "evaluate", "plot", "report", "sweep", "relabel", "doctor"])
def test_a_subcommand_calls_its_program_with_the_arguments_after_it(name, rrd, monkeypatch):
    given = []
    monkeypatch.setattr(importlib.import_module(name), "main", lambda argv: given.append(argv) or 7)
    assert rrd(name, "--one", "two") == 7
    assert given == [["--one", "two"]]


def test_errors_help_and_hints_are_named_after_the_command(rrd, capsys):
    assert rrd("train", "--env=Pendulum-v1", "--wrong") == 2
    assert capsys.readouterr().err == ("rrd train: --wrong: unknown flag; the settings of an algorithm of your own "
                                       "need --import=MODULE\n")
    with pytest.raises(SystemExit) as end:
        rrd("evaluate", "--help")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: rrd evaluate ")
    assert "  rrd evaluate outputs/RUN --checkpoint last" in shown
    assert ".py outputs" not in shown


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help(word, rrd, capsys):
    assert rrd(word) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in cli.HELP)


def test_an_unknown_subcommand_gives_a_one_line_error_with_the_nearest(rrd, capsys):
    assert rrd("evalute") == 2
    assert capsys.readouterr().err == ("rrd: command: got 'evalute', expected one of train, evaluate, plot, report, "
                                       "sweep, relabel, doctor, convert, export, or --help; did you mean evaluate?\n")
    assert rrd("\x1b[2J\n") == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "\x1b" not in message


def test_as_a_module_beside_a_program_of_another_project():
    """`python -m` looks into the current directory first."""
    command = [sys.executable, "-m", "return_decomposition"]
    env = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run([*command, "--version"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "rrd 0.1.0\n"
    Path("train.py").write_text("raise SystemExit('imported')")
    done = subprocess.run([*command, "train", "--help"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"rrd: the package `train` at {Path.cwd()}/train.py is not this project's")
    assert done.stderr.count("\n") == 1


def test_signals_before_a_run_has_begun_end_it_only_where_something_is_saved(monkeypatch):
    left = []
    monkeypatch.setattr(cli, "leave_early", lambda: left.append(sys.argv[1]))
    monkeypatch.setattr(cli, "main", lambda: 5)
    for name in ("train", "plot", "sweep", "doctor", "evaluate"):
        monkeypatch.setattr(sys, "argv", ["rrd", name])
        with pytest.raises(SystemExit) as end:
            cli.start()
        assert end.value.code == 5
    assert left == ["train", "sweep", "evaluate"]
