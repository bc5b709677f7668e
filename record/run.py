"""The record of a run: one directory with all that it was and did."""

from __future__ import annotations

import contextlib
import io
import json
import re
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from record.directories import check_backend, choose_directory, compare, file_name
from record.logger import Logger
from record.store import Generation, Store, fitting
from record.system import describe_system, differences
from record.track import Tracker, new_id
from utils.display import View
from utils.errors import CheckpointError
from utils.files import SaveError, saving, write_file
from utils.settings.fields import Config
from utils.stop import Stop, Stopped


class Run:
    """Directory `outputs/<tag>-<alg>-<env>_<time>/`: settings, versions, metrics, returns, checkpoints.

    A context manager: it closes its files; of an error that ends the run it keeps the traceback in `error.txt`.
    """

    def __init__(self, config: Config, agent, facts: dict[str, Any], view: View, stop: Stop,
                 root: str | Path = "outputs", columns: Sequence[str] = ()):
        """Make the directory, or open the one that is gone on with: `config.resume`, or by `config.on_existing`.

        Args:
            facts: what else to keep in run.json, such as the resolved environment.
            view: where the run shows itself; the view's name, if it has one, is part of the directory's.
            stop: once it is set, `progress` raises Stopped.
            columns: metrics besides those that every run has.
        Raises:
            ConfigError: the directory cannot be made, or its run has other settings.
            CheckpointError: there is a run, but what it is resumed from is damaged, or in use.
        """
        self.config, self.view, self.stop, self.columns = config, view, stop, columns
        self.facts = describe_system(config.device) | facts
        self.directory, self.is_new = choose_directory(config, Path(root), view.name.replace(" ", ""))
        self.store = Store(self.directory / "checkpoints" / "resume")
        try:
            was_here = (self.store.directory / "lock").exists()
            self.store.open()                           # before anybody can find the run
            self.saved = None if self.is_new else self._load(was_here)
            with fitting(self.saved):
                self._open(agent)
        except BaseException:
            self.store.close()
            raise

    def _open(self, agent) -> None:
        (self.directory / "checkpoints").mkdir(exist_ok=True)
        (self.directory / "error.txt").unlink(missing_ok=True)      # it goes on from before the error
        self.facts["resumed"] = self._history()
        if run_id := self._run_id():
            self.facts["wandb"] = run_id
        _write_json(self.directory / "config.json", self.config.settings())
        _write_json(self.directory / "run.json", self.facts)
        names = ["Epoch", "Cycle", "Episodes", "Timesteps", "TimeCost(sec)/train", "TimeCost(sec)/test",
                 *agent.explore_info, *agent.train_info, *agent.step_info, "Steps", "Rewards", *self.columns]
        record = self.saved.values["record"] if self.saved else {"returns": [], "best": -np.inf, "logger": None}
        self.logger = Logger(self.directory, names, record["logger"])
        self.returns = [tuple(pair) for pair in record["returns"]]
        self.best = record["best"]
        self.tracker = Tracker(self.config, self.directory, run_id, self.say) if self.config.track else None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            self._keep_error(error)
        self.view.close()
        self.store.close()
        if self.tracker:
            self.tracker.close(exit_code=0 if error is None or isinstance(error, Stopped) else 1)
        try:
            self.logger.close()
        except SaveError:
            if error is None:
                raise

    def _keep_error(self, error: Exception) -> None:
        path = self.directory / "error.txt"
        with contextlib.suppress(OSError):              # it may be the disk that is full
            path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="replace")
            error.add_note(f"traceback in {path}")

    def _load(self, was_here: bool) -> Generation | None:
        """was_here: whether the run, ever since it began, had a place to be saved to."""
        check_backend(self.directory, self.facts.get("backend"))
        saved = self.store.load(lambda line: self.say(f"note: {line}"))
        if saved is None and not was_here:
            raise CheckpointError(f"{self.store.directory}: missing, so nothing is left to go on from; "
                                  "expected a new run")
        if saved is not None:
            with fitting(saved):
                compare(saved.values["config"], self.config, self.directory)        # config.json may have been edited
        return saved

    def _history(self) -> list[dict[str, Any]]:
        """What run.json tells of each time that the run was gone on with."""
        if self.saved is None:
            return []
        then = self.saved.values["system"]
        changes = [f"{name} {was} -> {now}" for name, was, now in differences(then, self.facts)]
        if changes:
            self.say("note: from here on not to the bit what it would have been: " + ", ".join(changes))
        now = {name: self.facts[name] for name in ("command", "started", "git_commit", "versions")}
        return [*then.get("resumed", ()), {"at": self.saved.values["learner"]["steps"], "changes": changes, **now}]

    def _run_id(self) -> str | None:
        """Under which Weights & Biases knows the run, of all its parts; None where none was tracked."""
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):   # it may be anybody's file
            facts = json.loads((self.directory / "run.json").read_bytes())
            if re.fullmatch(r"[0-9a-f]{8}", facts.get("wandb")):
                return facts["wandb"]
        return new_id() if self.config.track else None

    def say(self, line: str) -> None:
        """A line for people."""
        self.view.say(line)

    def progress(self, steps: int) -> None:
        """Called after each iteration, where nothing is half done: `steps` of the run are done."""
        self.view.progress(steps)
        self.stop.check()

    def record(self, agent, cycle: int, steps: int, episodes: int) -> None:
        """Write a finished cycle: metrics, evaluation returns, checkpoints."""
        self.logger.add({"Epoch": cycle // self.config.cycles, "Cycle": cycle % self.config.cycles,
                         "Episodes": episodes, "Timesteps": steps})
        means = self.logger.flush(steps)
        self.view.show(means)
        if self.tracker:
            self.tracker.log(means, steps)
        self._save_model(agent, "last")
        if self.config.test_rollouts:
            self._keep_returns(agent, steps, means["Rewards"])

    def save(self, learner) -> None:
        """Write what the run is resumed from; signals wait.

        Raises:
            SaveError: it could not be written; the generation before is untouched.
        """
        if not learner.agent.resumable:
            return
        self.stop.saves += 1
        try:
            values, tensors = learner.state()
            values["record"] = {"returns": self.returns, "best": self.best, "logger": self.logger.state()}
            values |= {"system": self.facts, "config": self.config.settings()}
            replay = learner.buffer
            self.store.save(values, tensors,
                            replay.first_episode, replay.episodes_stored, replay.read_episodes, replay.episode_bytes)
        finally:
            self.stop.saves -= 1

    def _keep_returns(self, agent, steps: int, rewards: float) -> None:
        self.returns.append((steps, rewards))
        if rewards > self.best:
            self.best = rewards
            self._save_model(agent, "best")
        if self.config.save_rews:
            folder = self.directory / "rews"
            with saving(folder, 0):
                folder.mkdir(exist_ok=True)
            data = io.BytesIO()
            np.savez(data, info=np.array(self.returns, dtype=np.float64))
            write_file(folder / f"{file_name(self.config.env)}.npz", data.getvalue())

    def _save_model(self, agent, name: str) -> None:
        path = self.directory / "checkpoints" / f"{name}{agent.checkpoint_suffix}"
        with saving(path, 0):
            agent.save_model(path)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_file(path, (json.dumps(value, indent=2) + "\n").encode())
