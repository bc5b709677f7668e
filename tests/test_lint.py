"""A check beyond those of ruff: no file of the library loads data that could run code."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).resolve().parent.parent
PICKLES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "jsonpickle"}
YAML = {"load", "load_all", "full_load", "unsafe_load"}
MUST_BE = dict(weights_only=True, allow_pickle=False)
# Tests that make hostile files, copy an agent, or run the code of the documents.
ALLOWED = {("tests/hostile.py", "pickle"), ("tests/utils/test_checkpoint.py", "pickle"),
           ("tests/adapters/test_inert_pickle.py", "pickle"), ("tests/algorithm/basis_alg/test_dqn.py", "pickle"),
           ("tests/docs/test_docs.py", "exec"), ("tests/docs/test_library_pages.py", "exec"),
           ("tests/return_decomposition/test_models_export.py", "exec"),
           ("tests/algorithm/tf/test_tf_checkpoint.py", "exec")}


def problems(source: str) -> Iterator[str]:
    """The calls in a file that could execute the content of another file, each by one word."""
    tree = ast.parse(source)
    known = dict(_imports(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.split(".")[0] in PICKLES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in PICKLES:
                yield module
            case ast.Name(id="eval" | "exec" as name) if name not in known:
                yield name
            case ast.Attribute() if (name := _dotted(node, known)) in ("builtins.eval", "builtins.exec"):
                yield name
            case ast.Dict(keys=keys):               # f(**{"weights_only": False})
                yield from (key.value for key in keys if isinstance(key, ast.Constant) and key.value in MUST_BE)
            case ast.Call():
                yield from _in_call(node, _dotted(node.func, known))


def _in_call(node: ast.Call, name: str) -> Iterator[str]:
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    for word, value in MUST_BE.items():             # a variable might be anything
        if word in given and not (isinstance(given[word], ast.Constant) and given[word].value is value):
            yield word
    first = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
    if name in ("importlib.import_module", "__import__") and str(first).split(".")[0] in PICKLES:
        yield str(first)
    if name in ("numpy.load", "np.load") and len(node.args) > 2:
        yield "allow_pickle"
    if name == "torch.load" and "weights_only" not in given:
        yield name
    module, _, function = name.partition(".")
    loaders = [*given.values(), *node.args[1:]]
    if module == "yaml" and function in YAML and not any("SafeLoader" in ast.unparse(loader) for loader in loaders):
        yield name


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(name in the file, imported name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.asname, name.name) for name in node.names if name.asname)
        elif isinstance(node, ast.ImportFrom):
            yield from ((name.asname or name.name, f"{node.module}.{name.name}") for name in node.names)


def _dotted(node: ast.expr, known: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, known)}.{node.attr}"
    return known.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def files() -> Iterator[Path]:
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).parts
        if not any(part.startswith(".") or part in ("build", "outputs") for part in parts):
            yield path


def test_no_file_loads_executable_data():
    paths = list(files())
    found = {(path.relative_to(ROOT).as_posix(), word) for path in paths
             for word in problems(path.read_text(encoding="utf-8"))}
    assert ROOT / "utils" / "checkpoint.py" in paths
    assert found == ALLOWED                         # nothing more, and nothing that is no longer needed
    assert all(name.startswith("tests/") for name, _ in ALLOWED)


@pytest.mark.parametrize(("source", "word"), [
    ("torch.load(f, weights_only=False)", "weights_only"), ("torch.load(f, weights_only=maybe)", "weights_only"),
    ("torch.load(f)", "torch.load"), ("import torch as t\nt.load(f)", "torch.load"),
    ("from torch import load as get\nget(f)", "torch.load"), ("f(**{'weights_only': False})", "weights_only"),
    ("np.load(f, allow_pickle=True)", "allow_pickle"), ("np.load(f, None, True)", "allow_pickle"),
    ("np.load(f, allow_pickle=1)", "allow_pickle"), ("dict(allow_pickle=True)", "allow_pickle"),
    ("eval('1')", "eval"), ("exec('1')", "exec"), ("run = exec", "exec"), ("import builtins\nbuiltins.eval('1')",
                                                                           "builtins.eval"),
    ("yaml.load(f)", "yaml.load"), ("yaml.load(f, Loader=yaml.Loader)", "yaml.load"),
    ("from yaml import unsafe_load\nunsafe_load(f)", "yaml.unsafe_load"),
    *((f"import {name}", name) for name in sorted(PICKLES)), ("from pickle import loads", "pickle"),
    ("def f():\n    import dill as d", "dill"), ("from joblib.numpy_pickle import load", "joblib.numpy_pickle"),
    ("importlib.import_module('pickle')", "pickle"), ("__import__('marshal')", "marshal"),
])
def test_every_way_to_execute_a_file_is_found(source, word):
    assert word in set(problems(source))


@pytest.mark.parametrize("source", [
    "torch.load(f, weights_only=True)", "np.load(f)", "np.load(f, allow_pickle=False)", "model.eval()",
    "re.compile('')", "yaml.load(f, Loader=yaml.SafeLoader)", "yaml.load(f, yaml.CSafeLoader)", "yaml.safe_load(f)",
    "json.load(f)",
    "from safetensors.torch import load\nload(f)", "ast.literal_eval('1')", "import copy", "from . import pickle_not",
])
def test_safe_calls_are_not_reported(source):
    assert list(problems(source)) == []


def test_torch_is_new_enough_to_have_no_known_hole(monkeypatch):
    given = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", given.update)
    runpy.run_path("setup.py")
    floor, = (re.fullmatch(r"torch>=([\d.]+)", entry)[1] for entry in given["install_requires"]
              if re.match(r"torch\b", entry))
    assert tuple(map(int, floor.split("."))) >= (2, 10)         # before it, weights_only=True could be got round
