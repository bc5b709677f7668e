"""The record of one run: a directory with its settings, metrics, returns and checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from record.charts import AFTER_ROLLOUT, NAMES, shown
from record.directories import check_same_backend, choose_directory, compare, file_name
from record.logger import Logger
from record.store import Generation, Snapshot, Store, fitting
from record.system import describe_system, differences
from record.track import Tracker, new_id
from utils.display import View
from utils.errors import CheckpointError
from utils.files import SaveError, saving, write_file, write_json
from utils.settings.fields import Config
from utils.stop import Stop, Stopped

Metrics = dict[str, float | None]           # None: nothing was measured


class Run:
    """Directory `outputs/<tag>-<alg>-<basis>-<env>_<time>/`: settings, versions, metrics, returns, checkpoints.

    A context manager, which closes the files. If an error ends the run, its traceback is kept in `error.txt`.
    """

    def __init__(self, config: Config, columns: Sequence[str], facts: dict[str, Any], view: View, stop: Stop,
                 root: str | Path = "outputs", suffix: str = ".safetensors"):
        """Create the directory; or open that of an earlier run, by `config.resume` or `config.on_existing`.

        Args:
            columns: names of the metrics, in the order of `metrics.csv`, after the counts and times of every run.
            facts: what run.json holds besides the system, such as the resolved environment.
            view: where the run is displayed; the name of the view, if any, is part of the directory's name.
            stop: once it is set, `progress` raises Stopped.
            suffix: how names of model files end.
        Raises:
            ConfigError: the directory cannot be created, or its run has other settings.
            CheckpointError: the run exists, but its saved state is damaged or in use.
        """
        self.config, self.columns, self.view, self.stop, self.suffix = config, columns, view, stop, suffix
        self.facts = describe_system(config.device) | facts
        self.directory, self.is_new = choose_directory(config, Path(root), view.name.replace(" ", ""))
        self.store = Store(self.directory / "checkpoints" / "resume")
        try:
            had_store = (self.store.directory / "lock").exists()
            self.store.open()                           # before another process can find the run
            self.saved = None if self.is_new else self._load(had_store)
            with fitting(self.saved):
                self._open()
        except BaseException:
            self.store.close()
            raise

    def _open(self) -> None:
        (self.directory / "checkpoints").mkdir(exist_ok=True)
        (self.directory / "error.txt").unlink(missing_ok=True)      # the run resumes from before the error
        self.facts["resumed"] = self._history()
        run_id = self._run_id()
        if run_id:
            self.facts["wandb"] = run_id
        write_json(self.directory / "config.json", self.config.settings())
        write_json(self.directory / "run.json", self.facts)
        self._open_metrics(run_id)

    def _open_metrics(self, run_id: str | None) -> None:
        record = self.saved.values["record"] if self.saved else {"returns": [], "best": -np.inf, "logger": None}
        names = ["Epoch", "Cycle", "Episodes", "Timesteps", "TimeCost(sec)/train", "TimeCost(sec)/test", *self.columns]
        self.points = NAMES if self.config.on_policy else {}
        self.logger = Logger(self.directory, names, record["logger"], self.points)
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
        with contextlib.suppress(OSError):              # the error may be a full disk
            path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="replace")
            error.add_note(f"traceback in {path}")

    def _load(self, had_store: bool) -> Generation | None:
        """had_store: whether the run had a directory for saved states when this process found it."""
        check_same_backend(self.directory, self.facts.get("backend"))
        saved = self.store.load(lambda line: self.say(f"note: {line}"))
        if saved is None and not had_store:
            raise CheckpointError(f"{self.store.directory}: missing, so the run cannot be resumed; start a new run")
        if saved is not None:
            with fitting(saved):
                compare(saved.values["config"], self.config, self.directory)        # config.json may have been edited
        return saved

    def _history(self) -> list[dict[str, Any]]:
        """Return one entry for each time that the run was resumed, for run.json."""
        if self.saved is None:
            return []
        then = self.saved.values["system"]
        changes = [f"{name} {was} -> {now}" for name, was, now in differences(then, self.facts)]
        if changes:
            self.say("note: from here on the numbers may differ from those of an uninterrupted run: "
                     + ", ".join(changes))
        now = {name: self.facts[name] for name in ("command", "started", "git_commit", "versions")}
        return [*then.get("resumed", ()), {"at": self.saved.values["learner"]["steps"], "changes": changes, **now}]

    def _run_id(self) -> str | None:
        """Return the run's id at Weights & Biases, the same for all its parts; None if no part was tracked."""
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):   # the file may be another program's
            facts = json.loads((self.directory / "run.json").read_bytes())
            if re.fullmatch(r"[0-9a-f]{8}", facts.get("wandb")):
                return facts["wandb"]
        return new_id() if self.config.track else None

    def say(self, line: str) -> None:
        """Display a line."""
        self.view.say(line)

    def progress(self, steps: int) -> None:
        """Display that `steps` environment steps are done; call it only where no iteration is half done.

        Raises:
            Stopped: the run was asked to stop.
        """
        self.view.progress(steps)
        self.stop.check()

    def chart(self, means: Mapping[str, float], more: Mapping[str, float], steps: int) -> None:
        """Write to TensorBoard and Weights & Biases what is known after the updates on a rollout.

        Args:
            means: metrics of the updates by their names.
            more: further numbers, under the names that they get there.
            steps: environment steps so far.
        Raises:
            SaveError: a file could not be written.
        """
        points = {AFTER_ROLLOUT[name]: value for name, value in means.items() if name in AFTER_ROLLOUT} | more
        self.logger.write(points, steps)
        if self.tracker:
            self.tracker.log(points, steps)

    def record(self, cycle: int, steps: int, episodes: int, save_model: Callable[[Path], None]) -> Metrics:
        """Write a finished cycle: metrics, evaluation returns, checkpoints. Return its metrics.

        Args:
            cycle: its number in the run, from 0.
            steps: environment steps so far.
            episodes: finished episodes so far.
            save_model: writes the model to a file.
        Raises:
            SaveError: a file could not be written.
        """
        self.logger.add({"Epoch": cycle // self.config.cycles, "Cycle": cycle % self.config.cycles,
                         "Episodes": episodes, "Timesteps": steps})
        means = self.logger.flush(steps)
        self.view.show(means)
        if self.tracker:
            self.tracker.log(shown(means, self.points), steps)
        self._save_model(save_model, "last")
        self._keep_best(save_model, means)
        if self.config.test_rollouts and means["Rewards"] is not None:      # None: every episode was dropped
            self._keep_returns(steps, means["Rewards"])
        return means

    def save(self, snapshot: Snapshot) -> None:
        """Write the state that the run is resumed from: the snapshot, and that of the record itself.

        Raises:
            SaveError: it could not be written; the state saved before is untouched.
        """
        self.stop.saves += 1                            # a second Ctrl-C does not interrupt it
        try:
            record = {"returns": self.returns, "best": self.best, "logger": self.logger.state()}
            values = snapshot.values | {"record": record, "system": self.facts, "config": self.config.settings()}
            self.store.save(dataclasses.replace(snapshot, values=values))
        finally:
            self.stop.saves -= 1

    def _keep_best(self, save_model: Callable[[Path], None], means: Metrics) -> None:
        """Save the model if it is the best one so far, by the column that `best` names."""
        value, least = means[self.config.best.removeprefix("-")], self.config.best.startswith("-")
        score = None if value is None else -value if least else value
        if score is not None and score > self.best:
            self.best = score
            self._save_model(save_model, "best")

    def _keep_returns(self, steps: int, rewards: float) -> None:
        self.returns.append((steps, rewards))
        if self.config.save_rews:
            folder = self.directory / "rews"
            with saving(folder, 0):
                folder.mkdir(exist_ok=True)
            data = io.BytesIO()
            np.savez(data, info=np.array(self.returns, dtype=np.float64))
            write_file(folder / f"{file_name(self.config.env)}.npz", data.getvalue())

    def _save_model(self, save_model: Callable[[Path], None], name: str) -> None:
        path = self.directory / "checkpoints" / f"{name}{self.suffix}"
        with saving(path, 0):
            save_model(path)
