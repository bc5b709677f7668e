"""The rooms of the house: which module may import which, names that stay, and the size of files and functions.

Every import counts, also one inside a function: it ties two modules as much as one at the top does. An import for type
checkers alone (`if TYPE_CHECKING:`) counts as an arrow between rooms, but cannot close a circle, because it never runs.
A module that is named as text and imported on request (`utils/tf_utils.py`, the registry's entries) is no import.
"""

from __future__ import annotations

import ast
import importlib
import statistics
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("train", "evaluate", "plot", "report", "sweep", "relabel", "doctor")
# The floor on which a room stands; arrows lead to a lower floor, or stay inside the room.
FLOORS = {"python_check": -1, "utils": 0,
          "algorithm": 1, "envs": 1, "record": 1,
          "learner": 2, "results": 2, "sweeps": 2, "adapters": 2, "torchrl_gpu": 4,
          "program": 3, "machine_checks": 4, **dict.fromkeys(PROGRAMS, 5), "return_decomposition": 6}
AGENTS = ("algorithm.basis_alg", "algorithm.decomposition", "algorithm.engine", "algorithm.policy")
NO_ROOM = {"programs", "packaging"}         # folders of tests of the files at the top, and of what is installed
LONGEST_FILE, LONGEST_FUNCTION = 300, {50: 5, 90: 15}       # lines; percentiles of functions, in lines
DOCUMENTED = 0.9


# The graph ----------------------------------------------------------------------------------------------------------

class Import(NamedTuple):
    """One import: of a module of the project by its full name, of another package by the name that is written."""

    source: str
    target: str
    inside: bool                        # a function
    typing: bool                        # for type checkers alone


@cache
def modules() -> dict[str, Path]:
    """The project's modules by dotted name; tests, benchmarks and documents are none."""
    paths = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0].removesuffix(".py") in FLOORS]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@cache
def imports() -> list[Import]:
    """All imports of all modules."""
    return [found for name, path in modules().items()
            for found in imports_of(name, path.read_text(encoding="utf-8"), path.name == "__init__.py")]


def imports_of(name: str, source: str, is_package: bool = False) -> Iterator[Import]:
    """The imports of one module's source."""
    package = name if is_package else name.rpartition(".")[0]
    yield from _below(ast.parse(source), name, package, False, False)


def _below(node: ast.AST, name: str, package: str, inside: bool, typing: bool) -> Iterator[Import]:
    inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in ast.iter_child_nodes(node):
        only_typing = typing or _is_for_types(node, child)
        for target in _targets(child, package):
            yield Import(name, target, inside, only_typing)
        yield from _below(child, name, package, inside, only_typing)


