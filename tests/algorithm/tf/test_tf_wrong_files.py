"""algorithm.tf.convert: damaged files, places that cannot be written, and a broken TensorFlow."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tf_checkpoints import (
    DATA,
    INDEX,
    ORIGINAL,
    convert,
    loaded,
    refuse,
)

from algorithm.tf.convert import main
from algorithm.tf.files import PARTS, write_checkpoint
from algorithm.tf.process import READER


def damaged(index: bytes | None, data: bytes | None) -> str:
    """The prefix of a checkpoint with these contents; None: without that file."""
    for part, content in zip(PARTS, (index, data), strict=False):
        if content is not None:
            Path(f"damaged.ckpt{part}").write_bytes(content)
    return "damaged.ckpt"


@pytest.mark.parametrize("keep", [0, 1, 40, 47, 48, 49, 100, 0.3, 0.5, 0.7, 0.9, -100, -48, -47, -8, -1])
def test_a_truncated_index_is_refused(tensorflow, capfd, keep):
    index = INDEX.read_bytes()
    keep = int(keep * len(index)) if isinstance(keep, float) else keep
    refuse(capfd, damaged(index[:keep], DATA.read_bytes()), r"damaged\.ckpt: damaged")


@pytest.mark.parametrize("keep", [0, 1, 4, 1000, 0.3, 0.5, 0.9, -4, -1])
def test_truncated_data_are_refused(tensorflow, capfd, keep):
    data = DATA.read_bytes()
    keep = int(keep * len(data)) if isinstance(keep, float) else keep
    refuse(capfd, damaged(INDEX.read_bytes(), data[:keep]), r"damaged\.ckpt: damaged")


@pytest.mark.parametrize("at", [0, 1, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, -8, -1])
def test_a_flipped_byte_of_the_index_is_found(tensorflow, capfd, at):
    index = bytearray(INDEX.read_bytes())
    index[int(at * len(index)) if isinstance(at, float) else at] ^= 0x41
    refuse(capfd, damaged(index, DATA.read_bytes()), r"damaged\.ckpt: damaged")


@pytest.mark.parametrize("at", [0, 0.2, 0.5, 0.9, -1])
def test_a_flipped_byte_of_the_data_is_found(tensorflow, capfd, at):
    data = bytearray(DATA.read_bytes())
    data[int(at * len(data)) if isinstance(at, float) else at] ^= 0x01
    message = refuse(capfd, damaged(INDEX.read_bytes(), data), r"damaged\.ckpt: damaged")
    assert tempfile.gettempdir() not in message         # the user does not know the place where it was read


@pytest.mark.parametrize("content", [b"", b"hello\nworld\n" * 100, b"\0" * 4096, b"\xff" * 4096])
def test_a_foreign_index_is_refused(tensorflow, capfd, content):
    refuse(capfd, damaged(content, DATA.read_bytes()), r"damaged\.ckpt: damaged")


def test_a_missing_file_is_named(tensorflow, capfd):
    refuse(capfd, "nowhere/model.ckpt", r"nowhere/model\.ckpt: no such checkpoint; nowhere/model\.ckpt\.index is not")
    refuse(capfd, damaged(INDEX.read_bytes(), None), r"damaged\.ckpt\.data-00000-of-00001 is not there")
    Path("damaged.ckpt.index").unlink()
    refuse(capfd, damaged(None, DATA.read_bytes()), r"damaged\.ckpt\.index is not there")


def test_a_directory_is_refused_with_the_prefix_that_it_holds(tensorflow, capfd):
    refuse(capfd, ORIGINAL.parent, f"a directory, expected the prefix .*, such as {ORIGINAL}$")
    Path("empty").mkdir()
    refuse(capfd, "empty", "empty: a directory, expected the prefix .* holds no checkpoint$")


def test_a_single_file_is_refused(tensorflow, capfd):
    refuse(capfd, ORIGINAL.with_name("checkpoint"), "checkpoint: is a single file, not a checkpoint's prefix")


def test_a_pytorch_checkpoint_is_refused_with_a_hint(model, capfd):
    refuse(capfd, model, r"model\.safetensors: .*--to-tf")


def test_a_tensorflow_2_checkpoint_is_refused(tensorflow, capfd):
    tensorflow.train.Checkpoint(weight=tensorflow.Variable(1.0)).save("two")
    refuse(capfd, "two-1", r"two-1: a TensorFlow 2 \(object-based\) checkpoint, expected one with the original's names")
    tensorflow.saved_model.save(tensorflow.Module(), "saved")
    refuse(capfd, "saved/variables/variables", "a TensorFlow 2")
    refuse(capfd, "saved", "saved: a directory")


def test_a_path_of_two_lines_stays_on_one(tensorflow, capfd):
    refuse(capfd, "two\nlines", r"two\\nlines: no such checkpoint")


# Wrong files for --to-tf ---------------------------------------------------------------------------------------------

BACK = ["--alg=rrd", "--basis_alg=sac", "--to-tf"]


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.999])
def test_a_truncated_pytorch_checkpoint_is_refused(model, capfd, keep):
    data = model.read_bytes()
    Path("cut").write_bytes(data[:int(keep * len(data)) if isinstance(keep, float) else keep])
    refuse(capfd, "cut", r"cut: not a checkpoint", *BACK)


@pytest.mark.parametrize(("old", "new"), [
    ('"obs_dims"', '"obs_dimt"'), ('"(11,)"', '"(11,x"'), ('"(11,)"', '"abcde"'), ('"(11,)"', '"(99,)"'),
    ('"(11,)"', '"[],()"'), ('"(11,)"', '"9**99"'), ('"(3,)"', '"(-3)"'), ('"rrd"', '"rrx"'), ('"F32"', '"F64"'),
])
def test_a_flipped_header_of_a_pytorch_checkpoint_is_refused(model, capfd, old, new):
    data = model.read_bytes()
    assert old.encode() in data
    Path("flipped").write_bytes(data.replace(old.encode(), new.encode(), 1))
    refuse(capfd, "flipped", "flipped: |obs_dims|acts_dims", *BACK)


def test_a_header_of_sizes_that_no_memory_holds_is_refused(model, capfd):
    data = model.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = data[8:8 + size].replace(b"(11,)", b"(999999999,)").rstrip()
    Path("huge").write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size:])
    refuse(capfd, "huge", "huge: |obs_dims", *BACK)


def test_another_file_than_a_pytorch_checkpoint_is_refused(tensorflow, capfd):
    refuse(capfd, "nowhere", "nowhere: no such file", *BACK)
    refuse(capfd, INDEX, r"model\.ckpt\.index: not a checkpoint", *BACK)
    refuse(capfd, ORIGINAL.parent, "rrd_sac_tf1_checkpoint: not a checkpoint", *BACK)
    torch.save({"weight": torch.zeros(3)}, "foreign.pt")
    refuse(capfd, "foreign.pt", r"foreign\.pt: not a checkpoint", *BACK)


def test_a_pytorch_checkpoint_of_another_algorithm_is_refused(model, capfd):
    refuse(capfd, model, "alg: got 'rrd', expected 'sac'", "--alg=sac", "--to-tf")
    refuse(capfd, model, "basis_alg: got 'sac', expected 'td3'", "--alg=rrd", "--basis_alg=td3", "--to-tf")


# The output path, the disk, TensorFlow -------------------------------------------------------------------------------

def assert_kept(capfd, argv: list, complaint: str, code: int = 2) -> None:
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    capfd.readouterr()
    assert main([str(word) for word in argv]) == code
    out, errors = capfd.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert re.search(complaint, errors), errors
    assert {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")} == before


@pytest.mark.parametrize("out", ["file", "dangling", "file/below", "file/far/below"])
def test_an_output_path_that_cannot_be_a_directory_is_refused(tensorflow, capfd, out):
    Path("file").write_text("kept")
    Path("dangling").symlink_to("nowhere")
    assert_kept(capfd, [ORIGINAL, f"--out={out}"], f"out: '{out.partition('/')[0]}' is not a directory")


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index"])
def test_existing_files_are_kept(tensorflow, capfd, name):
    Path("out").mkdir()
    (Path("out") / name).write_text("kept")
    assert_kept(capfd, [ORIGINAL, "--out=out"], f"out: out/{name} exists already")


@pytest.mark.parametrize("part", ["", *PARTS])
def test_existing_files_are_kept_by_to_tf(model, capfd, part):
    Path("out").mkdir()
    Path(f"out/model.ckpt{part}").write_text("kept")
    assert_kept(capfd, [model, "--out=out", "--to-tf"], f"out: out/model.ckpt{part} exists already")


def test_a_directory_with_other_files_is_accepted(tensorflow):
    for file in (INDEX, DATA):
        shutil.copy(file, ".")
    assert loaded(convert("model.ckpt", ".")).updates == 5


@pytest.fixture
def _full_disk():
    """No file may grow beyond a megabyte; a checkpoint has four."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("_full_disk")
