"""Derive independent random streams from one seed."""

from __future__ import annotations

import zlib

import numpy as np


def stream_seed(seed: int, name: str) -> int:
    """The seed, 32 bits, of the stream `name` ("agent", "replay", "env", ...) of a run.

    The streams of a run are independent, so that, for example, more evaluation does not change training.
    """
    sequence = np.random.SeedSequence([seed, zlib.crc32(name.encode())])
    return int(sequence.generate_state(1)[0])
