"""Completion in real shells: their offers after `python train.py`, `rrd train` and the other programs."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path

import pytest

import doctor
import evaluate
import plot
import relabel
import report
import sweep
import train
from algorithm.tf import convert
from return_decomposition import cli, exporting
from utils.installed import pip_install
from utils.settings.completion import RRD, SHELLS, add_completion, script, words_of
from utils.settings.fields import FIELDS

ROOT = Path(__file__).resolve().parent.parent.parent.parent
ALL = sorted([*(f"--{name}" for name in [*FIELDS, "config", "agent_type", "num_procs", "resume", "import", "completion",
                                         "help"]), "-h", "-C", "-D", "-P"])
ALGORITHMS = ["a2c", "ac_iqn", "ares", "ddpg", "diaster", "dqn", "gp_lrr", "grd", "grpo", "iqn", "ircr", "lrr",
              "marinenav_ddpg", "marinenav_dqn", "marinenav_sac", "ppo", "rainbow", "rbt", "rd", "rrd", "rudder", "sac",
              "td3", "uniform", "vib_rd"]


def shell(name: str):
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"needs {name}")


@pytest.fixture
def sourced(capsys):
    """Write a program's script for a shell; returns the file."""
    def write(program, name: str) -> Path:
        with pytest.raises(SystemExit) as end:
            program.main([f"--completion={name}"])
        path = Path(f"completion.{name}")
        path.write_text(capsys.readouterr().out)
        assert end.value.code == 0
        return path
    return write


def bash(path: Path, *words: str) -> list[str]:
    """The offers of bash for the last of the words, which it splits at "="."""
    line = f"source {path}; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; " \
           '_return_decomposition; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-u", "-c", line], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return sorted(done.stdout.split())


def fish(path: Path, line: str) -> list[str]:
    """The offers of fish for the end of a line."""
    done = subprocess.run(["fish", "--no-config", "-c", f"source ./{path}; complete -C {shlex.quote(line)}"],
                          capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return sorted(one.split("\t")[0] for one in done.stdout.splitlines())


def zsh(path: Path, line: str) -> str:
    """The line that zsh makes of this one when the tab key is hit."""
    setup = (f"autoload -Uz compinit; compinit -u -D; source ./{path}; bindkey '^I' complete-word; zle -N show; "
             "bindkey '^G' show; show() { print -r -- $BUFFER > buffer; exit }; print set''up")
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], os.environ | {"TERM": "xterm"})
    try:
        os.write(terminal, f"{setup}\n".encode())
        wait(terminal, b"setup")
        os.write(terminal, f"{line}\t\x07".encode())
        wait(terminal, None)
    finally:
        os.close(terminal)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    return Path("buffer").read_text().removesuffix("\n")


def wait(terminal: int, word: bytes | None) -> None:
    """Read from a terminal until it shows a word, or without one until it is closed."""
    seen, end = b"", time.monotonic() + 60
    while word is None or word not in seen:
        assert select.select([terminal], [], [], max(end - time.monotonic(), 0))[0], seen
        try:
            seen += os.read(terminal, 65536)
        except OSError:                                 # closed
            assert word is None, seen
            return


@pytest.mark.parametrize("name", SHELLS)
def test_a_script_names_every_flag_and_every_value(name, sourced):
    text = sourced(train, name).read_text()
    assert text.endswith("\n")
    for setting in [*FIELDS, "completion", "config", "resume", "import"]:
        assert ("-l " if name == "fish" else "--") + setting in text
    for values in ("ppo a2c grpo rrd ircr uniform rd vib_rd", "True False", "bash zsh fish",
                   "new resume overwrite"):
        assert values in text


def test_another_shell_gives_a_one_line_error(capsys):
    assert train.main(["--completion=ksh"]) == 2
    assert capsys.readouterr().err.startswith("train.py: --completion: invalid choice: 'ksh'")
    assert train.main(["--completions=bash"]) == 2
    assert "did you mean --completion?" in capsys.readouterr().err


