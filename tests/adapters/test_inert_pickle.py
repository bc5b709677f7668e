"""The reader of pickles that executes nothing: arrays and numbers, and everything else refused."""

from __future__ import annotations

import collections
import os
import pickle
import pickletools
from pathlib import Path

import gymnasium as gym
import hostile
import numpy as np
import pytest

from adapters.inert_pickle import Inert, as_array, read_pickle
from adapters.sb3_files import SPACES
from utils.errors import CheckpointError

ARRAYS = {
    "matrix": np.arange(6.0).reshape(2, 3), "columns": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "scalar": np.float64(3.5), "big-endian": np.arange(3, dtype=">f8"), "no-axis": np.array(2.5),
    "empty": np.zeros((0, 3)), "truth": np.array([True, False]), "integers": np.arange(4, dtype=np.uint8)}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_all_protocols_are_read(name, protocol):
    data = pickle.dumps(ARRAYS[name], protocol)
    found = as_array(read_pickle(data, (), "file"))
    np.testing.assert_array_equal(found, ARRAYS[name])
    assert found.dtype == ARRAYS[name].dtype


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_references_are_read(protocol):
    shared = [1, -2, 3.5, None, True, "ä", 2**80, -2**40]
    value = {"a": shared, "b": (shared, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), "c": collections.OrderedDict(x=1),
             5: [], "d": {}}
    data = pickle.dumps(value, protocol)
    assert read_pickle(data, {"collections.OrderedDict"}, "file") == value


def test_a_space_that_has_drawn_is_read():
    space = gym.spaces.Dict(aim=gym.spaces.Box(-2, 3, (2,)), gear=gym.spaces.Discrete(4))
    space.seed(1)
    space.sample()
    found = read_pickle(pickle.dumps(space), SPACES, "file")
    np.testing.assert_array_equal(as_array(found.field("spaces")["aim"].field("high")), [3, 3])
    assert int(as_array(found.field("spaces")["gear"].field("n"))) == 4


@pytest.mark.parametrize("thing", [hostile.Bomb(), os.system, np.testing.assert_equal, Path("a"), {1}, pickle.dumps,
                                   gym.spaces.MultiBinary(2)],
                         ids=["bomb", "function", "numpy-function", "path", "set", "builtin", "another-space"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_everything_else_is_refused(thing, protocol):
    with pytest.raises(CheckpointError, match=r"file: got .*, expected arrays and numbers alone"):
        read_pickle(pickle.dumps({"obs_rms": thing}, protocol), SPACES, "file")
    assert not Path(hostile.CANARY).exists()


def test_a_call_is_not_made():
    made = b"cnumpy\ndtype\n(S'f8'\ntR."
    with pytest.raises(CheckpointError, match="the instruction STRING"):
        read_pickle(made, (), "file")
    found = read_pickle(b"cnumpy\ndtype\n(Vf8\ntR.", (), "file")
    assert isinstance(found, Inert)
    assert (found.name, found.args) == ("numpy.dtype", ("f8",))


@pytest.mark.parametrize("data", [b"", b".", b"0.", b"(.", b"t.", b"K\x01", b"h\x05.", b"K\x01K\x02s.", b"]b.", b"NR.",
                                  b"X\xff\xff\xff\x7fa.", b"K\x01a.", b"}(K\x01u.", b"cnumpy\ndtype\nN\x81."],
                         ids=["empty", "nothing", "pop", "mark", "no-mark", "no-end", "no-memo", "no-dict", "no-object",
                              "no-name", "too-long", "no-list", "half-a-pair", "no-arguments"])
def test_damage_is_refused(data):
    with pytest.raises(CheckpointError, match=r"^file: "):
        read_pickle(data, (), "file")


def test_every_cut_and_flipped_byte_ends_in_a_value_or_the_typed_error():
    data = pickle.dumps({"a": ARRAYS["matrix"], "b": [1, (2.5, "x")]}, 4)
    assert sum(1 for _ in pickletools.genops(data)) > 20
    for at in range(len(data)):
        for changed in (data[:at], data[:at] + bytes([data[at] ^ 0x11]) + data[at + 1:]):
            try:
                as_array(read_pickle(changed, (), "file")["a"])
            except (CheckpointError, KeyError, TypeError):
                continue


@pytest.mark.parametrize("state", [(1, (2,), "no dtype", False, b""), (1, (2**40,), None, False, b"abcdefgh"), (1,)],
                         ids=["no-dtype", "too-large", "too-short"])
def test_an_array_that_does_not_fit_is_refused(state):
    kind = Inert("numpy.dtype", ("f8", False, True), (3, "<", None, None, None, -1, -1, 0))
    state = tuple(kind if one is None else one for one in state)
    with pytest.raises(CheckpointError, match="expected an array of numbers"):
        as_array(Inert("numpy._core.multiarray._reconstruct", (), state))
    with pytest.raises(CheckpointError, match="expected an array of numbers"):
        as_array(Inert("numpy._core.multiarray.scalar", (kind, b"abc")))
    with pytest.raises(CheckpointError, match="expected an array of numbers"):
        as_array("text")
