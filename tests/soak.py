"""Measure whether a long run grows: `make soak` trains for an hour; or `python tests/soak.py --seconds 3600`.

It reports memory, open files and threads, and their changes since the replay was full. The exit code is 1 if
memory grew by a hundredth, or the others at all.

It needs Linux, because it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FULL = 10_000       # steps of the replay
FLAGS = ["--alg=rrd", "--env=HalfCheetah-v4", "--device=cpu", f"--buffer_size={FULL}", "--warmup=1000",
         "--iterations=20",
         "--test_rollouts=1", "--total_timesteps=1000000000"]


def sample(process: int) -> dict[str, int]:
    """Resident bytes, open files, threads, now."""
    folder = Path(f"/proc/{process}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return {"bytes": int(status["VmRSS"].split()[0]) * 1024, "files": len(list((folder / "fd").iterdir())),
            "threads": int(status["Threads"])}


def watch(seconds: float, every: float, directory: str) -> list[dict[str, float]]:
    """Samples of a run, each with its time and the steps that were done."""
    with subprocess.Popen([sys.executable, str(ROOT / "train.py"), *FLAGS], cwd=directory, stdout=subprocess.PIPE,
                          text=True) as run:
        found, begin, steps = [], time.monotonic(), 0
        try:
            for line in run.stdout:
                fields = dict(part.split("=", 1) for part in line.split("  ") if "=" in part)
                steps = int(float(fields.get("Timesteps", steps)))
                now = time.monotonic() - begin
                if not found or now - found[-1]["seconds"] >= every:
                    found.append({"seconds": now, "steps": steps, **sample(run.pid)})
                if now > seconds:
                    break
        finally:
            run.terminate()
            run.stdout.close()
    return found


def judge(found: list[dict[str, float]]) -> dict[str, float]:
    """What changed between the first and the last tenth of the samples since the replay was full twice over."""
    full = [one for one in found if one["steps"] >= 2 * FULL]
    tenth = max(1, len(full) // 10)
    mean = lambda name, part: statistics.fmean(one[name] for one in part)           # noqa: E731
    summary = {name: mean(name, full[-tenth:]) for name in ("bytes", "files", "threads")}
    return {**summary, "steps": found[-1]["steps"], "minutes": found[-1]["seconds"] / 60, "samples": len(full),
            "memory_growth": summary["bytes"] / mean("bytes", full[:tenth]) - 1,
            **{f"{name}_growth": summary[name] - mean(name, full[:tenth]) for name in ("files", "threads")}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--every", type=float, default=10, help="seconds between samples")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        found = watch(given.seconds, given.every, directory)
    summary = judge(found)
    print(json.dumps(summary, indent=1))
    return int(summary["memory_growth"] >= 0.01 or summary["files_growth"] > 0 or summary["threads_growth"] > 0)


if __name__ == "__main__":
    sys.exit(main())
