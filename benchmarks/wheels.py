"""The packages that a machine needs beside PyTorch to run `gpu.py`, with the versions that are installed here."""

from __future__ import annotations

import ast
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("pytest", "torchrl")   # what the tests that need a GPU need beside the program
# What the markers of requirements are about: the machine with the GPU, not this one.
TARGET = {"python_version": "3.12", "python_full_version": "3.12.0", "implementation_name": "cpython",
          "platform_python_implementation": "CPython", "sys_platform": "linux", "platform_system": "Linux",
          "platform_machine": "x86_64", "os_name": "posix"}


def wheels() -> list[str]:
    """The requirements by name, `numpy==2.1.3`; without a version if a package is not installed here.

    PyTorch's own requirements are there already.
    """
    brought = closure(["torch"])
    needed = closure([*required(), *TESTS]).keys() - brought.keys()
    return sorted(name if (version := installed(name)) is None else f"{name}=={version}" for name in needed)


def required() -> list[str]:
    """`install_requires` of setup.py, read as text: this project need not be installed."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "install_requires":
            return ast.literal_eval(node.value)
    raise ValueError("setup.py has no install_requires")


def closure(texts: list[str]) -> dict[str, Requirement]:
    """All packages that these need, by canonical name, as the target reads their metadata."""
    found: dict[tuple[str, frozenset], Requirement] = {}
    left = [Requirement(text) for text in texts]
    while left:
        one = left.pop()
        key = canonicalize_name(one.name), frozenset(one.extras)
        if key not in found:
            found[key] = one
            left += needs(one)
    return {name: one for (name, _), one in found.items()}


def needs(one: Requirement) -> Iterator[Requirement]:
    """What a package needs, with the extras that are asked for."""
    try:
        texts = importlib.metadata.requires(one.name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for other in map(Requirement, texts):
        extras = ["", *one.extras]
        if other.marker is None or any(other.marker.evaluate(TARGET | {"extra": extra}) for extra in extras):
            yield other


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
