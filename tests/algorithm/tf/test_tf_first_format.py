"""Checkpoints of TensorFlow's first format are read as those of the second one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tf_checkpoints import assert_holds, convert, refuse

from algorithm.tf.files import read_checkpoint


def write_first_format(arrays: dict[str, np.ndarray], path: str, shards: int = 0) -> None:
    """Write a checkpoint as TensorFlow did before its version 1: one file, or with `shards` so many."""
    import tensorflow as tf
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session(config=tf1.ConfigProto(device_count={"CPU": max(shards, 1)})) as session:
        for i, (name, array) in enumerate(arrays.items()):
            with tf.device(f"/cpu:{i % max(shards, 1)}"):
                tf1.get_variable(name, initializer=array, use_resource=False)
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver(write_version=tf1.train.SaverDef.V1, sharded=bool(shards)).save(session, path)


@pytest.mark.parametrize(("shards", "named"), [(0, ""), (0, ".meta"), (2, ""), (2, "-00001-of-00002")])
def test_the_first_format_is_read_as_the_second_one(shards, named, original):
    write_first_format(original, "old [1].ckpt", shards)
    found = read_checkpoint(f"old [1].ckpt{named}")
    assert found.keys() == original.keys()
    for name, array in original.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_the_first_format_is_converted(original):
    write_first_format(original, "old.ckpt")
    assert_holds(convert("old.ckpt", "new"), {name: array for name, array in original.items() if "beta" not in name})


def test_a_checkpoint_of_the_first_format_that_lacks_variables_is_one_line(original, capfd):
    write_first_format({"main/policy/net/pi/kernel": np.ones((4, 2), np.float32)}, "old.ckpt")
    refuse(capfd, "old.ckpt", "checkpoint: checkpoint: holds ddpg without")


def test_a_missing_shard_and_a_damaged_file_of_the_first_format_are_refused(original, capfd):
    write_first_format(original, "old.ckpt", 2)
    Path("old.ckpt-00000-of-00002").unlink()
    refuse(capfd, "old.ckpt", "old.ckpt: got 1 of its 2 shards, expected all of them")
    write_first_format(original, "one.ckpt")
    data = Path("one.ckpt").read_bytes()
    Path("one.ckpt").write_bytes(data[:len(data) // 2] + data[-48:])
    refuse(capfd, "one.ckpt", "one.ckpt: ")
