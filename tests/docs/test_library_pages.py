"""The code on the pages on other people's libraries runs, with fewer steps."""

from __future__ import annotations

import re

import pytest
from documents import DOCS

# What is made shorter on each page.
RUN = {"sb3.md": {"20_000": "230", "learning_starts=1_000": "learning_starts=205, buffer_size=500",
                  '"Pendulum-v1", rollout': '"Pendulum-v1", n_steps=210, batch_size=210, n_epochs=1, rollout',
                  'decomposition="rrd"': 'decomposition="rrd", rrd_batch_size=8, rrd_sample_size=4'},
       "own_loop.md": {"2_000": "210", "1_000": "4", "256": "32",
                       "num_envs=2)": "num_envs=2, rrd_batch_size=8, rrd_sample_size=4)"},
       "turns.md": {"updates=300": "updates=30"}}
ONE_PROGRAM = ("own_loop.md",)                          # whose later blocks continue the first


def codes() -> dict[str, tuple[str, dict[str, str]]]:
    """Return the programs of the pages, and what is made shorter in them."""
    found = {}
    for page, changes in RUN.items():
        blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
        blocks = [f"{blocks[0]}\n{later}" for later in blocks[1:]] if page in ONE_PROGRAM else blocks
        found |= {f"{page}, program {number + 1}": (code, changes) for number, code in enumerate(blocks)}
    return found


CODES = codes()


@pytest.mark.parametrize("where", CODES)
def test_code_on_a_page_runs(where):
    code, changes = CODES[where]
    for long, short in changes.items():
        assert long in (DOCS / where.partition(",")[0]).read_text(encoding="utf-8")
        code = code.replace(long, short)
    names = {}
    exec(compile(code, where, "exec"), names)
    if "replay" in names:                               # the model learned in the updates, and paid something
        assert names["replay"].learner.updates >= 4
        assert names["rewards"].abs().sum() > 0


def test_every_page_has_code():
    assert {where.partition(",")[0] for where in CODES} == set(RUN)
