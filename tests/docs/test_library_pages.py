"""The code on the pages on other people's libraries runs, with fewer steps."""

from __future__ import annotations

import re

import pytest
from documents import DOCS

# What is made shorter on each page.
RUN = {"sb3.md": {"20_000": "420", "learning_starts=1_000": "learning_starts=400, buffer_size=500",
                  '"Pendulum-v1", rollout': '"Pendulum-v1", n_steps=210, batch_size=210, n_epochs=1, rollout',
                  'decomposition="rrd"': 'decomposition="rrd", rrd_batch_size=8, rrd_sample_size=4'}}
CODES = {f"{page}, block {number + 1}": (code, RUN[page]) for page in RUN for number, code in enumerate(
    re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL))}


@pytest.mark.parametrize("where", CODES)
def test_code_on_a_page_runs(where):
    code, changes = CODES[where]
    for long, short in changes.items():
        code = code.replace(long, short)
    exec(compile(code, where, "exec"), {})


def test_every_page_has_code():
    assert {where.partition(",")[0] for where in CODES} == set(RUN)
