"""Runs that are stopped and resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from saved import board, digest, rows

import train

Main = Callable[[list[str]], int]
# Episodes of up to 17 steps, and iterations of 20: the run stops in the middle of one.
FLAGS = ["--device=cpu", "--test_timesteps=17", "--timesteps=20", "--iterations=2", "--warmup=40", "--buffer_size=90",
         "--batch_size=8", "--train_batches=3", "--test_rollouts=1"]


def run(*argv: str, main: Main = train.main) -> Path:
    """The directory of a run that succeeds."""
    before = set(Path("outputs").glob("*"))
    assert main(list(argv)) == 0
    new = set(Path("outputs").glob("*")) - before
    return new.pop() if new else None


def same(one: Path, other: Path) -> None:
    ours, theirs = digest(one), digest(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert board(one) == board(other)
    assert rows((one / "metrics.csv").read_text()) == rows((other / "metrics.csv").read_text())


def flags_of(alg: str | None, basis: str) -> list[str]:
    small = ["--rrd_batch_size=8", "--rrd_sample_size=4"] if alg == "rrd" else []
    return [f"--alg={alg}", f"--basis_alg={basis}", *small] if alg else [f"--alg={basis}"]


def twice(argv: list[str], short: int, long: int, *again: str, main: Main = train.main) -> None:
    """A run that is resumed is as one that was never stopped; `again` are flags that the resumed one needs."""
    parts = run(*argv, f"--total_timesteps={short}", "--tag=parts", main=main)
    assert main([f"--resume={parts}", f"--total_timesteps={long}", *again]) == 0
    same(parts, run(*argv, f"--total_timesteps={long}", "--tag=whole", main=main))
