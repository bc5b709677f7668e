"""Completion scripts: what a shell offers behind `python train.py`."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import train
from utils.settings.completion import SHELLS, script, values_of
from utils.settings.fields import FIELDS

ROOT = Path(__file__).resolve().parent.parent.parent.parent
ALL = sorted(f"--{name}" for name in [*FIELDS, "config", "resume", "import", "completion", "help"])


def shell(name: str):
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"needs {name}")


def bash(*words: str) -> list[str]:
    """What bash offers for the last of the words, which it takes apart at "="."""
    Path("completion.sh").write_text(script("bash"))
    line = f"source ./completion.sh; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; " \
           '_return_decomposition; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-u", "-c", line], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return sorted(done.stdout.split())


@pytest.mark.parametrize("name", SHELLS)
def test_a_script_names_every_flag_and_every_value(name, capsys):
    with pytest.raises(SystemExit) as end:
        train.main([f"--completion={name}"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert text == script(name)
    assert text.endswith("\n")
    for setting in [*FIELDS, "completion"]:
        assert ("-l " if name == "fish" else "--") + setting in text
        assert " ".join(values_of(setting)) in text


def test_another_shell_is_one_line(capsys):
    assert train.main(["--completion=ksh"]) == 2
    assert capsys.readouterr().err.startswith("train.py: --completion: invalid choice: 'ksh'")
    assert train.main(["--completions=bash"]) == 2
    assert "did you mean --completion?" in capsys.readouterr().err


@shell("bash")
@pytest.mark.parametrize(("words", "offered"), [
    (("python", "train.py", ""), ALL), (("python", "train.py", "--"), ALL),
    (("./train.py", "--rrd_s"), ["--rrd_sample_size"]),
    (("python", "/a b/train.py", "--alg", "=", "sac", "--basis"), ["--basis_alg"]),
    (("python", "train.py", "--alg", "=", "s"), ["sac"]), (("python", "train.py", "--basis-alg", "t"), ["td3"]),
    (("python", "train.py", "--alg", "="), sorted(["ddpg", "td3", "sac", "dqn", "rrd", "ircr", "uniform"])),
    (("python3", "train.py", "--save_rews", ""), ["False", "True"]),
    (("python3", "train.py", "--save_rews", "--see"), ["--seed", "--seeds"]),
    (("python", "train.py", "--basis-a"), ["--basis_alg"]), (("python", "train.py", "--nosuch-fl"), []),
    (("python", "train.py", "--completion", "="), ["bash", "fish", "zsh"]),
    (("python", "train.py", "--completion", "z"), ["zsh"]),
    (("python", "train.py", "--gamma", ""), []), (("python", "train.py", "--config", "=", "x"), []),
    (("python", "other.py", "--"), []), (("python", ""), []), (("python", "train.py"), []),
], ids=str)
def test_bash_offers(words, offered):
    assert bash(*words) == offered


@shell("bash")
def test_bash_completes_by_the_line_in_the_docs():
    page = (ROOT / "docs" / "configs.md").read_text(encoding="utf-8")
    assert "source <(python train.py --completion bash)" in page
    line = f'python() {{ {shlex.quote(sys.executable)} "$@"; }}; source <(python train.py --completion bash); '
    done = subprocess.run(["bash", "-eu", "-c", line + "complete -p python train.py"], cwd=ROOT, capture_output=True,
                          text=True, check=True)
    assert done.stdout.splitlines() == [f"complete -o bashdefault -o default -F _return_decomposition {name}"
                                        for name in ("python", "train.py")]


@shell("zsh")
def test_zsh_understands_its_script():
    Path("completion.sh").write_text(script("zsh"))
    subprocess.run(["zsh", "-fn", "completion.sh"], check=True)


@shell("fish")
@pytest.mark.parametrize(("line", "offered"), [
    ("python train.py --rrd_s", ["--rrd_sample_size"]), ("python train.py --basis_alg=t", ["--basis_alg=td3"]),
    ("python3 a/train.py --save_rews ", ["False", "True"]), ("./train.py --on_ex", ["--on_existing"]),
    ("python train.py --completion ", ["bash", "fish", "zsh"]),
], ids=str)
def test_fish_offers(line, offered):
    Path("completion.sh").write_text(script("fish"))
    done = subprocess.run(["fish", "--no-config", "-c", f"source ./completion.sh; complete -C {shlex.quote(line)}"],
                          capture_output=True, text=True, check=True)
    assert sorted(one.split("\t")[0] for one in done.stdout.splitlines()) == offered
