"""One seed, many independent random streams."""

from __future__ import annotations

import zlib

import numpy as np


def stream_seed(seed: int, name: str) -> int:
    """The seed of the stream `name` ("agent", "replay", "env", ...) of a run; 32 bits.

    Streams of one run are independent of each other, so that, say, evaluating more does not change training.
    """
    sequence = np.random.SeedSequence([seed, zlib.crc32(name.encode())])
    return int(sequence.generate_state(1)[0])
