"""The record of a run: one directory with all that it was and did."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils.config import Config, ConfigError
from utils.display import View
from utils.logger import Logger

PACKAGES = ("torch", "tensorflow", "numpy", "gymnasium", "mujoco", "ale-py", "opencv-python-headless", "safetensors",
            "tensorboardX", "rich")


class Run:
    """Directory `outputs/<tag>-<alg>-<env>_<time>/`: settings, versions, metrics, returns, checkpoints.

    A context manager: it closes its files; of an error that ends the run it keeps the traceback in `error.txt`.
    """

    def __init__(self, config: Config, agent, facts: dict[str, Any], view: View, stop: threading.Event | None = None,
                 root: str | Path = "outputs"):
        """Make the directory.

        Args:
            facts: what else to keep in run.json, such as the resolved environment.
            view: where the run shows itself; the view's name, if it has one, is part of the directory's.
            stop: once it is set, `progress` raises KeyboardInterrupt.
        """
        self.config, self.view, self.stop = config, view, stop
        self.directory = _make_directory(Path(root), config, view.name.replace(" ", ""))
        (self.directory / "checkpoints").mkdir()
        _write_json(self.directory / "config.json", config.settings())
        _write_json(self.directory / "run.json", describe_system(config.device) | facts)
        names = ["Epoch", "Cycle", "Episodes", "Timesteps", "TimeCost(sec)/train", "TimeCost(sec)/test",
                 *agent.explore_info, *agent.train_info, *agent.step_info, "Steps", "Rewards"]
        self.logger = Logger(self.directory, names)
        self.returns: list[tuple[int, float]] = []
        self.best = -np.inf

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            self._keep_error(error)
        self.view.close()
        self.logger.close()

    def _keep_error(self, error: Exception) -> None:
        path = self.directory / "error.txt"
        with contextlib.suppress(OSError):              # it may be the disk that is full
            path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="replace")
            error.add_note(f"traceback in {path}")

    def say(self, line: str) -> None:
        """A line for people."""
        self.view.say(line)

    def progress(self, steps: int) -> None:
        """Called after each iteration: `steps` of the run are done."""
        if self.stop is not None and self.stop.is_set():
            raise KeyboardInterrupt
        self.view.progress(steps)

    def record(self, agent, cycle: int, steps: int, episodes: int) -> None:
        """Write a finished cycle: metrics, evaluation returns, checkpoints."""
        self.logger.add({"Epoch": cycle // self.config.cycles, "Cycle": cycle % self.config.cycles,
                         "Episodes": episodes, "Timesteps": steps})
        means = self.logger.flush(steps)
        self.view.show(means)
        self._save(agent, "last")
        if self.config.test_rollouts:
            self._keep_returns(agent, steps, means["Rewards"])

    def _keep_returns(self, agent, steps: int, rewards: float) -> None:
        self.returns.append((steps, rewards))
        if rewards > self.best:
            self.best = rewards
            self._save(agent, "best")
        if self.config.save_rews:
            folder = self.directory / "rews"
            folder.mkdir(exist_ok=True)
            np.savez(folder / f"{_file_name(self.config.env)}.npz", info=np.array(self.returns, dtype=np.float64))

    def _save(self, agent, name: str) -> None:
        agent.save_model(self.directory / "checkpoints" / f"{name}{agent.checkpoint_suffix}")


def count_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def crowded() -> str | None:
    """A hint if other programs use the cores that PyTorch's threads will wait for each other on."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    cores, threads = os.cpu_count(), torch.get_num_threads()
    if threads == 1 or load < 0.75 * cores:
        return None
    return (f"note: {threads} threads on {cores} cores that are busy already (load {load:.1f}); "
            "runs side by side are many times faster with OMP_NUM_THREADS=1 each")


def describe_system(device: str) -> dict[str, Any]:
    """Command, versions, machine, code: what a result may depend on."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_clean": _git("status", "--porcelain") == "",
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _make_directory(root: Path, config: Config, which: str = "") -> Path:
    """which: tells the run from others of the same settings, such as `seed0`."""
    parts = [_file_name(part) for part in (config.tag, config.alg, config.env)]
    name = "-".join(filter(None, parts)) + f"_{which}" * bool(which) + time.strftime("_%Y%m%d-%H%M%S")
    try:
        for suffix in ["", *(f".{i}" for i in range(2, 1000))]:
            try:
                (root / (name + suffix)).mkdir(parents=True)
                return root / (name + suffix)
            except FileExistsError:                    # another run of the same second
                if not root.is_dir():
                    raise
    except OSError as error:
        raise ConfigError(f"outputs: cannot create {str(root / name)!r}: {error.strerror}") from None
    raise ConfigError(f"outputs: {str(root / name)!r} exists 999 times over")


def _file_name(text: str) -> str:
    """A name that no shell or file system trips over."""
    safe = re.sub(r"[^\w.()+=-]+", "_", text).lstrip(".-")
    return safe.encode()[:100].decode(errors="ignore")          # file systems count bytes, up to 255


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _version(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):            # TensorFlow's build without CUDA
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def _git(*command: str) -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "-C", str(here), *command], capture_output=True, text=True, timeout=10,
                              check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
