"""`--import`: modules of algorithms, decompositions and environments of a user's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from extending import ROOT, write_files
from runs import SMALL

import evaluate
import sweep
import train
from utils.errors import ConfigError
from utils.settings.cli import parse_args

pytestmark = pytest.mark.usefixtures("forget")

@pytest.mark.parametrize(("name", "code", "message"), [
    ("nosuchmodule", None, "import: there is no module 'nosuchmodule', neither installed nor in /"),
    ("nosuch.module", None, "import: there is no module 'nosuch'"),
    ("bad.py", "", "import: got 'bad.py', expected a module's name, such as my_rewards for my_rewards.py"),
    ("../bad", "", "import: got '../bad', expected a module's name"),
    ("", "", "import: got '', expected a module's name"),
    ("bad", "x = 1\n1 / 0\n", "import: 'bad' cannot be imported: ZeroDivisionError: division by zero (bad.py, line 2)"),
    ("bad", "import nosuchmodule\n", "import: 'bad' cannot be imported: ModuleNotFoundError: No module named "
                                     "'nosuchmodule' (bad.py, line 1)"),
    ("bad", "def\n", "import: 'bad' cannot be imported: SyntaxError: invalid syntax (bad.py, line 1)"),
    ("bad", "import sys\nsys.exit('no')\n", "import: 'bad' cannot be imported: SystemExit: no (bad.py, line 2)"),
    ("bad", "from algorithm import register_algorithm\nregister_algorithm('rrd')\n",
     "import: 'bad' cannot be imported: ConfigError: name: got 'rrd', expected a word other than rrd, ircr, uniform"),
])
@pytest.mark.parametrize("main", [train.main, lambda argv: evaluate.main(["outputs/RUN", *argv]),
                                  lambda argv: sweep.main(["suite.json", *argv])], ids=["train", "evaluate", "sweep"])
def test_a_module_that_cannot_be_imported_gives_a_one_line_error(main, name, code, message, capsys):
    Path("suite.json").write_text(json.dumps({"env": ["Pendulum-v1"], "runs": {"SAC": {"alg": "sac"}}}))
    if code:
        Path("bad.py").write_text(code)
    assert main([f"--import={name}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.partition(".py: ")[2].startswith(message)
    assert not Path("outputs").exists()


def test_import_without_a_module_gives_a_one_line_error(capsys):
    assert train.main(["--alg=sac", "--import"]) == 2
    assert capsys.readouterr().err == "train.py: --import: expected one argument\n"
    assert train.main(["--improt=x"]) == 2
    assert "did you mean --import?" in capsys.readouterr().err


def test_modules_are_imported_in_order_and_before_anything_else_is_read():
    Path("first.py").write_text("order = ['first']\n")
    Path("second.py").write_text("import first\nfirst.order.append('second')\n"
                                 "from algorithm import register_algorithm\n"
                                 "from algorithm.basis_alg.sac_torch import SAC\n"
                                 "register_algorithm('late', gamma=0.5)(SAC)\n")
    config = parse_args(["--alg=late", "--import=first", "--import", "second"])
    assert sys.modules["first"].order == ["first", "second"]
    assert (config.gamma, config.imports) == (0.5, ("first", "second"))
    assert sys.path[-1] == os.getcwd()                  # behind what is installed


@pytest.mark.parametrize("content", [{"import": "mine"}, {"imports": ["mine"]}, {"modules": ["mine"]},
                                     {"runtime": {"import": "mine"}}], ids=str)
def test_a_file_of_settings_may_name_no_module(content):
    Path("mine.py").write_text("raise SystemExit('imported')")
    Path("settings.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="unknown setting"):
        parse_args(["--config=settings.json"])


@pytest.mark.parametrize("name", ["import", "import=mine", "import=mine;"])
@pytest.mark.parametrize("place", ["common", "runs"])
def test_a_suite_may_name_no_module(name, place, capsys):
    Path("mine.py").write_text("open('imported', 'w')")
    runs = {"SAC": {"alg": "sac", **({name: "mine"} if place == "runs" else {})}}
    suite = {"env": ["Pendulum-v1"], "runs": runs} | ({"common": {name: "mine"}} if place == "common" else {})
    Path("suite.json").write_text(json.dumps(suite))
    assert sweep.main(["suite.json"]) == 2
    assert capsys.readouterr().err == ("sweep.py: import: a module to import, which only a flag may name: give "
                                       "--import=MODULE\n")
    assert not Path("imported").exists()


@pytest.mark.slow
def test_a_sweep_imports_in_every_trial(capsys):
    write_files("environment")
    write_files("decomposition")
    common = dict(flag.lstrip("-").split("=") for flag in SMALL)
    suite = {"common": common, "env": ["my_env:Parcel-v0"], "runs": {"recency": {"alg": "recency"}}}
    Path("suite.json").write_text(json.dumps(suite))
    argv = [sys.executable, ROOT / "sweep.py", "suite.json", "--import=recency"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stderr == ("sweep.py: env: 'my_env:Parcel-v0' names a module to import, which only a flag may: give "
                           "--import=my_env\n")
    done = subprocess.run([*argv, "--import=my_env", "--jobs=2"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("1 done\n")


def test_help_stays_without_pytorch():
    code = "import sys; from utils.settings.cli import parse_args\ntry: parse_args(['--help'])\n" \
           "finally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=False)
    assert done.stdout.endswith("False\n")
    assert "--import MODULE" in done.stdout