@pytest.mark.parametrize("program", [train, evaluate, plot, report, sweep])
def test_without_shtab_it_gives_a_one_line_error(program, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert program.main(["--completion=bash"]) == 2
    name = program.__name__.rpartition(".")[2]
    assert capsys.readouterr().err == f"{name}.py: shtab is not installed; `{pip_install()}` installs it\n"


@pytest.mark.parametrize(("metavar", "choices", "words"), [
    ("last|best|FILE", None, ["last", "best"]), ("True|False", None, ["True", "False"]), ("FILE", None, []),
    ("N", None, []), (None, None, []), ("NAME", ["a", "b"], ["a", "b"]), ("x", None, []),
])
def test_words_of_an_argument(metavar, choices, words):
    action = ArgumentParser().add_argument("--flag", metavar=metavar, choices=choices)
    assert words_of(action) == words


def test_help_imports_no_shtab():
    line = "import sys, train; train.main(['--help'])"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", line], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert "utils.settings.completion" in done.stderr
    assert "shtab" not in done.stderr


@shell("bash")
@pytest.mark.parametrize(("words", "offered"), [
    (("python", "train.py", ""), ALL), (("python", "train.py", "-"), ALL),
    (("python", "train.py", "--"), [name for name in ALL if name.startswith("--")]),
    (("./train.py", "--rrd_s"), ["--rrd_sample_size"]),
    (("python", "/a b/train.py", "--alg", "=", "sac", "--basis"), ["--basis_alg"]),
    (("python", "train.py", "--alg", "=", "s"), ["sac"]), (("python", "train.py", "--basis-alg", "t"), ["td3"]),
    (("python", "train.py", "--alg", "="), ALGORITHMS), (("rrd", "train", "--alg", ""), ALGORITHMS),
    (("python3", "train.py", "--save_rews", ""), ["False", "True"]),
    (("python3", "train.py", "--save_rews", "--see"), ["--seed", "--seeds"]),
    (("python", "train.py", "--basis-a"), ["--basis_alg"]), (("python", "train.py", "--nosuch-fl"), []),
    (("python", "train.py", "--completion", "="), ["bash", "fish", "zsh"]),
    (("python", "train.py", "--completion", "z"), ["zsh"]),
    (("python", "train.py", "--gamma", ""), []), (("python", "train.py", "--config", "=", "x"), []),
    (("python", "train.py", "--config", "=", "a"), ["a.json", "aside"]),
    (("python", "train.py", "--resume", "a"), ["aside"]), (("python", "train.py", "--gamma", "0.9", ""), ALL),
    (("python", "other.py", "--"), []), (("python", ""), []), (("python", "train.py"), []),
], ids=str)
def test_bash_offers(words, offered, sourced):
    Path("aside").mkdir()
    Path("a.json").touch()
    assert bash(sourced(train, "bash"), *words) == offered


@shell("bash")
def test_bash_completes_by_the_line_in_the_docs():
    page = (ROOT / "docs" / "configs.md").read_text(encoding="utf-8")
    assert "source <(python train.py --completion bash)" in page
    line = f'python() {{ {shlex.quote(sys.executable)} "$@"; }}; source <(python train.py --completion bash); '
    done = subprocess.run(["bash", "-eu", "-c", line + "complete -p python train.py"], cwd=ROOT, capture_output=True,
                          text=True, check=True)
    assert done.stdout.splitlines() == [f"complete -o bashdefault -o default -F _return_decomposition {name}"
                                        for name in ("python", "train.py")]


@shell("bash")
@pytest.mark.parametrize(("program", "words", "offered"), [
    (evaluate, ("--checkpoint", ""), ["best", "last"]), (evaluate, ("--env-t",), ["--env_type"]),
    (plot, ("--by", ""), ["algorithm", "tag"]), (plot, ("a",), ["a.json", "aside"]),
    (report, ("--titl",), ["--title"]), (report, ("a.json", "as"), ["aside"]),
    (doctor, ("--js",), ["--json"]), (doctor, ("--completion", "z"), ["zsh"]),
    (convert, ("--to",), ["--to_tf"]), (convert, ("--alg", "s"), ["sac"]), (convert, ("a.j",), ["a.json"]),
    (sweep, ("--engine", "r"), ["ray"]), (sweep, ("a.j",), ["a.json"]),
    (sweep, ("a.json", "--s"), ["--search", "--seeds"]),
], ids=str)
def test_bash_completes_the_other_programs(program, words, offered, sourced):
    Path("aside").mkdir()
    Path("a.json").touch()
    path, name = sourced(program, "bash"), program.__name__.rpartition(".")[2]
    assert bash(path, "python", f"{name}.py", *words) == offered
    assert bash(path, "rrd", name, *words) == offered


@shell("bash")
def test_scripts_of_several_programs_can_be_read_by_one_shell(sourced):
    both = Path("both")
    both.write_text("".join(sourced(program, "bash").read_text() for program in (train, plot)))
    assert bash(both, "python", "train.py", "--rrd_s") == ["--rrd_sample_size"]
    assert bash(both, "python", "plot.py", "--norm") == ["--normalize"]


# Flags of each program that are no subcommand's setting, by the parser that it really has.
PROGRAMS = {"train": train, "evaluate": evaluate, "plot": plot, "report": report, "sweep": sweep,
            "relabel": relabel, "doctor": doctor, "convert": convert, "export": exporting}


@pytest.fixture
def all_of_them(capsys, monkeypatch):
    """Write the script of `rrd --completion` for a shell; returns the file."""
    def write(name: str) -> Path:
        monkeypatch.setattr(sys, "argv", ["rrd"])
        assert cli.main([f"--completion={name}"]) == 0
        path = Path(f"completion.{name}")
        path.write_text(capsys.readouterr().out)
        return path
    return write


def test_every_subcommand_has_a_completion():
    assert set(PROGRAMS) == set(cli.HELP)
    assert set(cli.HELP) | {"--help", "--version", "--completion"} == set(RRD)


@shell("bash")
def test_one_script_has_every_flag_of_every_subcommand(all_of_them, capsys):
    path = all_of_them("bash")
    for name, program in PROGRAMS.items():
        with pytest.raises(SystemExit):
            program.main(["--help"])
        flags = set(re.findall(r"(?<=[ \[])--\w[\w-]*", capsys.readouterr().out.partition("\n\n")[0]))
        offered = {one.replace("_", "-") for one in bash(path, "rrd", name, "--")}
        assert {flag.replace("_", "-") for flag in flags} <= offered | {"--help"}, name
        assert len(offered) > 3


@shell("bash")
@pytest.mark.parametrize(("words", "offered"), [
    (("rrd", ""), sorted(RRD)), (("rrd", "tr"), ["train"]), (("/a/rrd", "--v"), ["--version"]),
    (("rrd", "doctor", "--on"), ["--only"]), (("rrd", "train", "--alg", ""), ALGORITHMS),
    (("python", "-m", "utils.tf_checkpoint", "--basis_alg", "s"), ["sac"]),
    (("python", "-m", "return_decomposition.algorithm.tf.convert", "--o"), ["--out"]),
], ids=str)
def test_bash_completes_the_command(words, offered, all_of_them):
    assert bash(all_of_them("bash"), *words) == offered


@shell("zsh")
@pytest.mark.parametrize(("line", "becomes"), [
    ("rrd swe", "rrd sweep "), ("rrd doctor --js", "rrd doctor --json "),
    ("python -m utils.tf_checkpoint --basis_alg s", "python -m utils.tf_checkpoint --basis_alg sac "),
], ids=str)
def test_zsh_completes_the_command(line, becomes, all_of_them):
    assert zsh(all_of_them("zsh"), line) == becomes


@shell("fish")
@pytest.mark.parametrize(("line", "offered"), [
    ("rrd tr", ["train"]), ("rrd doctor --js", ["--json"]), ("rrd convert --basis_alg s", ["sac"]),
    ("python -m utils.tf_checkpoint --basis_alg s", ["sac"]),
], ids=str)
def test_fish_completes_the_command(line, offered, all_of_them):
    assert fish(all_of_them("fish"), line) == offered


def test_another_shell_for_all_subcommands_is_one_line(capsys):
    assert cli.main(["--completion", "ksh"]) == cli.main(["--completion"]) == 2
    assert capsys.readouterr().err == ("rrd: --completion: got 'ksh', expected one of bash, zsh, fish\n"
                                       "rrd: --completion: got '', expected one of bash, zsh, fish\n")


def test_without_shtab_doctor_and_convert_say_so(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    for program, name in ((doctor, "doctor.py"), (convert, "tf_checkpoint")):
        assert program.main(["--completion=bash"]) == 2
        assert capsys.readouterr().err.startswith(f"{name}: shtab is not installed; `pip install")


@shell("zsh")
@pytest.mark.parametrize(("line", "becomes"), [
    ("python train.py --rrd_s", "python train.py --rrd_sample_size="),
    ("./train.py --on_ex", "./train.py --on_existing="),
    ("python train.py --basis_alg=t", "python train.py --basis_alg=td3 "),
    ("python train.py --basis-alg t", "python train.py --basis-alg td3 "),
    ("rrd train --basis-a", "rrd train --basis_alg="), ("rrd tr", "rrd train "),
    ("python3 a/train.py --gamma=0.9 --save_rews F", "python3 a/train.py --gamma=0.9 --save_rews False "),
    ("python train.py --config a", "python train.py --config a.json "), ("python train.py --alg x", None),
    ("python other.py --rrd_s", None),
], ids=str)
def test_zsh_offers(line, becomes, sourced):
    Path("a.json").touch()
    assert zsh(sourced(train, "zsh"), line) == (becomes or line)


@shell("fish")
@pytest.mark.parametrize(("line", "offered"), [
    ("python train.py --rrd_s", ["--rrd_sample_size"]), ("python train.py --basis_alg=t", ["--basis_alg=td3"]),
    ("python train.py --basis-alg t", ["td3"]), ("rrd train --alg ", ALGORITHMS),
    ("rrd ", sorted(RRD)), ("rrd tr", ["train"]), ("rrd train tr", []),
    ("python3 a/train.py --save_rews ", ["False", "True"]), ("./train.py --on_ex", ["--on_existing"]),
    ("python train.py --completion ", ["bash", "fish", "zsh"]), ("python train.py --tag='a b' --rrd_s",
                                                                  ["--rrd_sample_size"]),
    ("python train.py --config a", ["a.json", "aside/"]), ("python train.py --resume a", ["aside/"]),
    ("python other.py --rrd_s", []),
], ids=str)
def test_fish_offers(line, offered, sourced):
    Path("aside").mkdir()
    Path("a.json").touch()
    assert fish(sourced(train, "fish"), line) == offered


@pytest.mark.parametrize("name", SHELLS)
def test_a_script_is_valid_for_any_help_text(name):
    parser = ArgumentParser(prog="rrd odd")
    parser.add_argument("--flag", metavar="a|b", help="it's \"quoted\": [$HOME], `x`; \\ and 100 %%")
    add_completion(parser)
    path = Path("completion")
    path.write_text(script(parser, name))
    if shutil.which(name):
        subprocess.run([name, "-n", str(path)], check=True)
    if name == "bash":
        assert bash(path, "rrd", "odd", "--flag", "") == ["a", "b"]
