"""Settings right and wrong."""

from __future__ import annotations

import re

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from utils.errors import ConfigError
from utils.settings.fields import FIELDS
from utils.settings.json_files import section_of

WORDS = st.sampled_from(["sac", "ircr", "td3", "5", "1e3", "true"])


def complaint(function, *args) -> str:
    with pytest.raises(ConfigError) as error:
        function(*args)
    return check_line(str(error.value))


def check_line(message: str, names=()) -> str:
    """Check the error: one line that begins with a setting's name, or with one of `names` as it is or quoted."""
    assert len(message.splitlines()) == 1
    begins = (*map(repr, names), *(name for name in names if name.strip()))
    assert re.match(rf"-*({'|'.join(FIELDS)}|config|help)\b", message) or message.startswith(begins)
    return message


NAMES = st.sampled_from(list(FIELDS)) | st.text(max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | WORDS
FUZZ = settings(derandomize=True, max_examples=300, deadline=None)


def in_sections(values: dict) -> dict:
    """The settings, each in its section."""
    found: dict = {}
    for name, value in values.items():
        found.setdefault(section_of(name), {})[name] = value
    return found
