"""Readers of files, with valid files that Hypothesis changes: they raise typed errors only, soon, in little memory.

Each test takes some seconds, with the same examples every time. `FUZZ_EXAMPLES=100000 pytest tests/utils/test_fuzz.py`
makes other examples, so many for each test, and keeps those that fail in .hypothesis.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from agents import make_agent
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from reference_cases import FOLDER
from tf_index import END, block_of, enveloped, variable, varint

from algorithm.tf import convert as tf_checkpoint
from utils import checkpoint
from utils.checkpoint import CheckpointError
from utils.errors import ConfigError
from utils.settings.cli import parse_args
from utils.settings.fields import Config
from utils.settings.json_files import read_json
from utils.settings.resolve import resolve

LONG = os.environ.get("FUZZ_EXAMPLES")
TF = FOLDER / "rrd_sac_tf1_checkpoint" / "model.ckpt"
INDEX = Path(f"{TF}.index").read_bytes()
DATA = Path(f"{TF}.data-00000-of-00001")
CONFIG = b'{"alg": "rrd", "basis_alg": "sac", "env": "Ant-v2", "seeds": "0-3", "gamma": 0.5, "tag": "a", "epochs": 2}'
TOKENS = [b"", b"\0", b"-1", b"1e999", b"18446744073709551615", b"9223372036854775807", b"9" * 5000, b'"', b"{", b"}",
          b"[", b",", b":", b"null", b"NaN", b"\\u0000", b"\xff" * 9, b"\x80" * 10, b'{"a":' * 2000, b"0-999," * 500]


def fuzz(examples: int):
    return settings(max_examples=int(LONG or examples), derandomize=not LONG, deadline=timedelta(seconds=5),
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@st.composite
def mutated(draw, valid: bytes, most: int = 4) -> bytes:
    """A valid file with some places replaced: by other bytes, by tokens, by a piece of itself, or by nothing."""
    data = valid
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, len(data)))
        end = at + draw(st.sampled_from([0, 1, 1, 1, 2, 8, 100, len(data)]))
        piece = st.builds(lambda start, size: valid[start:start + size], st.integers(0, len(valid)),
                          st.integers(0, 100))
        data = data[:at] + draw(st.binary(min_size=1, max_size=2) | st.sampled_from(TOKENS) | piece) + data[end:]
    return data


def check_printable(line: str) -> None:
    assert line.isprintable()


def outcome(read: Callable, source, refusal: type[Exception]):
    """The result, or the error, which must be one line; anything else fails the test."""
    try:
        return read(source)
    except refusal as error:
        check_printable(str(error))
        return error


@pytest.fixture(autouse=True)
def _little_memory():
    """All examples together take no more memory than a few of them may."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 2**30


@fuzz(400)
@given(st.binary(max_size=200) | mutated(CONFIG))
def test_settings(tmp_path, data):
    path = tmp_path / "settings.json"
    path.write_bytes(data)
    config = outcome(parse_args, [f"--config={path}"], ConfigError)
    if isinstance(config, Config):
        assert ":" not in config.env
        assert resolve(config.settings()) == resolve(read_json(path)) == config


# Model checkpoints --------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("fuzz") / "model"
    agent = make_agent("sac")
    state = {name: tensor.reshape(-1)[:3] for name, tensor in agent.state_dict().items()}
    checkpoint.write_checkpoint(path, state, agent.identity())
    return path, path.read_bytes()


def sealed(data: bytes) -> bytes:
    """With the right length of the header, and the right checksum where it still has one."""
    end = data.rfind(b"}") + 1
    data = max(end - 8, 0).to_bytes(8, "little") + data[8:]
    at = data.find(checkpoint.MARK) + len(checkpoint.MARK)
    return data[:at] + checkpoint._digest(data).encode() + data[at + 64:]


@fuzz(300)
@given(st.data())
def test_model_checkpoints(model, data):
    path, valid = model
    content = data.draw(mutated(valid))
    assume(content != valid)
    path.write_bytes(content)
    assert isinstance(outcome(checkpoint.read_identity, path, CheckpointError), CheckpointError)


@fuzz(400)
@given(st.data())
def test_model_checkpoints_whose_checksum_is_right(model, data):
    path, valid = model
    header = valid[:8 + int.from_bytes(valid[:8], "little")].rstrip()
    path.write_bytes(sealed(data.draw(mutated(header, 2))) + valid[len(header):])
    for read in (checkpoint.read_identity, make_agent_once().load_model):
        outcome(read, path, CheckpointError)


