"""The check on a GPU: its clocks, what survives a failure, and all of its sections on the CPU."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_tests, report
from benchmarks.clocks import START, Found, run_section
from benchmarks.gpu_sections import SECTIONS, goals, seed_table, updates_table
from benchmarks.wheels import closure, required, wheels

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")

# Clocks --------------------------------------------------------------------------------------------------------------

# A section of items that do what their names say; each notes the process that measured it.
PROGRAM = """
import os, pathlib, subprocess, sys, time
sys.path.insert(0, {root!r})
from benchmarks.clocks import Restart, Section, serve
from utils.errors import ConfigError

def fine(): return dict(pid=os.getpid())
def refused(): raise ConfigError("size: got 7, expected 8")
def fails(): raise ValueError("no\\nluck")
def crashes():
    print("Fatal: out of luck", flush=True)
    os.kill(os.getpid(), 9)
def leaves(): os._exit(3)
def restart(): raise Restart(dict(pid=os.getpid(), failed=1))
def hangs():
    child = subprocess.Popen(["sleep", "600"])
    pathlib.Path("child").write_text(str(child.pid))
    time.sleep(600)
def breaks(): raise RuntimeError("before the first item")

def items(plan):
    if plan == ["breaks"]: breaks()
    return {{name: globals()[name.partition(" ")[0]] for name in plan}}
sys.exit(serve(Section("", 1, items, str), {names!r}, {done!r}, pathlib.Path({events!r})))
"""


def clocked(*names: str, seconds: float = 60.0) -> Found:
    """Run a section of these items."""
    def start(done, events, log, left):
        assert left <= seconds
        code = PROGRAM.format(root=str(ROOT), names=list(names), done=done, events=str(events))
        return subprocess.Popen([sys.executable, "-c", code], stdout=log, stderr=log, start_new_session=True)
    found = Found("", seconds)
    run_section(found, start, lambda event: None)
    return found


def test_items_that_can_be_measured_share_a_process():
    found = clocked("fine 1", "refused", "fine 2")
    assert found.results["fine 1"]["pid"] == found.results["fine 2"]["pid"]
    assert found.refused == {"refused": "size: got 7, expected 8"}
    assert (found.errors, found.cut_off, found.running) == ({}, [], None)


def test_an_item_that_fails_costs_its_own_result():
    found = clocked("fine 1", "fails", "fine 2", "crashes", "leaves", "fine 3", "restart", "fine 4")
    assert list(found.results) == ["fine 1", "fine 2", "fine 3", "restart", "fine 4"]
    assert len({one["pid"] for one in found.results.values()}) == 4
    assert found.results["restart"]["pid"] == found.results["fine 3"]["pid"]
    assert found.errors == {"fails": "ValueError: no luck",
                            "crashes": "the process ended by signal 9: Fatal: out of luck",
                            "leaves": "the process ended with code 3: no output"}
    assert found.cut_off == []


@pytest.mark.parametrize("name", ["fails", "crashes", "restart"])
def test_the_last_item_may_fail(name):
    found = clocked("fine 1", name)
    assert set(found.done) == {"fine 1", name}


def test_a_section_that_cannot_begin_ends_at_once():
    found = clocked("breaks")
    assert found.errors == {START: "the process ended with code 1: RuntimeError: before the first item"}
    assert found.seconds < 30


@pytest.mark.slow
def test_what_hangs_is_killed_with_what_it_started_and_the_rest_is_said_to_be_cut_off(tmp_path):
    begin = time.monotonic()
    found = clocked("fine 1", "hangs", "fine 2", seconds=6.0)
    assert time.monotonic() - begin < 30
    assert list(found.results) == ["fine 1"]
    assert found.cut_off == ["hangs", "fine 2"]
    assert (found.errors, found.running) == ({}, None)
    assert is_gone(int((tmp_path / "child").read_text()))


def is_gone(pid: int) -> bool:
    """Whether a process ends within some seconds; one that waits for its parent has ended."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


