"""algorithm.tf.importing: TensorFlow is imported after all that PyTorch imports, from every module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent
FAKES = {"triton": "print('triton')\nraise ModuleNotFoundError('no driver', name='triton')",
         "tensorflow": "import sys\nprint('tensorflow', *sorted({'torch', 'torch._dynamo'} & set(sys.modules)))"}
CREATE = "import argparse, algorithm; algorithm.create_agent(argparse.Namespace(alg='sac', use_pytorch=False))"
CONVERT = ["nothing.safetensors", "--to-tf", "--out=out"]
ASKED = {
    "the module itself": ["-c", "import algorithm.tf.rrd"],
    "its published name": ["-c", "import algorithm.rrd as r; r.RRD"],
    "tf_utils": ["-c", "import utils.tf_utils as u; u.Normalizer"], "create_agent": ["-c", CREATE],
    "tf_checkpoint": ["-m", "utils.tf_checkpoint", *CONVERT], "convert": ["-m", "algorithm.tf.convert", *CONVERT],
}


@pytest.fixture
def fakes():
    """A working directory with a triton and a TensorFlow that print when they are imported, and do nothing else."""
    for name, source in FAKES.items():
        Path(name).mkdir()
        (Path(name) / "__init__.py").write_text(source)
    return os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), str(ROOT)]), "PYTHONDONTWRITEBYTECODE": "1"}


def said(environment: dict[str, str], argv: list[str]) -> list[str]:
    done = subprocess.run([sys.executable, *argv], env=environment, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


@pytest.mark.parametrize("who", ASKED)
@pytest.mark.sampled(2)
def test_triton_and_what_the_first_optimiser_imports_come_before_tensorflow(who, fakes):
    *before, last = said(fakes, ASKED[who])
    assert set(before) == {"triton"}
    assert last == "tensorflow torch torch._dynamo"


def test_the_process_that_reads_checkpoints_never_imports_pytorch(fakes):
    main = "import sys, io; sys.stdin = io.StringIO(); from algorithm.tf import reader; reader.main()"
    assert said(fakes, ["-c", main]) == ['{"bytes": 0}']
    code = "import algorithm.tf.reader, sys; print({'torch', 'tensorflow'} & set(sys.modules))"
    assert said(fakes, ["-c", code]) == ["set()"]


def test_a_broken_triton_does_not_prevent_tensorflow(fakes):
    (Path("triton") / "__init__.py").write_text("raise OSError('no such library')")
    code = "from algorithm.tf.importing import import_tensorflow; import_tensorflow()"
    assert said(fakes, ["-c", code]) == ["tensorflow torch"]
