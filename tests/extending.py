"""The pages of docs/extending, small runs of what they define, and a decomposition that is easy to predict."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from runs import SMALL, Finished

import train
from algorithm.decomposition.base import Decomposition
from algorithm.replay_buffer.transition import TransitionReplay

ROOT = Path(__file__).resolve().parent.parent
PAGES = {page: (ROOT / "docs" / "extending" / f"{page}.md").read_text(encoding="utf-8")
         for page in ("algorithm", "decomposition", "environment", "policy",
                      "tensor_environments", "trainer")}
RRD_READS = dict(r_lr=3e-4, rrd_batch_size=8, rrd_sample_size=4, rrd_bias_correction=False)


def files_of(page: str) -> dict[str, str]:
    """The blocks that begin with a file's name."""
    return dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE))


def write_files(page: str) -> None:
    """Write the page's files, and what --config names: the page's one block of JSON."""
    for name, code in files_of(page).items():
        Path(name).write_text(code)
    for name in re.findall(r"--config=(\w+\.json)", PAGES[page]):
        (form,) = re.findall(r"^```json\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)
        Path(name).write_text(form)


def commands_of(program: str) -> list:
    return [pytest.param(page, command, id=f"{page} {command}") for page, text in PAGES.items()
            for command in re.findall(rf"^    python {program} (.*)$", text, re.MULTILINE)]


ROLLOUTS = ["--device=cpu", "--test_timesteps=10", "--rollout_steps=20", "--iterations=2", "--total_timesteps=120",
            "--batch_size=10", "--n_epochs=2", "--test_rollouts=2"]


def small(command: str) -> list[str]:
    """The command's flags on a small budget."""
    flags = shlex.split(command)
    rrd = ["--rrd_batch_size=8", "--rrd_sample_size=4"] if "--alg=rrd" in command else []
    if re.search("alg=(ppo|my_algo)|--config=", command):
        return [*flags, *ROLLOUTS, *rrd]
    dqn = ["--eps_decay=100"] if "=dqn" in command else []
    return [*flags, *SMALL, *rrd, *dqn]


def run(*argv: str) -> Finished:
    """Train, and return the new directory."""
    before = set(Path("outputs").glob("*"))
    assert train.main(list(argv)) == 0
    return Finished(max(set(Path("outputs").glob("*")) - before))


def said(capsys) -> str:
    return re.search(r"engine (\w+ \(.*?\))", capsys.readouterr().out)[1]


class ByReplay(Decomposition):
    """Pays the rewards of the replay, and each step of an episode its own reward."""

    markov = joint = False

    def credit(self, episodes, mask):
        return episodes["rews"][..., 0]


def args(alg: str, **changes) -> Namespace:
    given = dict(alg=alg, obs_dims=(5,), acts_dims=(2,), device="cpu", batch_size=8, buffer_size=100)
    return Namespace(**given | changes)


def filled(replay: TransitionReplay, length: int = 10) -> TransitionReplay:
    rng = np.random.default_rng(0)
    sizes = {"obs": 5, "acts": 2, "rews": 1, "obs_next": 5}
    columns = {name: rng.uniform(-1, 1, (length, size)).astype(np.float32) for name, size in sizes.items()}
    replay.store_episode(columns | {"done": np.zeros((length, 1), np.float32)})
    return replay
