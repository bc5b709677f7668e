"""The program that reads checkpoints by TensorFlow; `algorithm.tf.files` starts it, as a process of its own.

At an index whose checksums match and whose content is wrong, TensorFlow ends its process, or takes the memory that the
index claims. Here it ends this process only. PyTorch is never imported here, nor is a pickle read.

Standard input holds requests, each a line of JSON: the prefix of a checkpoint. Standard output holds the answers, each
a line of JSON and then as many bytes as it says: {"bytes": count}, the variables as a safetensors file, or
{"error": text}. The first answer, {"bytes": 0}, comes as soon as TensorFlow is imported.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from algorithm.tf.importing import import_tensorflow_alone
from utils.errors import CheckpointError

MORE_BYTES = 2**30          # of memory, and
MORE_SECONDS = 10           # of processor time, for one checkpoint beside what its size explains
BYTES_PER_SECOND = 10**7    # a slow disk's


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                                       # native code may print; the answers are ours alone

    def answer(told: dict[str, Any], data: bytes = b"") -> None:
        answers.write(json.dumps(told).encode() + b"\n" + data)
        answers.flush()
    try:
        set_limits(None, None)                          # the parent's own are not meant for TensorFlow
        tensorflow = import_tensorflow_alone()
    except Exception as error:
        return answer({"error": str(error)})
    answer({"bytes": 0})
    for line in sys.stdin:
        try:
            data = safetensors.numpy.save(read(tensorflow, json.loads(line)))
            answer({"bytes": len(data)}, data)
        except CheckpointError as error:
            answer({"error": str(error)})
        except Exception as error:                      # what a damaged file makes TensorFlow raise is anything
            answer({"error": f"damaged, or not a checkpoint ({one_line(error)})"})


def read(tensorflow: Any, prefix: str) -> dict[str, np.ndarray]:
    """Every variable of a checkpoint by name.

    Raises:
        CheckpointError: it is of another kind, or claims more than its data file holds.
    """
    data = f"{prefix}.data-00000-of-00001"
    size = os.path.getsize(data if os.path.exists(data) else prefix)       # of the first format it is one file
    set_limits(MORE_BYTES + 4 * size, MORE_SECONDS + size // BYTES_PER_SECOND)
    reader = tensorflow.train.load_checkpoint(prefix)
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    check_kind(dtypes, tensorflow.string)
    claimed = sum(math.prod(shape) * dtypes[name].size for name, shape in shapes.items())
    if claimed > size:                                  # many variables may claim the same bytes
        raise CheckpointError(f"damaged, or not a checkpoint (variables of {claimed} bytes, a data file of {size})")
    return {name: np.asarray(reader.get_tensor(name)) for name in sorted(shapes)}


def check_kind(dtypes: dict[str, Any], string: Any) -> None:
    """Raises CheckpointError if `tf.train.Saver` has not written variables of these types, or they hold text."""
    if "_CHECKPOINTABLE_OBJECT_GRAPH" in dtypes:
        raise CheckpointError("a TensorFlow 2 (object-based) checkpoint, expected one with the original's names, which "
                              "tf.train.Saver wrote")
    if text := sorted(name for name, dtype in dtypes.items() if dtype == string):
        raise CheckpointError(f"{text[0]}: got dtype string, expected float32")


def set_limits(memory: int | None, seconds: int | None) -> None:
    """Limit the bytes of memory and the seconds of processor time that this process may use from now on.

    None is as much as the system allows.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):         # not every system has them
        import resource
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        used = {resource.RLIMIT_AS: pages * resource.getpagesize(), resource.RLIMIT_CPU: math.ceil(time.process_time())}
        for (limit, before), more in zip(used.items(), (memory, seconds), strict=True):
            hard = resource.getrlimit(limit)[1]
            wanted = hard if more is None else before + more
            resource.setrlimit(limit, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def one_line(error: Exception) -> str:
    """An error of TensorFlow without the names of its own nodes."""
    text = " ".join(str(getattr(error, "message", None) or error).split())
    return re.sub(r"\{\{.*?\}\} ?| \[Op:\w+\]", "", text)[:300]


if __name__ == "__main__":
    main()