def test_a_full_disk_is_reported_and_leaves_no_file(tensorflow, capfd):
    refuse(capfd, ORIGINAL, "File too large", code=1)


@pytest.mark.usefixtures("_full_disk")
def test_a_full_disk_is_reported_and_leaves_no_file_with_to_tf(model, capfd):
    refuse(capfd, model, "File too large", *BACK, code=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_reported(tensorflow, capfd):
    Path("locked").mkdir(0o500)
    assert_kept(capfd, [ORIGINAL, "--out=locked/out"], "Permission denied", code=1)


@pytest.mark.parametrize("flags", [[], ["--to-tf"]])
def test_without_tensorflow_its_extra_is_named(monkeypatch, capfd, flags):
    monkeypatch.setitem(sys.modules, "tensorflow", None)        # importing it fails, as if it were not installed
    refuse(capfd, ORIGINAL, r"tensorflow: is not installed; pip install .*\[tensorflow\]", "--alg=rrd", *flags)


@pytest.mark.parametrize("failure", ["ImportError('no shared object')", "TypeError('protobuf:\\nanother version')"])
def test_a_tensorflow_that_cannot_be_imported_is_reported(monkeypatch, capfd, failure):
    Path("broken").mkdir()
    Path("broken/tensorflow.py").write_text(f"raise {failure}")
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.syspath_prepend("broken")
    READER.close()                      # it has imported the other one
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    refuse(capfd, ORIGINAL, "tensorflow: cannot be imported here .*(no shared object|another version)")


def test_an_interrupt_is_reported(monkeypatch, capfd):
    def interrupt(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr("algorithm.tf.convert.read_checkpoint", interrupt)
    refuse(capfd, ORIGINAL, "interrupted", code=130)


def test_a_failed_write_keeps_the_old_checkpoint(original, monkeypatch):
    write_checkpoint("kept", original)
    old = {path: path.read_bytes() for path in Path().iterdir()}

    def fail(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint("kept", {"other": np.float32(1)})
    assert {path: path.read_bytes() for path in Path().iterdir()} == old
