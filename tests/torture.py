"""Kill a run repeatedly, also while it saves, and resume it: `make torture`, or `python tests/torture.py --kills 200`.

Each restart must load, lose no more than one interval between checkpoints, and at the end everything must equal, to
the bit, an undisturbed run. A quarter of the kills come at a random time, the others inside a save: before
or after one of its writes, fsyncs and renames.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

os.environ.setdefault("OMP_NUM_THREADS", "1")

from saved import board, digest, rows  # noqa: E402

import train  # noqa: E402
import utils.files  # noqa: E402
from learner import Learner  # noqa: E402
from record.run import Run  # noqa: E402

CYCLE = 20          # steps, one interval
FLAGS = ["--alg=rrd", "--rrd_batch_size=8", "--rrd_sample_size=4", "--env=Hopper-v4", "--device=cpu",
         "--test_timesteps=17", "--timesteps=10", "--iterations=2", "--warmup=40", "--buffer_size=200",
         "--batch_size=8", "--train_batches=2", "--test_rollouts=1"]


def in_child(work: Callable[[int], int]) -> tuple[int, int]:
    """Fork; `work(pipe)` there gives the exit code. Returns (process, the pipe's other end)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    os.close(reader)
    code = 70
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        code = work(writer)
    finally:
        os._exit(code)


def training(argv: list[str], die_at: int | None) -> Callable[[int], int]:
    """A run that sends (1, the steps it has done) and (2, the steps it resumes from) through a pipe; it kills itself
    before the `die_at`-th write, fsync or rename.
    """
    def work(pipe: int) -> int:
        progress, restore, calls = Run.progress, Learner.restore, [0]

        def told_progress(self, steps):
            os.write(pipe, struct.pack("<qq", 1, steps))
            progress(self, steps)

        def told_restore(self, saved):
            lost = restore(self, saved)
            os.write(pipe, struct.pack("<qq", 2, self.steps))
            return lost
        Run.progress, Learner.restore = told_progress, told_restore
        if die_at is not None:
            for name in ("fsync", "replace"):
                _die_around(utils.files.os, name, calls, die_at)
        return train.main(argv)
    return work


def _die_around(module, name: str, calls: list[int], die_at: int) -> None:
    function = getattr(module, name)

    def counted(*args):
        for moment in ("before", "after"):
            calls[0] += 1
            if calls[0] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if moment == "before":
                result = function(*args)
        return result
    setattr(module, name, counted)


def read_all(pipe: int) -> list[tuple[int, int]]:
    data = b""
    while chunk := os.read(pipe, 65536):
        data += chunk
    os.close(pipe)
    return [struct.unpack("<qq", data[i:i + 16]) for i in range(0, len(data) - len(data) % 16, 16)]


def torture(kills: int, seed: int, say: Callable[[str], None] = print) -> dict[str, int]:
    """In the current directory, an empty one. Returns the counts; AssertionError if a guarantee is broken."""
    chance = random.Random(seed)
    steps = max(200, 12 * kills)
    flags = [*FLAGS, f"--total_timesteps={steps // CYCLE * CYCLE}"]
    start = time.monotonic()
    child, pipe = in_child(training([*flags, "--tag=whole"], None))
    read_all(pipe)
    assert os.waitpid(child, 0)[1] == 0, "the undisturbed run failed"
    takes = time.monotonic() - start
    counted = {"kills": 0, "restarts": 0, "in saves": 0, "most lost": 0}
    reached, ended = 0, False
    while not ended:
        die_at = None
        killing = counted["kills"] < kills
        if killing and chance.random() < 0.75:
            die_at = chance.randrange(1, 120)
        child, pipe = in_child(training([*flags, "--tag=parts", "--on_existing=resume"], die_at))
        if killing and die_at is None:
            time.sleep(chance.uniform(0, min(takes, 1.5)))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        sent = read_all(pipe)
        status = os.waitpid(child, 0)[1]
        for kind, done in sent:
            if kind == 2:
                counted["restarts"] += 1
                counted["most lost"] = max(counted["most lost"], reached - done)
                assert reached - done <= CYCLE, f"went on after {done} steps, but {reached} were done"
            reached = max(reached, done) if kind == 1 else reached
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            counted["kills"] += 1
            counted["in saves"] += die_at is not None
            if counted["kills"] % 20 == 0:
                say(f"{counted['kills']} kills, {reached} of {steps} steps")
        else:
            assert os.WEXITSTATUS(status) == 0, f"exit code {os.WEXITSTATUS(status)} after {counted}"
            ended = True
    assert counted["kills"] == kills, f"the run ended after {counted['kills']} kills"
    check(counted)
    return counted


def check(counted: dict[str, int]) -> None:
    parts = [path for path in Path("outputs").glob("parts*") if (path / "checkpoints" / "resume").exists()]
    (whole,) = Path("outputs").glob("whole*")
    assert len(parts) == 1, parts
    ours, theirs = digest(parts[0]), digest(whole)
    different = [name for name in theirs if ours.get(name) != theirs[name]]
    assert not different, different
    assert ours.keys() == theirs.keys()
    assert board(parts[0]) == board(whole), "TensorBoard's files differ"
    assert rows((parts[0] / "metrics.csv").read_text()) == rows((whole / "metrics.csv").read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    directory, before = tempfile.mkdtemp(prefix="torture-"), Path.cwd()
    os.chdir(directory)
    try:
        print(f"all promises kept: {torture(given.kills, given.seed)}")
    finally:
        os.chdir(before)
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
