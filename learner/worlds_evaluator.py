"""Evaluation during training on frozen worlds, and the files that it leaves beside the record."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from envs.marinenav.files import write_worlds
from envs.marinenav.frozen import SEED
from envs.training_env import TrainingEnv
from learner.episodes import own_draws
from learner.staging import EVALUATED
from learner.worlds import COLUMNS, NAMES, OF_SUCCESSES, PlayedWorlds, WorldPlayer
from record.logger import Logger
from utils.cases import write_case
from utils.errors import CheckpointError
from utils.files import read_file, saving, write_json
from utils.seeding import stream_seed
from utils.settings.fields import Config
from utils.settings.marinenav_form import trial_of
from utils.stop import Stop

LARGEST = 2**31


class WorldsEvaluator:
    """Plays the same worlds with the same draws at each evaluation; so its state is the number of evaluations."""

    def __init__(self, config: Config, env: TrainingEnv, actor: Any, stop: Stop, directory: Path):
        """
        Args:
            env: the worlds, see `learner.worlds.open_worlds`.
            directory: of the run; `eval_configs.json`, `trial_config.json`, `evaluations.npz` and `trajectories/` are
                written there.
        """
        self.config, self.actor, self.directory = config, actor, directory
        self.player = WorldPlayer(env, actor, config.gamma, stop)
        self.table: dict[str, list[np.ndarray]] = {name: [] for name in ("timesteps", *NAMES)}
        task = env.task
        write_worlds(directory / "eval_configs.json", task.given, task.rules, as_published=True, seed=SEED)
        write_json(directory / "trial_config.json", trial_of(config, time_of(directory)))

    def state(self) -> dict[str, Any]:
        """Return the number of evaluations."""
        return {"evaluations": len(self.table["timesteps"])}

    def restore(self, state: dict[str, Any]) -> None:
        """Read the evaluations of a run that is resumed, as many as it had.

        Raises:
            CheckpointError: the file lacks some of them.
        """
        count = state["evaluations"] + 0                                    # a TypeError unless it is a number
        if count > len(self.table["timesteps"]):
            self.table = read_table(self.directory / "evaluations.npz")
        self.table = {name: column[:count] for name, column in self.table.items()}
        if len(self.table["timesteps"]) < count:
            raise CheckpointError(f"{self.directory / 'evaluations.npz'}: got {len(self.table['timesteps'])} "
                                  f"evaluations, expected {count}")

    def evaluate(self, logger: Logger, steps: int = 0) -> None:
        """Play all worlds, log their means, and add them to the files.

        Raises:
            NotFiniteError: an observation or a reward is not finite.
            SaveError: a file could not be written.
        """
        seed = stream_seed(self.config.seed, "test actions")
        with own_draws(self.actor, seed):
            played = self.player.play(stream_seed(self.config.seed, "test env"))
        logger.add(means_of(played))
        self.table["timesteps"].append(np.int64(steps))
        for name, values in played.summaries().items():
            self.table[name].append(values)
        folder = self.directory / "trajectories"
        with saving(folder, 0):
            folder.mkdir(exist_ok=True)
        write_case(folder / f"{steps}.npz", flat(played))
        write_case(self.directory / "evaluations.npz", {name: np.stack(rows) for name, rows in self.table.items()})


def means_of(played: PlayedWorlds) -> dict[str, float]:
    """Return the columns of the record: `Steps`, `Rewards`, `COLUMNS` as far as there are successes, and metrics."""
    won = played.successes > 0
    found = {"Steps": float(played.lengths.mean()), "Rewards": float(played.returns.mean())}
    for column, name in COLUMNS.items():
        values = getattr(played, name)
        values = values[won] if column in OF_SUCCESSES else values
        found |= {column: float(values.mean())} if len(values) else {}
    return found | {EVALUATED + name: float(values.mean()) for name, values in played.metrics.items()}


def flat(played: PlayedWorlds) -> dict[str, np.ndarray]:
    """Return what the robots did, one robot after the other, world by world.

    `steps` (W, R), of each robot; -1: there is none. `trajectories` (S, 13), the start and each of its steps, and
    `actions` (S', A), each of its steps; S is the sum of steps + 1.
    """
    robots = [(w, r) for w, r in np.ndindex(*played.steps.shape) if played.steps[w, r] >= 0]
    paths = [played.paths[:played.steps[w, r] + 1, w, r] for w, r in robots]
    acts = [played.acts[:played.steps[w, r], w, r] for w, r in robots]
    return {"steps": played.steps, "trajectories": np.concatenate(paths).astype(np.float32),
            "actions": np.concatenate(acts)}


def read_table(path: Path) -> dict[str, list[np.ndarray]]:
    """Read `evaluations.npz`.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        with np.load(io.BytesIO(read_file(path, LARGEST)), allow_pickle=False) as file:
            return {name: list(file[name]) for name in ("timesteps", *NAMES)}
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: damaged ({type(error).__name__}), expected the evaluations of this run"
                              ) from None


def time_of(directory: Path) -> str:
    """Return the time in the name of a run's directory, or of the one above it."""
    for name in (directory.parent.name, directory.name):
        if found := re.search(r"\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d|\d{8}-\d{6}", name):
            return found[0]
    return ""