# Without a GPU -------------------------------------------------------------------------------------------------------

def test_without_a_gpu_every_section_is_said_to_be_skipped(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out=found.json"]) == 0
    out, found = capsys.readouterr().out, json.loads(Path("found.json").read_text())
    for name, section in SECTIONS.items():
        assert f"{section.title}: skipped: no CUDA device (PyTorch {torch.__version__} " in out
        assert found["sections"][name]["skipped"].startswith("no CUDA device")
    assert f"skipped {len(SECTIONS)} of {len(SECTIONS)} sections" in out
    assert found["goals"] == []


@pytest.mark.parametrize("argv", [
    ["--minutes=0"], ["--minutes=-1"], ["--minutes=soon"], ["--minutes=nan"], ["--minutes=inf"], ["--sections=speed"],
    ["--device=tpu"], ["--device=mps"], ["--quik"], ["now"], ["--out=/dev/null/x"], ["--out=."],
])
def test_a_wrong_flag_is_one_line_and_exit_code_2(argv, capsys):
    assert gpu.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gpu.py: ")
    assert err.count("\n") == 1


def test_a_package_that_is_missing_is_one_line_that_names_wheels(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("benchmarks.gpu_sections")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "learner.training", None)
    assert gpu.main([]) == 2
    assert re.fullmatch(r"gpu\.py: learner\.training is not installed; .*--wheels.*\n", capsys.readouterr().err)


# Figures -------------------------------------------------------------------------------------------------------------

def rate(value: float, engine: str = "eager") -> dict:
    return {"per_second": value, "engine": engine}


def test_goals_are_reached_missed_or_not_measured():
    found = {"updates": {"rrd-sac cudagraph fp32": rate(4100.0), "rrd-sac cudagraph bf16": rate(1.0)},
             "run": {"rrd-sac fp32": rate(1900.0)},
             "seeds": {"updates 1": rate(100.0), "updates 32": rate(50.0), "runs 1": rate(10.0)},
             "arena": {"style 2, 16384 games": rate(2e6)}}
    rows = goals(found)
    assert [(row["target"], row["value"], row["reached"]) for row in rows] == [
        (">= 4000", 4100.0, True), (">= 2000", 1900.0, False), ("<= 2", 2.0, True), ("<= 2", None, None),
        (">= 1e+06", 2e6, True)]
    assert "not measured" in report.targets_table(rows)
    assert [row["reached"] for row in goals({})] == [None] * 5


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_of_updates_compares_with_eager_and_names_what_ran_instead():
    captured = {f"sac cudagraph {precision}": rate(value, "cudagraph")
                for precision, value in (("fp32", 300.0), ("bf16", 450.0))}
    lines = updates_table({**captured, "sac eager fp32": rate(100.0),
                           "sac compile fp32": rate(90.0)}).split("\n")
    assert cells(lines[2]) == ["sac", "cudagraph", "300", "", "450", "3.00"]
    assert cells(lines[3]) == ["sac", "eager", "100", "", "", "1.00"]
    assert cells(lines[4]) == ["sac", "compile (as eager)", "90", "", "", "0.90"]


def test_the_table_of_seeds_compares_with_one():
    lines = seed_table({"updates 1": rate(100.0), "updates 8": rate(80.0) | {"peak_bytes": 3_000_000_000},
                        "runs 8": rate(5.0)}).split("\n")
    assert cells(lines[3])[:4] == ["8, updates", "80", "640", "1.25"]
    assert "GB" in lines[3]
    assert cells(lines[4])[:4] == ["8, runs", "5", "40", ""]


# The tests that need CUDA --------------------------------------------------------------------------------------------

FAILING = """
import warnings, pytest
@pytest.mark.cuda
@pytest.mark.parametrize("n", [1, 2, 3])
def test_some(n):
    warnings.warn(f"old {n}", DeprecationWarning)
    assert n != 2, "two is wrong"
def test_without_mark(): assert False
"""


def test_failures_and_warnings_of_tests_are_kept(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["cuda: x"]\n')
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(FAILING)
    (tmp_path / "tests" / "test_other.py").write_text("import no_such_package\n")
    code = ("import json, pathlib, sys; sys.path.insert(0, sys.argv[1]); from benchmarks import clocks, gpu_tests\n"
            "from types import SimpleNamespace\n"
            "gpu_tests.ROOT = pathlib.Path(sys.argv[2])\n"
            "for name, item in gpu_tests.items(SimpleNamespace(quick=False)).items():\n"
            "    print('\\n' + json.dumps([name, clocks.outcome(item)]))\n")
    done = subprocess.run([sys.executable, "-c", code, str(ROOT), str(tmp_path)], capture_output=True, text=True,
                          check=True)
    (name, (event, going)), = (json.loads(line) for line in done.stdout.split("\n") if line.startswith("["))
    found = event["found"]
    assert (name, going) == ("test_it.py::test_some", False)
    assert (found["passed"], found["skipped"]) == (2, 0)
    assert list(found["failed"].values()) == ["AssertionError: two is wrong"]
    assert [warning.partition(": ")[2] for warning in found["warnings"]] == ["old 1", "old 2", "old 3"]
    table = gpu_tests.outcome_table({name: found})
    assert cells(table.split("\n")[2]) == ["test_it.py", "2", "1", "0"]
    assert "FAILED tests/test_it.py::test_some[2]: AssertionError: two is wrong" in table


def test_every_file_with_a_test_for_cuda_is_found():
    marked = {path.name for path in (ROOT / "tests").rglob("test_*.py")
              if re.search(r"mark\.cuda\b", path.read_text(encoding="utf-8"))} - {Path(__file__).name}
    assert marked >= {"test_cuda_engines.py", "test_cuda_runs.py", "test_engines.py", "test_schedule.py",
                      "test_parity.py", "test_finite.py"}
    assert f"pytest.{gpu_tests.MARK}" in (ROOT / "tests" / "algorithm" / "engine" / "test_cuda_engines.py").read_text()


# The wheels ----------------------------------------------------------------------------------------------------------

def test_the_wheels_are_what_setup_needs_and_pytest_without_pytorchs_own():
    listed = dict(line.partition("==")[::2] for line in wheels())
    assert {"gymnasium", "mujoco", "numpy", "safetensors", "pytest", "pluggy"} <= set(listed)
    assert not {"torch", "sympy", "filelock", "return-decomposition", "tensorflow", "hypothesis"} & set(listed)
    assert all(importlib.metadata.version(name) == version for name, version in listed.items())
    assert {re.match(r"[\w-]+", need)[0].lower() for need in required()} - {"torch"} <= set(listed)


def test_a_wheel_that_is_not_installed_is_listed_without_a_version(monkeypatch):
    monkeypatch.setattr("benchmarks.wheels.required", lambda: ["no-such-package>=3"])
    assert "no-such-package" in wheels()


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A Python that has PyTorch and the listed wheels alone; this project is not installed in it."""
    folder = tmp_path_factory.mktemp("bare")
    site = folder / "site"
    site.mkdir()
    names = [line.partition("==")[0] for line in wheels()]
    for name in {*names, *closure(["torch"])}:
        try:
            files = importlib.metadata.distribution(name).files
        except importlib.metadata.PackageNotFoundError:         # of another machine than this one
            continue
        for top in {file.parts[0] for file in files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                place = importlib.metadata.distribution(name).locate_file(top)
                (site / top).symlink_to(Path(place).resolve())
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "bare.pth").write_text(f"{site}\n")
    return folder / "venv" / "bin" / "python"


# All of it, on the CPU -----------------------------------------------------------------------------------------------

def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def quick(bare, tmp_path_factory) -> tuple[dict, str]:
    """The JSON file and the output of a small run of everything, in a plain clone."""
    folder = tmp_path_factory.mktemp("gpu")
    argv = [str(bare), str(ROOT / "benchmarks" / "gpu.py"), "--device=cpu", "--quick", "--minutes=30", "--out=f.json"]
    done = subprocess.run(argv, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads((folder / "f.json").read_text()), done.stdout


@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.slow
def test_every_section_measures_on_a_cpu_too(quick, name):
    content, out = quick
    found = content["sections"][name]
    assert found["results"]
    assert (found["errors"], found["cut_off"], found["skipped"], found["running"]) == ({}, [], None, None)
    assert set(found["planned"]) == {*found["results"], *found["refused"]}
    assert SECTIONS[name].table(found["results"]) in out
    assert f"{found['title']} took " in out
    for item, result in found["results"].items():
        assert f"{item}: " in out
        assert "per_second" not in result or (result["per_second"] > 0 and len(result["seconds"]) == 1)


@pytest.mark.slow
def test_what_is_not_possible_there_is_said(quick):
    refused = quick[0]["sections"]["updates"]["refused"]
    assert refused["rrd-sac cudagraph fp32"].startswith("engine: got 'cudagraph'")
    assert refused["rrd-sac eager tf32"].startswith("precision: got 'tf32', which only CUDA devices have")
    assert {"rrd-sac eager fp32", "rrd-sac eager bf16", "rrd-sac manual fp32"} <= set(
        quick[0]["sections"]["updates"]["results"])
    assert "rrd-sac eager tf32: not possible: precision" in quick[1]


@pytest.mark.slow
def test_tests_are_collected_and_skipped_there(quick):
    found = quick[0]["sections"]["tests"]["results"]
    assert all(one["skipped"] > 0 and one["passed"] == 0 and one["failed"] == {} for one in found.values())


@pytest.mark.slow
def test_a_section_that_is_fast_leaves_its_time_to_the_others(quick):
    sections = quick[0]["sections"]
    shares = {name: 30 * 60 * SECTIONS[name].share / sum(one.share for one in SECTIONS.values()) for name in SECTIONS}
    assert sections["tests"]["seconds_allotted"] == pytest.approx(shares["tests"], rel=0.01)
    assert sections["memory"]["seconds_allotted"] > 5 * shares["memory"]


@pytest.mark.slow
def test_every_documented_key_is_there(quick):
    documented = re.findall(r"^\| `([\w.<>]+)` \|", PAGE.partition("## The JSON file of gpu.py\n")[2], re.MULTILINE)
    assert len(documented) >= 10
    for key in documented:
        assert values_at(quick[0], key.split(".")), key


def values_at(value, parts: list[str]) -> list:
    """What stands at a path, in which <any> is every key."""
    if not parts:
        return [value]
    if not parts[0].startswith("<"):
        return values_at(value[parts[0]], parts[1:]) if isinstance(value, dict) and parts[0] in value else []
    inner = value.values() if isinstance(value, dict) else ()
    return [found for one in inner for found in values_at(one, parts[1:])]


@pytest.mark.slow
def test_a_signal_ends_the_process_of_the_section_and_keeps_what_was_measured(tmp_path):
    argv = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device=cpu", "--quick", "--sections=updates",
            "--out=f.json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            if re.match(r"rrd-sac \w+ fp32: [\d.]+ a second", line):
                break
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert rest.endswith("gpu.py: interrupted\n")
    assert len(children) == 1
    assert is_gone(int(children[0]))
    found = json.loads((tmp_path / "f.json").read_text())["sections"]["updates"]
    assert found["results"]
    assert found["cut_off"]


def test_too_little_time_is_no_error(tmp_path):
    argv = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device=cpu", "--quick", "--minutes=0.001",
            "--sections=run,memory", "--out=f.json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(", before its first item") == 2
    assert json.loads((tmp_path / "f.json").read_text())["sections"].keys() == {"run", "memory"}
