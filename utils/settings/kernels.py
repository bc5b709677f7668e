"""The setting `kernels` as text."""

from __future__ import annotations

import re

AUTO, AUTOGRAD = "auto", "autograd"
FORM = r"(mm|onednn|bf16)-([12])x([1-9]\d{0,3})"
PATTERN = f"{AUTO}|{AUTOGRAD}|{FORM}"
EXPECTED = "auto, autograd, or products-halves x threads, such as mm-2x1 or onednn-1x4"


def parse_kernels(value: object) -> str:
    """Return the text of a choice.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not re.fullmatch(PATTERN, value):
        raise ValueError
    return value


def parts_of(text: str) -> tuple[str, str, str]:
    """Return (products, halves, threads) of a choice such as mm-2x1."""
    return re.fullmatch(FORM, text).groups()
