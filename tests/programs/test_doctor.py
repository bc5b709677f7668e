"""doctor.py: its findings, its advice, and that no broken package breaks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch

import doctor
import machine_checks

ROOT = Path(__file__).resolve().parent.parent.parent
NEEDED = [name for name, check in doctor.CHECKS.items() if check.needed]


def run(*argv: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(ROOT / "doctor.py"), *argv], capture_output=True, text=True, check=False,
                          **kwargs)


def code(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_all_needed_checks_pass_here():
    done = run("--json", "--only=rendering," + ",".join(NEEDED))
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert done.returncode == 0
    assert done.stderr == ""
    assert list(found) == ["rendering", *NEEDED]
    assert {one["status"] for name, one in found.items() if name not in ("disk", "memory", "rendering")} == {"ok"}
    assert found["torch"]["found"].startswith(torch.__version__.partition("+")[0])      # its metadata may lack +cu130
    assert os.listdir() == []                                       # nothing is left behind


def test_output_is_readable_and_optional_checks_only_warn(monkeypatch, capsys):
    results = {"python": doctor.Result("ok", "3.11"), "atari": doctor.Result("warn", "not there", "pip install it")}
    monkeypatch.setattr(doctor, "examine", results.get)
    assert doctor.main(["--only=python,atari"]) == 0
    assert capsys.readouterr().out == "ok    python: 3.11\nwarn  atari: not there\n      pip install it\n"
    results["python"] = doctor.Result("fail", "2.7", "make")
    assert doctor.main(["--only=python,atari"]) == 1
    assert doctor.main(["--only=python,atari", "--json"]) == 1
    assert doctor.main(["--only=pyton"]) == 2


def test_every_optional_check_warns_and_every_needed_one_fails_where_its_module_is_missing(monkeypatch):
    modules = {"torch": "torch", "mujoco": "gymnasium", "atari": "ale_py", "opencv": "cv2", "tensorflow": "tensorflow",
               "stable-baselines3": "stable_baselines3", "matplotlib": "matplotlib", "tensorboard": "tensorboard",
               "project": "rich", "cores": "torch", "memory": "torch", "cuda": "torch"}
    for name, missing in modules.items():
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, missing, None)
            result = doctor.judge(name)
        assert result.status == ("fail" if doctor.CHECKS[name].needed else "warn"), name
        assert f"{missing} is not installed" in result.found
        assert result.mend


@pytest.mark.parametrize(("broken", "message"), [
    ("import os; os.abort()", "died of SIGABRT"), ("import sys; sys.exit(3)", "exit code 3"),
    ("1 / 0", "exit code 1: ZeroDivisionError"), ("print('hello')", "exit code 0"),
    ("print('[1, 2, 3, 4, 5]')", "exit code 0"), ("print(7)", "exit code 0"),
    ("import os; os.write(2, b'\\xff\\x1b[2J'); os.abort()", "SIGABRT"),
])
def test_a_check_that_crashes_gives_a_one_line_error(broken, message):
    result = doctor.examine("mujoco", code(broken))
    assert (result.status, result.mend) == ("fail", "pip install -e .")
    assert message in result.found
    assert result.found.isprintable()
    assert doctor.examine("atari", code(broken)).status == "warn"


def test_a_check_that_hangs_ends_with_all_that_it_started(monkeypatch):
    monkeypatch.setitem(doctor.CHECKS, "mujoco", doctor.CHECKS["mujoco"]._replace(seconds=1))
    start = time.monotonic()
    result = doctor.examine("mujoco", code("import subprocess; subprocess.run(['sleep', '60'])"))
    assert result == doctor.Result("fail", "no answer within 1 seconds", "pip install -e .")
    assert time.monotonic() - start < 20


def test_without_processes_there_is_no_traceback():
    assert doctor.examine("torch", ["/no/such/program"]).status == "fail"


def test_libraries_that_write_to_standard_output_do_not_disturb():
    program = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); import doctor; doctor.CHECKS['python'] = " \
           "doctor.CHECKS['python']._replace(look=lambda: os.write(1, b'noise') and 'fine'); doctor.answer('python')"
    assert doctor.examine("python", code(program)) == doctor.Result("ok", "fine")


# Single checks --------------------------------------------------------------------------------------------------

def test_a_gpu_that_is_seen_but_does_not_work_warns(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    result = doctor.judge("cuda")
    assert (result.status, result.mend) == ("warn", "python train.py --device=cpu")


def test_a_wrong_product_fails(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "__matmul__", torch.Tensor.__mul__)
    monkeypatch.setattr(torch, "equal", lambda a, b: False)
    assert doctor.judge("torch") == doctor.Result("fail", "a product on cpu is wrong", "pip install -e .")


def test_an_old_python_and_an_old_package(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert doctor.judge("python").status == "fail"
    monkeypatch.undo()
    monkeypatch.setattr(doctor, "version", lambda package: "2.9.1+cu128")
    result = doctor.judge("torch")
    assert result.status == "warn"
    assert "older than 2.10.0" in result.found


def test_the_disk(monkeypatch):
    usage = namedtuple("usage", "free")
    for free, status in ((6e9, "ok"), (1e9, "warn"), (1e6, "fail")):
        monkeypatch.setattr(machine_checks.shutil, "disk_usage", lambda place, free=free: usage(free))
        assert doctor.judge("disk").status == status

    def fail(descriptor):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", fail)
    result = doctor.judge("disk")
    assert result.status == "fail"
    assert "No space left on device" in result.found


def test_memory_that_is_too_little_for_the_default_replay_names_a_size(monkeypatch):
    for free, status in ((600e6, "warn"), (100e6, "fail")):
        for module in ("utils.memory", "algorithm.replay_buffer.transition"):
            monkeypatch.setattr(f"{module}.available_bytes", lambda device, free=free: free)
        result = doctor.judge("memory")
        assert result.status == status
        assert result.mend.startswith("python train.py --buffer_size=")


def test_a_busy_machine_warns(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0, 0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert doctor.judge("cores").status == "warn"
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0, 0))
    assert doctor.judge("cores").status == "ok"


def test_a_way_to_render_that_does_not_exist_gives_a_one_line_error(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nosuch")
    result = doctor.judge("rendering")
    assert result.status == "warn"
    assert "nosuch" in result.found
    assert result.found.isprintable()
    assert result.mend == "unset MUJOCO_GL"


def test_a_mujoco_that_fails_because_of_mujoco_gl_is_not_to_be_installed_anew(monkeypatch):
    Path("mujoco.py").write_text("raise AttributeError('no glGetError')")
    monkeypatch.syspath_prepend(".")
    for given, mend in (("osmesa", "unset MUJOCO_GL"), ("", "pip install -e .")):
        monkeypatch.delitem(sys.modules, "mujoco", raising=False)
        monkeypatch.setenv("MUJOCO_GL", given)
        result = doctor.judge("mujoco")
        assert (result.status, result.mend) == ("fail", mend)
        assert result.found == ("cannot be imported with MUJOCO_GL=osmesa: " if given else "") + \
            "AttributeError: no glGetError"
