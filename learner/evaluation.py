"""Evaluate a trained agent from the directory of its run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from algorithm import create_agent
from algorithm.decomposition.diagnosis import NAMES, Numbers
from algorithm.decomposition.judge import create_judge
from algorithm.model_file import Model, settings_with
from envs import make_env, sizes, with_version
from envs.given import eval_config
from learner.episodes import PlayedEpisode, Player, Stoppable, numbers_of, own_draws
from learner.loading import check_pytorch, existing, load_replay, model_at
from learner.worlds import Film, WorldPlayer, episodes_of, has_worlds, open_worlds
from utils.errors import CheckpointError, ConfigError
from utils.files import read_file
from utils.seeding import stream_seed
from utils.settings.algorithms import diagnosed, is_discrete
from utils.settings.cli import check_import
from utils.settings.fields import Config
from utils.settings.json_files import read_json
from utils.settings.marinenav_form import LONGEST, ROBOTS
from utils.settings.resolve import coerce, not_diagnosed
from utils.stop import Stop
from utils.threads import one_thread
from utils.torch_state import apart


@dataclass
class Evaluation:
    """An agent, its environment, and the episodes that it has played there."""

    run: Path
    checkpoint: Path
    sha256: str                         # of the checkpoint's bytes
    config: Config
    agent: Any
    env: Any
    judge: Any = None
    episodes: list[PlayedEpisode] = field(default_factory=list)
    others: list[PlayedEpisode] = field(default_factory=list)       # of the other kind, for a diagnosis
    film: Film | None = None            # of the first world, where the environment has several rows


def run_settings(run: Path, given: dict[str, str]) -> Config:
    """Return the settings of a run, with changes.

    Args:
        given: the changes, as text by name.

    Raises:
        ConfigError: a setting is wrong, or config.json names a module to import.
    """
    settings = read_json(run / "config.json")
    if "env" not in given:
        check_import(settings.get("env") or "", str(run / "config.json"))
    return changed(settings, given)


def model_settings(model: Model, given: dict[str, str]) -> Config:
    """Return the settings of a model's file, which names no environment, with changes.

    Raises:
        ConfigError: a setting is wrong, or there is no environment among the changes.
    """
    if model.path.is_dir():
        return _marinenav(model, given)
    if "env" not in given:
        raise ConfigError(f"env: {str(model.path)!r} names no environment; expected --env=ID")
    skipped = ("env", "env_kwargs", "test_timesteps")
    return changed({name: value for name, value in model.settings.items() if name not in skipped}, given)


def _marinenav(model: Model, given: dict[str, str]) -> Config:
    """Return the settings of a published model of MarineNav: its own environment, in the default worlds."""
    settings = dict(model.settings) | {"env": "MarineNav-v0", "env_type": "normal", "test_timesteps": LONGEST}
    kwargs = coerce("env_kwargs", given.get("env_kwargs", json.dumps({"num_robots": ROBOTS})))
    kwargs |= {"discrete": True} if is_discrete(settings["alg"]) else {}
    return changed(settings, given | {"env_kwargs": json.dumps(kwargs)})


def changed(settings: dict[str, Any], given: dict[str, str]) -> Config:
    """Return settings with changes, as text by name, resolved."""
    if "env_kwargs" in given:
        settings.pop("eval_env_kwargs", None)           # the flag wins
    if "env_type" in given:
        settings.pop("reward_every", None)              # the flag wins
    if given.get("env_type") == "ep_rews":
        settings.pop("rews_scale", None)                # only read with the other one
    return settings_with(settings | {name: coerce(name, text) for name, text in given.items()})


@apart
def load_trained(run: Path, checkpoint: Path, given: dict[str, str], stop: Stop) -> Evaluation:
    """Load the trained agent, and make its environment.

    Args:
        given: changed settings, as text by name.
        stop: once it is set, the environment raises Stopped.
    Raises:
        ConfigError: a setting is wrong, or the environment cannot be made.
        CheckpointError: the checkpoint is missing, damaged, or of another agent, such as one of other sizes.
    """
    from utils.torch_utils import resolve_device
    check_pytorch(run, checkpoint)
    model = model_at(checkpoint)
    config = eval_config(run_settings(run, given) if model is None else model_settings(model, given))
    config = dataclasses.replace(config, device=str(resolve_device(config.device)), buffer_device="cpu")
    env = make_env(config)
    try:
        config = sizes(dataclasses.replace(config, env=with_version(config.env)), env)
        agent = create_agent(config)
        if model is None:
            agent.load_model(existing(checkpoint, "--checkpoint {}"))
        else:
            model.load_into(agent)
        digest = _digest(checkpoint)
    except BaseException:
        env.close()
        raise
    return Evaluation(run, checkpoint, digest, config, agent, Stoppable(env, stop))


def _digest(checkpoint: Path) -> str:
    """SHA-256 of a file, or of the weights in a directory."""
    files = sorted(checkpoint.glob("*.pth")) if checkpoint.is_dir() else [checkpoint]
    return hashlib.sha256(b"".join(map(read_file, files))).hexdigest()


@apart
def prepare_diagnosis(evaluation: Evaluation, say: Callable[[str], None]) -> None:
    """Prepare an evaluation to predict rewards.

    Args:
        say: called with a line if there is no replay to compare the rewards with.
    Raises:
        ConfigError: the algorithm predicts no reward.
    """
    agent = evaluation.agent
    if has_worlds(evaluation.config):
        raise ConfigError("diagnose: got worlds of several rows, expected an environment of one row")
    if agent.config.alg not in diagnosed():
        raise ConfigError(f"diagnose: {not_diagnosed(agent.config.alg, '', 'a run of ')}")
    replay = None
    try:
        replay = load_replay(evaluation.run, evaluation.config)
    except (CheckpointError, ConfigError) as error:
        say(f"note: the replay of the run cannot be read: {error}")
    evaluation.judge = create_judge(agent, replay)
    if replay is None or not replay.episodes:
        say("note: the run has saved no replay, " + (
            "so there are no numbers of its episodes" if evaluation.judge else
            f"without which {agent.config.alg} predicts no reward"))


@apart
def play_episodes(evaluation: Evaluation, count: int, seed: int, explore: bool, diagnose: bool) -> None:
    """Play `count` episodes; for a diagnosis also as many of the other kind, with the same seeds.

    Raises:
        NotFiniteError: an observation, a true or a predicted reward is not finite.
        Stopped: the program was asked to stop.
    """
    if has_worlds(evaluation.config):
        with one_thread():
            evaluation.episodes = _play_worlds(evaluation, count, seed, explore)
        return
    player = Player(evaluation.env, evaluation.agent, evaluation.config.test_eps or 0.0)
    player.judge = evaluation.judge
    seeds = [stream_seed(seed, f"evaluation {number}") for number in range(count)]
    with one_thread():
        evaluation.episodes = [player.play(one, explore) for one in seeds]
        if diagnose:
            evaluation.others = [player.play(one, not explore) for one in seeds]


def _play_worlds(evaluation: Evaluation, count: int, seed: int, explore: bool) -> list[PlayedEpisode]:
    """Play `count` worlds, or those of the run's `eval_worlds`; an episode is a world."""
    config, env = evaluation.config, evaluation.env
    worlds = open_worlds(config, env.unwrapped.task, count, stream_seed(seed, "worlds"))
    player = WorldPlayer(worlds, evaluation.agent, config.gamma, env.stop)
    with own_draws(evaluation.agent, stream_seed(seed, "test actions")):
        played = player.play(seed, explore)
    evaluation.film = Film(worlds, played)
    return episodes_of(played, seed, explore)


@apart
def diagnose_episodes(evaluation: Evaluation) -> dict[str, Numbers]:
    """Return `algorithm.decomposition.diagnosis.NAMES` by kind of episode; those of the replay belong to `both`.

    Raises:
        NotFiniteError: a predicted reward of a step in the replay is not finite.
    """
    judge, episodes = evaluation.judge, evaluation.episodes + evaluation.others
    if judge is None:
        return {kind: dict.fromkeys(NAMES) for kind in ("greedy", "exploring", "both")}
    kinds = {"greedy": [one for one in episodes if not one.explored],
             "exploring": [one for one in episodes if one.explored], "both": episodes}
    found = {kind: dict.fromkeys(NAMES) | numbers_of(some, judge.unit) for kind, some in kinds.items()}
    found["both"] |= judge.replay_error()
    return found
