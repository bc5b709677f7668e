"""The notebooks run, with fewer steps, and their outputs are small."""

from __future__ import annotations

import json
import os

import nbformat
import pytest
from documents import DOCS, ROOT
from nbclient import NotebookClient

BOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
SHORT = {"total_timesteps=6_000": "total_timesteps=800", "warmup=1_000": "warmup=400, batch_size=16",
         "train_batches=50": "train_batches=2", "test_rollouts=5": "test_rollouts=1", "range(10)": "range(3)"}
each = pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.stem)


def test_there_are_two():
    assert [book.stem for book in BOOKS] == ["first_run", "learned_reward"]


@each
def test_outputs_are_kept_and_small(book):
    assert book.stat().st_size < 100_000
    text = book.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert "/tmp/" not in text
    held = nbformat.reads(text, 4)
    nbformat.validate(held)
    code = [cell for cell in held.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = [output.output_type for cell in code for output in cell.outputs]
    assert "display_data" in kinds
    assert not {"error", "stream"} & set(kinds)         # no warning, no progress of a run
    assert "image/png" in json.dumps(held)


@each
@pytest.mark.slow
def test_a_notebook_runs(book, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    held = nbformat.reads(book.read_text(encoding="utf-8"), 4)
    for cell in held.cells:
        for long, short in SHORT.items():
            cell.source = cell.source.replace(long, short)
    done = NotebookClient(held, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    done.execute()                                      # raises the error of a cell
    assert next((tmp_path / "outputs").iterdir()).is_dir()