def make_agent_once(kept=[]):  # noqa: B006 (one agent for all examples)
    return (kept or kept.append(make_agent("sac")) or kept)[0]


# TensorFlow's checkpoints -------------------------------------------------------------------------------------------

BLOCK = INDEX[:3087]
WRONG = {
    "no type": variable(0), "another type": variable(99), "a resource": variable(20, size=0),
    "huge": variable(shape=(2**60,), size=2**62), "huge and empty": variable(shape=(2**40, 2**40, 0), size=0),
    "deep": variable(shape=(1,) * 30), "long": variable(size=8),
    "beyond the data": variable(shape=(2**21,), offset=4, size=2**23), "negative": b"\x08\x01\x12\x0d\x12\x0b\x08"
    + b"\xff" * 9 + b"\x01" + b"\x28\x04", "no protocol buffer": b"\xff\xff\xff", "cut": variable()[:-2],
    "a slice": variable() + b"\x3a\x00", "another file": variable() + b"\x18\x01",
    "type twice": variable() + b"\x08\x01", "unknown rank": b"\x08\x01\x12\x02\x18\x01\x28\x04",
}


def refusal(index: bytes, data: bytes = bytes(2**23)) -> str:
    """The error of `read_checkpoint` for a checkpoint of these two files, which it must refuse."""
    pytest.importorskip("tensorflow")
    Path("wrong.index").write_bytes(index)
    Path("wrong.data-00000-of-00001").write_bytes(data)
    error = outcome(tf_checkpoint.read_checkpoint, "wrong", CheckpointError)
    assert isinstance(error, CheckpointError)
    return str(error)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.sampled(6)
def test_a_variable_that_is_described_wrongly_is_refused(name):
    """With checksums that match: some end TensorFlow's process, and no other."""
    assert refusal(enveloped(block_of(WRONG[name]))).startswith("wrong: damaged, or not a checkpoint (")


@pytest.mark.slow
def test_a_file_that_ends_tensorflow_ends_only_its_process():
    pytest.importorskip("tensorflow")
    for _ in range(2):
        assert refusal(enveloped(block_of(WRONG["negative"]))).endswith("(TensorFlow's process ended by SIGABRT)")
    assert len(tf_checkpoint.read_checkpoint(TF)) == 95         # another process reads the next one


def test_variables_that_share_bytes_are_refused_before_they_take_memory():
    shared = block_of(variable(shape=(2**21,), size=2**23), *(b"a%05d" % number for number in range(10_000)))
    assert refusal(enveloped(shared)).endswith("(variables of 83886080000 bytes, a data file of 8388608)")


@pytest.mark.slow
def test_names_and_blocks_that_grow_when_they_are_read_are_refused():
    key = b"\0" + varint(2**18) + b"\0" + b"a" * 2**18
    more = b"".join(varint(2**18) + b"\0\0" for _ in range(30_000))
    start = time.monotonic()
    assert "damaged" in refusal(enveloped(key + more + END))
    assert "damaged" in refusal(enveloped(BLOCK, listed=10_000))
    assert time.monotonic() - start < 120


def test_an_index_of_the_same_block_is_read():
    """So the files above are not refused because of their format."""
    pytest.importorskip("tensorflow")
    Path("own.index").write_bytes(enveloped(BLOCK))
    Path("own.data-00000-of-00001").write_bytes(DATA.read_bytes())
    assert len(tf_checkpoint.read_checkpoint("own")) == 95


@settings(fuzz(15), deadline=None)              # after a death TensorFlow is imported again
@given(mutated(INDEX) | mutated(BLOCK, 2).map(enveloped) | mutated(variable()).map(block_of).map(enveloped),
       st.none() | st.integers(0, DATA.stat().st_size - 1))
@example(b"", None)
def test_tensorflows_checkpoints(index, at):
    pytest.importorskip("tensorflow")
    content = bytearray(DATA.read_bytes())
    if at is not None:
        content[at] ^= 0x10
    Path("fuzzed.index").write_bytes(index)
    Path("fuzzed.data-00000-of-00001").write_bytes(content)
    outcome(tf_checkpoint.read_checkpoint, "fuzzed", CheckpointError)
