"""The TensorFlow references of the decompositions that learn nothing: the basis, trained on what the replay pays."""

from __future__ import annotations

from algorithm.tf.base import Base
from utils.settings.fields import Config


def paid(config: Config, basis: Base) -> Base:
    """Return the basis itself; see `algorithm.decomposition.paid`."""
    return basis
