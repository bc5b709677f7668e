"""The tests of the repository on the installed wheel: `python tests/wheel_suite.py [--workers=N] [FILES]`.

The tests are copied to build/wheel with their imports rewritten as the wheel's are, and run in a virtual environment
that holds the wheel and does not find the repository.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from wheels import ROOT, build, copy_sources, environment, install

import setup_wheel

PLACE = ROOT / "build" / "wheel"
FOLDERS = ("adapters", "algorithm", "envs", "learner", "record", "results", "return_decomposition", "sweeps", "utils")
LEFT_OUT = (
    # Features of a clone alone: hints that name extras, checks for foreign packages, the sources themselves.
    "utils/test_installed.py",
    "return_decomposition/test_command.py",
    "utils/settings/test_cli.py::test_a_foreign_utils_in_the_working_directory_gives_a_one_line_error",
    "utils/settings/test_cli.py::test_a_foreign_package_is_found_without_importing_it",
    "results/test_plot.py::test_without_matplotlib_one_line_names_the_extra",
    "results/test_report.py::test_without_a_package_one_line_names_the_extra",
    "sweeps/test_sweep.py::test_without_ray_one_line_names_the_extra",
    "sweeps/test_search.py::test_without_optuna_the_extra_is_named",
    "return_decomposition/test_models_export.py::test_without_onnx_the_extra_is_named",
    "return_decomposition/test_models_export.py::test_it_loads_in_another_environment_without_this_package",
    "envs/test_atari.py::test_without_ale_py_or_opencv_one_line_names_what_installs_it",
    "envs/test_atari.py::test_the_extra_that_the_message_names_exists",
    "algorithm/test_create_agent.py::test_without_tensorflow_its_extra_is_named",
    "adapters/test_offline.py::test_without_minari_the_extra_is_named",
    "record/test_track.py::test_without_the_package_the_extra_is_named_before_anything_is_built",
    "return_decomposition/test_api.py::test_nothing_of_the_package_imports_it",
    "envs/test_envs.py::test_following_the_ball_catches_all_ten_and_pays_ten_at_the_end",
    # Programs in texts that import by the clone's names; test_wheel.py checks the wheel.
    "algorithm/test_create_agent.py::test_the_pytorch_backend_imports_neither_tensorflow_nor_pytorchs_compiler",
    "algorithm/test_create_agent.py::test_importing_the_package_imports_neither_backend",
    "envs/workers/test_signals.py::test_a_program_that_ends_while_a_thread_steps_leaves_no_process",
    "utils/settings/test_own_settings.py", "utils/settings/test_imports.py", "utils/settings/test_first.py",
    "algorithm/policy/test_published_policies.py::test_importing_the_names_needs_no_pytorch_until_they_are_used",
    # Tests that take minutes and do not depend on the names of modules.
    "algorithm/decomposition/test_known_answers.py",    # its tasks are in benchmarks/
    "algorithm/engine", "algorithm/tf", "algorithm/test_parity.py", "learner/test_learning.py", "record/test_store.py",
    "utils/test_hostile.py", "utils/test_fuzz.py",
)
# A test that starts a program starts that of the wheel.
LAUNCHER = """import importlib
import runpy
import sys

NAME = "return_decomposition.programs.{name}"
if __name__ == "__main__":
    runpy.run_module(NAME, run_name="__main__", alter_sys=True)
else:
    sys.modules[__name__] = importlib.import_module(NAME)
"""


def main() -> int:
    """Build, install, copy and run; returns pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="2", metavar="N", help="files side by side (default: 2)")
    parser.add_argument("files", nargs="*", help="such as tests/record (default: all that can run on a wheel)")
    args = parser.parse_args()
    start = time.monotonic()
    shutil.rmtree(PLACE, ignore_errors=True)
    python = install(build(copy_sources(PLACE / "sources"), PLACE / "dist"), PLACE / "venv")
    copy_tests()
    print(f"the wheel and its tests are in {PLACE} after {time.monotonic() - start:.0f} s", flush=True)
    folders = [f"tests/{name}" for name in FOLDERS if (PLACE / "tests" / name).is_dir()]
    left_out = [f"--{'deselect' if '::' in name else 'ignore'}=tests/{name}" for name in LEFT_OUT]
    return subprocess.run([python, "-m", "pytest", "-n", args.workers, "--dist", "loadfile", "-m", "not slow",
                           *left_out, *(args.files or folders)], cwd=PLACE, env=environment(), check=False).returncode


def copy_tests() -> None:
    """The tests and their data, the settings of pytest, and a launcher for each program."""
    known = setup_wheel.known_names()
    shutil.copytree(ROOT / "tests", PLACE / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (PLACE / "tests").rglob("*.py"):
        path.write_text(setup_wheel.rewrite(path.read_text(encoding="utf-8"), known), encoding="utf-8")
    for name in setup_wheel.PROGRAMS:
        (PLACE / f"{name}.py").write_text(LAUNCHER.format(name=name))
    shutil.copytree(ROOT / "configs", PLACE / "configs")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, PLACE)
    shutil.copytree(ROOT / "docs", PLACE / "docs")      # texts that tests compare with


if __name__ == "__main__":
    sys.exit(main())
