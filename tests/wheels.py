"""The project as a wheel: built from a copy of the sources, and installed in a virtual environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import setup_wheel

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (*setup_wheel.ROOMS, setup_wheel.NAME, "configs",
           *(f"{one}.py" for one in (*setup_wheel.ABOVE, *setup_wheel.PROGRAMS, "setup", "setup_wheel")),
            "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md",
           "constraints.txt", "constraints-oldest.txt")
BUILD = "import sys, setuptools.build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def copy_sources(folder: Path) -> Path:
    """Copy what a wheel is built from, so that nothing is written into the repository."""
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / name)
    return folder


def build(sources: Path, target: Path, kind: str = "build_wheel") -> Path:
    """Build a wheel, or an sdist (`build_sdist`), with the installed setuptools; returns the file."""
    target.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([sys.executable, "-c", BUILD, kind, str(target)], cwd=sources, capture_output=True, text=True,
                          check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return target / done.stdout.splitlines()[-1]


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel without its requirements; the packages of this environment are found. Returns the Python.

    What a .pth file of this environment adds, such as an editable install, is not found.
    """
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-warn-script-location",
                    wheel], check=True, timeout=300)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "shared.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))
    return python


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process that must not find the repository."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return kept | {"OMP_NUM_THREADS": "1"} | variables
