"""Which source files import TensorFlow, and which import PyTorch's agents."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent
SOURCES = [ROOT / "train.py", *sorted(path for room in ("algorithm", "envs", "learner", "utils")
                                      for path in (ROOT / room).rglob("*.py"))]
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in SOURCES}


def imports(page: str) -> set[str]:
    """Every module that a source imports, anywhere in it, with the names that it imports from packages."""
    found = set()
    for node in ast.walk(ast.parse(PAGES[page])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return found


REFERENCE = {f"algorithm/tf/{name}.py" for name in ("base", "ddpg", "td3", "sac", "dqn", "rrd", "layers", "optimizers")}
TENSORFLOW = {page for page in PAGES if page.startswith("algorithm/tf/")}
TWINS = {"algorithm/tf/rrd.py": "algorithm/decomposition/rrd.py", "algorithm/tf/layers.py": "utils/torch_utils.py",
         "algorithm/tf/optimizers.py": "utils/optimizers.py"}


def test_one_file_imports_tensorflow_for_the_reference():
    named = {page for page in PAGES if any(name.partition(".")[0] in ("tensorflow", "keras") for name in imports(page))}
    assert named == {"algorithm/tf/importing.py"}
    assert {page for page in PAGES if "\ntf = import_tensorflow()\n" in PAGES[page]} == REFERENCE


@pytest.mark.parametrize("page", sorted(REFERENCE))
def test_each_file_of_the_reference_has_its_pytorch_file(page):
    name = Path(page).stem
    assert TWINS.get(page, f"algorithm/basis_alg/{name}_torch.py") in PAGES


@pytest.mark.parametrize("page", sorted(REFERENCE))
def test_the_reference_uses_no_layers_no_contrib_no_keras_and_no_sessions(page):
    assert not re.findall(r"(?<!\.)\btf\.(?:layers|contrib|keras|compat|estimator)\b|\bkeras\b|Session\b|placeholder",
                          PAGES[page])


@pytest.mark.parametrize("page", sorted(TENSORFLOW))
def test_a_tensorflow_file_never_imports_a_pytorch_agent(page):
    pytorch = re.compile(r"_torch\b|torch_utils|(?:^|\.)(?:decomposition|engine)(?:\.|$)")
    assert not [name for name in imports(page) if pytorch.search(name)]


@pytest.mark.parametrize("page", sorted(page for page in PAGES if page.endswith(("_torch.py", "torch_utils.py")) or
                                        page.startswith(("algorithm/decomposition", "algorithm/engine"))))
def test_a_pytorch_file_never_imports_tensorflow_nor_the_reference(page):
    assert not [name for name in imports(page) if name.startswith("algorithm.tf.") or name == "algorithm.rrd"]


def test_only_algorithm_and_the_converter_import_both_backends():
    """`create_agent` chooses the backend; no other code may name a module of one."""
    for page in PAGES:
        if page.startswith(("learner", "envs")) or page in ("train.py", "utils/settings/cli.py"):
            assert not any("basis_alg" in name or "tensorflow" in name for name in imports(page)), page
