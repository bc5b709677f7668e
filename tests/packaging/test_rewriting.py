"""How the build rewrites the names of this project's modules: by position, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import setup_wheel
from setup_wheel import ABOVE, HERE, NAME, NEW, PROGRAMS, ROOMS, known_names, rewrite

KNOWN = {"utils.text", "algorithm.tf", "algorithm.tf.convert", "results.page"}
SOURCES = [path for folder in (*ROOMS, NAME) for path in sorted((HERE / folder).rglob("*.py"))] + \
    [HERE / f"{name}.py" for name in (*ABOVE, *PROGRAMS)]


@pytest.mark.parametrize(("source", "expected"), [
    ("from utils.text import a, b", "from return_decomposition.utils.text import a, b"),
    ("from utils import text as t", "from return_decomposition.utils import text as t"),
    ("from  utils.text  import (a,\n    b)  # why", "from  return_decomposition.utils.text  import (a,\n    b)  # why"),
    ("def f():\n    from train import main\n", "def f():\n    from return_decomposition.programs.train import main\n"),
    ("import utils.text as z", "import return_decomposition.utils.text as z"),
    ("import train", "from return_decomposition.programs import train"),
    ("import train as t", "from return_decomposition.programs import train as t"),
    ("import os, train, sys", "import os; from return_decomposition.programs import train; import sys"),
    ("import utils.text", "import return_decomposition.utils.text; from return_decomposition import utils"),
    ("from program import complain", "from return_decomposition.program import complain"),
    ("é = 'ü'; from utils.text import a", "é = 'ü'; from return_decomposition.utils.text import a"),
    ("x = '\x0c'\nfrom utils import a", "x = '\x0c'\nfrom return_decomposition.utils import a"),
    ("load('algorithm.tf.convert:main')", "load('return_decomposition.algorithm.tf.convert:main')"),
    ("f'algorithm.tf.{name}:{name}'", "f'return_decomposition.algorithm.tf.{name}:{name}'"),
    ('"""python -m algorithm.tf.convert x"""', '"""python -m return_decomposition.algorithm.tf.convert x"""'),
    ("'expected a utils.text.Thing, or utils.text'",
     "'expected a return_decomposition.utils.text.Thing, or return_decomposition.utils.text'"),
])
def test_imports_and_dotted_names_are_rewritten(source, expected):
    assert rewrite(source, KNOWN) == expected
    assert rewrite(expected, KNOWN) == expected


@pytest.mark.parametrize("source", [
    "from . import utils", "from .utils import text", "import utilsx, my.utils", "from my.utils.text import a",
    "utils = algorithm = 1\nutils.text", "'utils'", "'utils.py'", "'results.csv'", "'my_utils.text'", "'a/utils.text'",
    "'results.pages'", "x.utils.text", "# utils.text", "b'train'", "from return_decomposition.utils.text import a",
])
def test_other_text_is_not_rewritten(source):
    assert rewrite(source, KNOWN) == source


def test_names_that_a_package_itself_holds_are_known():
    assert {"envs.make_env", "algorithm.create_agent", "algorithm.engine.create_engine", "utils.text"} <= known_names()
    assert "results.csv" not in known_names()


def test_the_bound_names_are_the_same():
    """Each statement, run with modules that stand for ours, binds the same name to the same thing."""
    def bound(statement: str) -> list[tuple[str, str]]:
        found = []
        for node in ast.walk(ast.parse(statement)):
            if isinstance(node, ast.Import):
                found += [(one.asname or one.name.partition(".")[0], one.name if one.asname else
                           one.name.partition(".")[0]) for one in node.names]
            elif isinstance(node, ast.ImportFrom):
                found += [(one.asname or one.name, f"{node.module}.{one.name}") for one in node.names]
        return found

    for statement in ("import train", "import utils.text", "import utils.text as t", "import algorithm",
                      "from utils.text import shown as s", "import sweep as s", "from learner import Learner"):
        wanted = [(name, NEW[thing.partition(".")[0]] + thing[len(thing.partition(".")[0]):])
                  for name, thing in bound(statement)]
        assert [one for one in bound(rewrite(statement, KNOWN)) if one[0] != NAME] == wanted


class Bare(ast.NodeTransformer):
    """The source without import statements, and with every text emptied."""

    def visit_Import(self, node):
        return ast.Pass()

    visit_ImportFrom = visit_Import

    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node


def bare(source: str) -> str:
    tree = Bare().visit(ast.parse(source))
    for node in ast.walk(tree):                         # `import a; from b import a` is two statements
        for name in ("body", "orelse", "finalbody"):
            if isinstance(statements := getattr(node, name, None), list):
                setattr(node, name, [one for one in statements if not isinstance(one, ast.Pass)])
    return ast.dump(tree)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(HERE).as_posix())
def test_a_file_differs_in_imports_and_texts_alone(path):
    """No import names a top-level module of the repository any more, and everything else is the same code."""
    source = path.read_text(encoding="utf-8")
    new = rewrite(source, known_names())
    assert bare(source) == bare(new)
    assert len(source.splitlines()) == len(new.splitlines())            # tracebacks name the same lines
    for node in ast.walk(ast.parse(new)):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else \
            [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        assert not {name.partition(".")[0] for name in names} & set(NEW)


def test_every_package_and_program_of_the_repository_is_known():
    """A new folder with an __init__.py, or a new file at the top, must be added to the wheel, or named here."""
    folders = {path.parent.name for path in HERE.glob("*/__init__.py")}
    assert folders - {"benchmarks"} == {*ROOMS, NAME}
    files = {path.stem for path in HERE.glob("*.py")}
    assert files == {*PROGRAMS, *ABOVE, "setup", "setup_wheel"}


def test_the_lists_of_rooms_and_programs_agree():
    import program
    from utils import installed
    assert set(program.ROOMS) == set(ROOMS)
    assert installed.PROGRAMS == PROGRAMS
    assert {f"{NAME}.{name}" for name in ROOMS} < set(setup_wheel.wheel()["packages"])
    assert {*ROOMS, NAME} < set(setup_wheel.flat()["packages"])


def test_this_package_is_above_the_programs_and_nothing_imports_it():
    for path in (path for path in SOURCES if path.relative_to(HERE).parts[0] != NAME):
        text = Path(path).read_text(encoding="utf-8")
        imported = {one.module or "" for one in ast.walk(ast.parse(text)) if isinstance(one, ast.ImportFrom)} | \
            {name.name for one in ast.walk(ast.parse(text)) if isinstance(one, ast.Import) for name in one.names}
        assert not any(name.partition(".")[0] == NAME for name in imported), path
