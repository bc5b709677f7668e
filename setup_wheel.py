"""How a wheel holds this project: one package, `return_decomposition`, with all packages and programs in it.

In the repository `algorithm`, `utils`, `train.py` and the others are at the top. Installed, such common names would
collide with other packages, so a wheel has them in `return_decomposition`, and the programs in
`return_decomposition.programs` (a submodule `train` would replace the function `return_decomposition.train`). The
source keeps its names: `build_py` rewrites them while it copies the files. Two places are rewritten, by their exact
positions: import statements (`ast`), and texts that name one of these modules with a dot, such as "utils.text"
(`tokenize`). So pickles, spawned processes, `python -m`, tracebacks and type checkers see plain modules, which a hook
in the import system could not give them.

An editable install is a clone: there the names stay at the top.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import shutil
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

from setuptools import find_packages
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

NAME = "return_decomposition"
HERE = Path(__file__).resolve().parent
ROOMS = tuple(name for name in ("adapters", "algorithm", "envs", "learner", "record", "results", "sweeps",
                                "torchrl_gpu", "utils") if (HERE / name / "__init__.py").is_file())
ABOVE = ("program", "machine_checks", "python_check")       # files above the rooms that are no programs
PROGRAMS = ("train", "evaluate", "plot", "report", "sweep", "relabel", "doctor")
# The top-level names of the repository, and what each is called in a wheel.
NEW = {**{name: f"{NAME}.{name}" for name in (*ROOMS, *ABOVE)},
       **{name: f"{NAME}.programs.{name}" for name in PROGRAMS}}
Edit = tuple[int, int, str]                             # from, to (characters of the source), the new text


# What setup() is given -----------------------------------------------------------------------------------------------

def wheel() -> dict:
    """The packages of a wheel, and the folder of each."""
    inner = [name for name in flat()["packages"] if name.partition(".")[0] in ROOMS]
    return {"packages": [NAME, f"{NAME}.programs", f"{NAME}.configs", *(f"{NAME}.{name}" for name in inner)],
            "package_dir": {f"{NAME}.{name}": name for name in (*ROOMS, "configs")},
            "package_data": {NAME: ["py.typed"],
                             f"{NAME}.configs": ["*.json", "*.txt", "agents/rl/*/*.json", "marinenav/*.json"],
                             f"{NAME}.results": ["*.html"]},
            "py_modules": []}


def flat() -> dict:
    """The packages and modules of an editable install: those of the repository."""
    return {"packages": find_packages(HERE, include=[f"{name}{part}" for name in (*ROOMS, NAME)
                                                     for part in ("", ".*")]),
            "package_dir": {}, "package_data": {}, "py_modules": [*ABOVE, *PROGRAMS]}


class BuildWheel(build_py):
    """Copies the files to their places in the wheel, rewritten."""

    def run(self):
        if not self.editable_mode:                      # files of an earlier build would be installed, too
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()

    def find_package_modules(self, package, package_dir):
        """(package, module, file) of each module; those at the top of the repository are added."""
        added = {NAME: [*ABOVE], f"{NAME}.programs": PROGRAMS}.get(package, [])
        return [*super().find_package_modules(package, package_dir), *((package, name, f"{name}.py") for name in added)]

    def build_module(self, module, module_file, package):
        """Write a module's rewritten source to its place."""
        target = Path(self.get_module_outfile(self.build_lib, package.split("."), module))
        self.mkpath(str(target.parent))
        target.write_text(rewrite(Path(module_file).read_text(encoding="utf-8"), known_names()), encoding="utf-8")
        return str(target), 1


class EditableWheel(editable_wheel):
    """Installs a clone, whose names stay at the top."""

    def run(self):
        vars(self.distribution).update(flat())
        super().run()


COMMANDS = {"build_py": BuildWheel, "editable_wheel": EditableWheel}


# The rewriting -------------------------------------------------------------------------------------------------------

@functools.cache
def known_names() -> frozenset[str]:
    """The dotted names of all modules in the repository's packages, and of what an `__init__.py` itself holds."""
    found = set()
    for path in (path for room in ROOMS for path in (HERE / room).rglob("*.py")):
        name = ".".join(path.relative_to(HERE).with_suffix("").parts).removesuffix(".__init__")
        found.add(name)
        if path.name == "__init__.py":
            found |= {f"{name}.{held}" for held in _held(ast.parse(path.read_text(encoding="utf-8")))}
    return frozenset(found)


def _held(module: ast.Module) -> Iterator[str]:
    """The names that functions, classes and imports at the top of a module bind."""
    for node in module.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def rewrite(source: str, known: Iterable[str]) -> str:
    """The source of a module in a wheel.

    Args:
        known: dotted names; a text that names one of them, or something in one, is rewritten.
    Raises:
        SyntaxError: the source is no Python.
    """
    starts = _starts(source)
    for begin, end, text in sorted([*_imports(source, starts), *_texts(source, starts, known)], reverse=True):
        source = source[:begin] + text + source[end:]
    return source


def _starts(source: str) -> list[int]:
    """The position at which each line starts."""
    starts = [0]
    for line in io.StringIO(source):
        starts.append(starts[-1] + len(line))
    return starts


def _imports(source: str, starts: list[int]) -> Iterator[Edit]:
    lines = list(io.StringIO(source))

    def position(row: int, column: int) -> int:         # ast counts bytes
        return starts[row - 1] + len(lines[row - 1].encode()[:column].decode())

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level and (new := _renamed(node.module)):
            begin = position(node.lineno, node.col_offset)
            found = re.compile(r"from\s+(\S+)").match(source, begin)
            yield *found.span(1), new
        elif isinstance(node, ast.Import) and any(_renamed(alias.name) for alias in node.names):
            yield (position(node.lineno, node.col_offset), position(node.end_lineno, node.end_col_offset),
                   "; ".join(_statement(alias) for alias in node.names))


def _renamed(module: str) -> str | None:
    """The name of one of this project's modules in a wheel."""
    first, dot, rest = module.partition(".")
    return NEW[first] + dot + rest if first in NEW else None


def _statement(alias: ast.alias) -> str:
    """One import that binds the name that `import NAME [as OTHER]` binds."""
    new = _renamed(alias.name)
    if not new or (alias.asname and "." in alias.name):
        return f"import {new or alias.name}" + (f" as {alias.asname}" if alias.asname else "")
    first = alias.name.partition(".")[0]
    parent, _, name = NEW[first].rpartition(".")
    bound = f"from {parent} import {name}" + (f" as {alias.asname}" if alias.asname else "")
    return bound if first == alias.name else f"import {new}; {bound}"


def _texts(source: str, starts: list[int], known: Iterable[str]) -> Iterator[Edit]:
    """The modules that texts name: `"algorithm.tf.convert"`, `"algorithm.create:create_agent"`, and in prose."""
    known = frozenset(known)
    pattern = re.compile(rf"(?<![\w./-])(?:{'|'.join(ROOMS)})\.\w+")
    kinds = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            begin = starts[token.start[0] - 1] + token.start[1]
            end = starts[token.end[0] - 1] + token.end[1]
            for match in pattern.finditer(source[begin:end]):
                if match[0] in known:
                    yield begin + match.start(), begin + match.start(), f"{NAME}."
