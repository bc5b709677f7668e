"""Readers of files, fed with what Hypothesis makes of valid ones: only typed errors come out, soon, in little memory.

Each test takes some seconds, with the same examples every time. `FUZZ_EXAMPLES=100000 pytest tests/utils/test_fuzz.py`
makes other ones, as many as asked for a test, and keeps what fails in .hypothesis.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from agents import make_agent
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from reference_cases import FOLDER

from algorithm.tf import convert as tf_checkpoint
from algorithm.tf import index as tf_index
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
ENTRIES = tf_index.parse(INDEX, DATA.stat().st_size)
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
    """What was read, or the refusal, which is one line; anything else fails the test."""
    try:
        return read(source)
    except refusal as error:
        check_printable(str(error))
        return error


@pytest.fixture(autouse=True)
def _little_memory():
    """All examples together take no more than a few of them may."""
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

def enveloped(block: bytes, listed: int = 1) -> bytes:
    """An index of this one block, with the right places and checksums."""
    def seal(content: bytes) -> bytes:
        return content + b"\0" + tf_index._checksum(content + b"\0")
    handle = tf_index._varint(0) + tf_index._varint(len(block))
    rows = b"".join(b"\0" + bytes([1, len(handle)]) + b"z" + handle for _ in range(listed))
    last = rows + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    footer = b"".join(map(tf_index._varint, (0, 0, len(block) + 5, len(last))))
    return seal(block) + seal(last) + footer.ljust(40, b"\0") + tf_index.MAGIC


BLOCK = INDEX[:3087]


def block_of(value: bytes, key: bytes = b"a") -> bytes:
    """A block of the header and one variable."""
    rows = [b"\0" + bytes([len(k), len(v)]) + k + v for k, v in ((b"", tf_index.HEADER), (key, value))]
    return b"".join(rows) + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")


def one(dtype: int = 1, shape=(1,), offset: int = 0, size: int = 4) -> bytes:
    return tf_index._encoded(tf_index.Entry(dtype, shape, offset, size, bytes(4)))


WRONG = {
    "no type": one(0), "another type": one(99), "a resource": one(20, size=0), "huge": one(shape=(2**60,), size=2**62),
    "huge and empty": one(shape=(2**40, 2**40, 0), size=0), "deep": one(shape=(1,) * 30), "long": one(size=8),
    "beyond the data": one(shape=(2**21,), offset=4, size=2**23), "negative": b"\x08\x01\x12\x0d\x12\x0b\x08"
    + b"\xff" * 9 + b"\x01" + b"\x28\x04", "no protocol buffer": b"\xff\xff\xff", "cut": one()[:-2],
    "a slice": one() + b"\x3a\x00", "another file": one() + b"\x18\x01", "type twice": one() + b"\x08\x01",
    "unknown rank": b"\x08\x01\x12\x02\x18\x01\x28\x04",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_variable_that_would_end_tensorflow_is_refused(name):
    assert tf_index.parse(enveloped(block_of(one())), 4).keys() == {"a"}
    with pytest.raises(ValueError, match=r"."):
        tf_index.parse(enveloped(block_of(WRONG[name])), 2**23)


def test_two_variables_do_not_share_bytes():
    entry = tf_index.Entry(1, (4,), 0, 16, bytes(4))
    tf_index.parse(tf_index.build({"a": entry, "b": entry._replace(offset=16)}), 32)
    with pytest.raises(ValueError, match="b: its bytes are another's"):
        tf_index.parse(tf_index.build({"a": entry, "b": entry._replace(offset=12)}), 32)


def test_names_and_blocks_that_grow_when_read_are_refused():
    key = b"\0" + tf_index._varint(2**18) + b"\0" + b"a" * 2**18
    more = b"".join(tf_index._varint(2**18) + b"\0\0" for _ in range(100_000))
    with pytest.raises(ValueError, match="names in the index are too long"):
        tf_index.parse(enveloped(key + more + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")), 4)
    with pytest.raises(ValueError, match="blocks of the index overlap"):
        tf_index.parse(enveloped(BLOCK, listed=10_000), DATA.stat().st_size)


def test_an_index_comes_back():
    assert len(ENTRIES) == 95
    assert tf_index.parse(tf_index.build(ENTRIES), DATA.stat().st_size) == ENTRIES
    assert tf_index.parse(enveloped(BLOCK), DATA.stat().st_size) == ENTRIES


@fuzz(300)
@given(mutated(INDEX) | mutated(BLOCK).map(enveloped) | mutated(one()).filter(lambda v: len(v) < 128).map(
    lambda value: enveloped(block_of(value))))
@example(b"")
def test_indices(data):
    try:
        entries = tf_index.parse(data, DATA.stat().st_size)
    except ValueError:
        return
    assert tf_index.parse(tf_index.build(entries), DATA.stat().st_size) == entries


def test_tensorflow_gets_an_index_of_our_own():
    pytest.importorskip("tensorflow")
    places = int.from_bytes(BLOCK[-4:], "little")
    nowhere = BLOCK[:-4 - 4 * places] + b"\xff" * 4 * places + BLOCK[-4:]       # only TensorFlow would go there
    Path("own.index").write_bytes(enveloped(nowhere))
    Path("own.data-00000-of-00001").write_bytes(DATA.read_bytes())
    assert tf_checkpoint.read_checkpoint("own").keys() == ENTRIES.keys()


@fuzz(60)
@given(mutated(INDEX) | mutated(BLOCK, 2).map(enveloped), st.none() | st.integers(0, DATA.stat().st_size - 1))
def test_tensorflows_checkpoints(tmp_path, index, at):
    pytest.importorskip("tensorflow")
    Path(f"{tmp_path}/fuzzed.index").write_bytes(index)
    content = bytearray(DATA.read_bytes())
    if at is not None:
        content[at] ^= 0x10
    Path(f"{tmp_path}/fuzzed.data-00000-of-00001").write_bytes(content)
    outcome(tf_checkpoint.read_checkpoint, tmp_path / "fuzzed", CheckpointError)
