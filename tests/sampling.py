"""`@pytest.mark.sampled(n)`: of a test's many parameters, n stay in `make test` and the others are slow.

Parameters whose ids share words cover each other: those are kept that together hold the most words and pairs of
words, so that every algorithm, environment and option of a product stays as long as n allows it.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from itertools import combinations

import pytest


def leave_to_slow(items: list[pytest.Item]) -> None:
    """Mark as slow what a test's mark `sampled` does not keep. Every process of pytest-xdist chooses the same."""
    groups = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sampled"):
            groups[item.nodeid.partition("[")[0]].append(item)
    for group in groups.values():
        (count,) = group[0].get_closest_marker("sampled").args
        kept = sample([item.name.partition("[")[2] for item in group], count)
        for number, item in enumerate(group):
            if number not in kept:
                item.add_marker(pytest.mark.slow)


def sample(names: list[str], count: int) -> set[int]:
    """Numbers of at most `count` names, chosen one after another by how many words and pairs each adds."""
    words = [set(re.split(r"[\s\-\[\]'\",:=]+", name)) - {""} for name in names]
    covers = [own | {frozenset(pair) for pair in combinations(own, 2)} for own in words]
    spread = sorted(range(len(names)), key=lambda number: zlib.crc32(names[number].encode()))
    covered, kept = set(), set()
    for _ in range(min(count, len(names))):
        left = (number for number in spread if number not in kept)
        best = max(left, key=lambda number: len(covers[number] - covered))
        covered |= covers[best]
        kept.add(best)
    return kept