def _is_for_types(node: ast.AST, child: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and child in node.body


def _targets(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    parents = package.split(".")[:len(package.split(".")) + 1 - node.level] if node.level else []
    base = ".".join([*parents, *filter(None, [node.module])])
    names = [f"{base}.{name.name}" for name in node.names]
    return list(dict.fromkeys(name if name in modules() else base for name in names))


def room(module: str) -> str:
    """The folder, or the program, that contains a module."""
    return module.partition(".")[0]


def within(module: str, *packages: str) -> bool:
    """Whether a module is one of these packages or in one."""
    return any(module == name or module.startswith(f"{name}.") for name in packages)


def circle(found: list[Import]) -> list[str]:
    """The modules of a circle of imports, or none."""
    graph: dict[str, set[str]] = {}
    for one in found:
        if one.target in modules() and not one.typing:
            graph.setdefault(one.source, set()).add(one.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def upward(found: list[Import]) -> list[str]:
    """The imports that do not lead to a lower floor or stay in their room."""
    return [f"{one.source} -> {one.target}" for one in found if room(one.target) in FLOORS
            and room(one.source) != room(one.target) and FLOORS[room(one.target)] >= FLOORS[room(one.source)]]


def mixed(found: list[Import]) -> list[str]:
    """The imports that mix TensorFlow with PyTorch's agents; a check of doctor.py imports it in a new process."""
    return [f"{one.source} -> {one.target}" for one in found if
            (one.source.endswith("_torch") and within(one.target, "tensorflow", "algorithm.tf")) or
            (within(one.target, "tensorflow") and not within(one.source, "algorithm.tf", "machine_checks")) or
            (within(one.source, "algorithm.tf") and within(one.target, *AGENTS))]


def test_no_modules_import_each_other_in_a_circle():
    assert len(modules()) > 100
    assert circle(imports()) == []


def test_imports_lead_downwards():
    assert upward(imports()) == []


def test_the_beginning_of_every_program_needs_the_standard_library_alone():
    ours = [one for one in imports() if one.source == "program" and room(one.target) in FLOORS
            and one.target != "python_check"]
    assert {one.target for one in ours} == {"utils.errors", "utils.installed"}
    assert all(one.inside for one in ours)


def test_tensorflow_and_pytorch_stay_apart():
    assert mixed(imports()) == []


def test_nothing_imports_the_package_above_the_programs():
    users = [one for path in [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("*.py")]
             for one in imports_of(path.stem, path.read_text(encoding="utf-8"))]
    assert [one for one in [*imports(), *users] if room(one.target) == "return_decomposition"
            and room(one.source) not in ("return_decomposition", "setup")] == []


@pytest.mark.parametrize(("name", "source"), [
    ("utils.text", "import algorithm"), ("utils.text", "def f():\n    from envs.names import resolve_env"),
    ("algorithm.batch", "import envs"), ("envs.atari", "from algorithm import create_agent"),
    ("algorithm.batch", "if TYPE_CHECKING:\n    from learner.learner import Learner"),
    ("learner.learner", "from results import curves"), ("results.curves", "import train"),
    ("record.run", "from program import complain"), ("train", "import evaluate"),
    ("envs.workers.pool", "from ...algorithm import registry"),
])
def test_an_import_that_leads_up_or_sideways_is_found(name, source):
    assert len(upward(list(imports_of(name, source)))) == 1


def test_a_circle_is_found_also_where_a_function_closes_it():
    ahead = list(imports_of("utils.text", "import utils.files"))
    assert circle([*ahead, *imports_of("utils.files", "def f():\n    from utils import text")])
    assert circle([*ahead, *imports_of("utils.files", "if TYPE_CHECKING:\n    from utils import text")]) == []
    assert circle([*ahead, *imports_of("utils.files", "if TYPE_CHECKING:\n    pass\nelse:\n    import utils.text")])


@pytest.mark.parametrize(("name", "source"), [
    ("algorithm.basis_alg.sac_torch", "import tensorflow as tf"), ("learner.learner", "import tensorflow"),
    ("algorithm.basis_alg.sac_torch", "def f():\n    from algorithm.tf.layers import dense"),
    ("algorithm.tf.sac", "from algorithm.basis_alg.sac_torch import SAC"),
])
def test_a_mixture_of_tensorflow_and_pytorch_is_found(name, source):
    assert len(mixed(list(imports_of(name, source)))) == 1


# Names that stay ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "home"), [
    ("algorithm:create_agent", "algorithm.create:create_agent"),
    ("algorithm.rrd_torch:RRD", "algorithm.decomposition.rrd:RRD"),
    ("algorithm.rrd_torch:MLPRewardNet", "algorithm.decomposition.networks:MLPRewardNet"),
    ("algorithm.rrd_torch:ConvRewardNet", "algorithm.decomposition.networks:ConvRewardNet"),
    ("utils.tf_checkpoint:main", "algorithm.tf.convert:main"),
    ("utils.tf_checkpoint:read_checkpoint", "algorithm.tf.files:read_checkpoint"),
    *((f"algorithm.basis_alg.{module}:{name}", "") for module, name in
      (("base_torch", "Agent"), ("ddpg_torch", "DDPG"), ("sac_torch", "SAC"))),
    *((f"utils.torch_utils:{name}", "") for name in ("get_vars", "RandomNormal", "Normalizer")),
    ("algorithm.engine:create_engine", ""), ("algorithm.replay_buffer:create_buffer", ""), ("envs:make_env", ""),
    *((f"{program}:main", "") for program in PROGRAMS),
])
def test_a_name_that_stays_is_the_object_in_its_home(name, home):
    found = at(name)
    assert found is at(home or name)
    assert callable(found)


@pytest.mark.parametrize(("name", "home"), [
    ("algorithm.rrd:RRD", "algorithm.tf.rrd:RRD"), ("utils.tf_utils:get_vars", "algorithm.tf.layers:get_vars"),
    ("utils.tf_utils:Normalizer", "algorithm.tf.layers:Normalizer"),
    ("utils.tf_utils:Adam", "algorithm.tf.optimizers:Adam"),
])
def test_a_name_of_tensorflow_that_stays_is_the_object_in_its_home(name, home):
    pytest.importorskip("tensorflow")
    assert at(name) is at(home)


def at(place: str) -> object:
    """The object at "module:name"."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


# Sizes --------------------------------------------------------------------------------------------------------------

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[Path, Function]]:
    """All functions and methods of the modules, nested ones, too."""
    for path in modules().values():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, Function))


def length(function: Function) -> int:
    """The lines of a function from its `def` to its end; its docstring, which is to explain, does not count."""
    described = function.body[0] if ast.get_docstring(function) is not None else None
    text = described.end_lineno - described.lineno + 1 if described else 0
    return function.end_lineno - function.lineno + 1 - text


def public(path: Path) -> Iterator[tuple[str, bool]]:
    """(name, whether it is described) of a module's functions and classes, and of the classes' methods."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node.name, ast.get_docstring(node) is not None
        if isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{name}", described or _is_inherited(node.name, name))
                        for name, described in _methods(node).items() if not name.startswith("_"))


def _methods(node: ast.ClassDef) -> dict[str, bool]:
    return {part.name: ast.get_docstring(part) is not None for part in node.body if isinstance(part, Function)}


@cache
def classes() -> dict[str, ast.ClassDef]:
    """The modules' classes by name."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in modules().values())
    return {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _is_inherited(name: str, method: str) -> bool:
    """Whether a class's method is described where it is first defined: in a class above, or in another package."""
    above = [ast.unparse(base).rpartition(".")[2] for base in classes()[name].bases]
    return any(base == name or base not in classes() or _methods(classes()[base]).get(method)
               or _is_inherited(base, method) for base in above)


def test_files_are_short():
    sizes = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
             for path in modules().values()}
    assert {name: size for name, size in sizes.items() if size >= LONGEST_FILE} == {}


def test_functions_are_short():
    cuts = statistics.quantiles([length(function) for _, function in functions()], n=100, method="inclusive")
    assert {share: cuts[share - 1] for share in LONGEST_FUNCTION if cuts[share - 1] > LONGEST_FUNCTION[share]} == {}


def test_public_functions_are_documented():
    found = {f"{name}:{part}": described for name, path in modules().items() for part, described in public(path)}
    bare = [name for name, described in found.items() if not described]
    assert len(bare) <= (1 - DOCUMENTED) * len(found), bare


def test_a_function_is_measured_without_its_docstring():
    source = 'def f(x):\n    """One.\n\n    Two.\n    """\n    return x\n'
    assert length(ast.parse(source).body[0]) == 2


def test_tests_mirror_the_tree():
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert [folder.as_posix() for folder in folders if not (ROOT / folder).is_dir()
            and folder.as_posix() not in NO_ROOM] == []
