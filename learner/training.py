"""Train an agent: from settings to the record of a run. `train_runs` is the entry."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from algorithm import check_backend
from envs import env_kwargs, with_version
from envs.given import check_given, eval_config, name_of
from envs.names import missing_reward, resolve_env
from envs.spaces import scaling
from learner.collector import open_collector
from learner.columns import check_best, metric_names
from learner.diagnoser import Diagnoser
from learner.episodes import Stoppable
from learner.evaluator import Evaluator
from learner.learner import Callback, Learner
from learner.parts import Parts, build, processes, report_error
from record.logger import read_rows
from record.run import Run
from record.system import crowded
from utils import global_draws
from utils.cores import count_cores
from utils.display import Display, View
from utils.errors import ConfigError
from utils.settings.algorithms import decompositions
from utils.settings.fields import Config
from utils.stop import Stop, Stopped
from utils.text import human_bytes
from utils.threads import prepare_threads
from utils.torch_state import apart

if TYPE_CHECKING:
    from learner.worlds_evaluator import WorldsEvaluator


@dataclass(frozen=True)
class TrainedRun:
    """A run that has ended: its record and its agent."""

    directory: Path
    agent: Any                                  # as it was at the end of the run
    metrics: list[dict[str, float]]             # a row for each cycle, without the metrics that have no value


@apart
def train_runs(config: Config, stop: Stop, callback: Callback | None = None,
               report: Callable[[str], Any] = report_error) -> list[TrainedRun]:
    """Train with `config.seed`, or with each of `config.seeds`; return the runs in the order of the seeds.

    Args:
        callback: see `learner.learner.Learner`.
        report: called with a line for each of several seeds that fails.
    Raises:
        ConfigError: a setting is wrong; nothing was written.
        CheckpointError: the saved state of a run to be resumed is damaged or in use.
        NotFiniteError, OSError: the run failed.
        SeedsError: one or more of several seeds failed; the others have ended.
        Stopped: `stop` was set, and the runs have saved their state.
    """
    backend = check_backend()                           # before anything is built
    prepare_threads()
    check_given(config)
    if config.track:
        from record.track import import_wandb
        import_wandb()
    if backend == "tensorflow":
        check_reference(config)
        config, stop.resumable = dataclasses.replace(config, device="cpu"), False
    from utils.torch_utils import resolve_device
    config = dataclasses.replace(config, device=str(resolve_device(config.device)))
    if config.seeds:
        return _train_seeds(config, stop, callback, report)
    with global_draws.seeded(config.seed):
        parts = build(config)
        with Display() as display:
            return [learn(parts, display.view(config.run_length), stop, callback)]


def _train_seeds(config: Config, stop: Stop, callback: Callback | None, report: Callable[[str], Any],
                 ) -> list[TrainedRun]:
    from learner.seeds import train_seeds
    if callback is not None:
        raise ConfigError("callback: not called with several seeds; expected None, or one seed")
    return train_seeds(config, build, learn, stop, report)


def check_reference(config: Config) -> None:
    """Check that the TensorFlow reference can run this: on the CPU, one seed at a time, without interruption.

    Raises:
        ConfigError: it cannot.
    """
    wrong = {"seeds": config.seeds, "resume": config.resume, "on_existing": config.on_existing == "resume"}
    for name in (name for name, given in wrong.items() if given):
        raise ConfigError(f"{name}: not read by the TensorFlow reference (USE_PYTORCH=0), which runs one seed at a "
                          "time and resumes no run; expected --seed")
    if config.diagnose_every:
        raise ConfigError(f"diagnose_every: got {config.diagnose_every}, not read by the TensorFlow reference "
                          "(USE_PYTORCH=0); expected 0")
    if config.device not in ("auto", "cpu"):
        raise ConfigError(f"device: got {config.device!r}, but the TensorFlow reference (USE_PYTORCH=0) trains on the "
                          "CPU; expected cpu or auto")


def learn(parts: Parts, view: View, stop: Stop, callback: Callback | None = None,
          opened: Callable[..., Any] = open_collector, begun: Callable[[Run], Any] = lambda run: None,
          ) -> TrainedRun:
    """Train with these parts, and keep the record.

    Args:
        view, stop: see `record.run.Run`.
        callback: see `learner.learner.Learner`.
        opened: returns the context of a collector, as `learner.collector.open_collector` does.
        begun: called with the run when its directory exists.
    Raises:
        Stopped: the run was asked to stop, and has saved its state.
    """
    try:
        agent = parts.engine.agent
        columns = metric_names(parts.config, parts.env, agent)
        check_best(parts.config, columns)
        with Run(parts.config, columns, facts(parts), view, stop,
                 suffix=agent.checkpoint_suffix) as run:
            begun(run)
            for line in (description(parts, run), *hints(parts)):
                run.say(line)
            _learn(parts, run, stop, callback, opened)
            run.say(f"done; record in {run.directory}")
    finally:
        parts.close()
    return TrainedRun(run.directory, agent, read_rows(run.directory))


def _learn(parts: Parts, run: Run, stop: Stop, callback: Callback | None, opened: Callable[..., Any]) -> None:
    config, engine = parts.config, parts.engine
    with opened(config, parts.env, engine.actor, run.say) as collector:
        learner = Learner(config, collector, engine, make_evaluator(parts, stop, run), run, callback)
        restore_saved(learner, run)
        try:
            finished = learner.learn()
        except Stopped:
            if run.store.newest:
                run.say(f"saved after {learner.steps} steps; {how_to_resume(run)}")
            raise
        if collector.drops.count:
            run.say(f"note: {collector.drops.count} episodes were dropped, because they were not finite")
        if not finished:
            run.say(f"stopped by the callback after {learner.steps} steps; {how_to_resume(run)}")


def make_evaluator(parts: Parts, stop: Stop, run: Run) -> Evaluator | Diagnoser | WorldsEvaluator:
    """Return what evaluates after each cycle, and diagnoses the learned reward if `diagnose_every` says so."""
    config, engine = parts.config, parts.engine
    if parts.worlds is not None:
        from learner.worlds_evaluator import WorldsEvaluator
        return WorldsEvaluator(config, parts.worlds, engine.actor, stop, run.directory)
    evaluator = Evaluator(config, parts.test_env and Stoppable(parts.test_env, stop), engine.actor)
    if not config.diagnose_every:
        return evaluator
    return Diagnoser(config, evaluator, Stoppable(parts.diagnosis_env, stop), engine)


def restore_saved(learner: Learner, run: Run) -> None:
    """Restore the saved state of a run that is resumed."""
    if run.saved is None:
        if not run.is_new:
            run.say("note: the run has no saved state, so it restarts from step 0")
        return
    lost = learner.restore(run.saved)
    run.saved = None                                    # frees the memory of its tensors
    run.say(f"resumed after {learner.steps} steps of {learner.config.run_length}")
    if lost:
        run.say(f"note: {lost} open episode{'s' * (lost > 1)} could not be restored and restart, because the "
                "environment does not repeat itself; from here on the numbers differ from those of an uninterrupted "
                "run")


def facts(parts: Parts) -> dict[str, Any]:
    """Return the facts that run.json holds besides the system."""
    config = parts.config
    found = {"backend": check_backend(), "env_id": parts.env.spec.id if config.env_given is None else config.env,
             "env_kwargs": env_kwargs(config), "obs_dims": config.obs_dims, "acts_dims": config.acts_dims}
    if config.eval_given is not None:
        found["eval_env"] = with_version(name_of(config.eval_given, "eval_env"))
    needed = [name for name, env in (("env", config.env_given), ("eval_env", config.eval_given)) if env is not None]
    return found | ({"resume_needs": needed} if needed else {})


def description(parts: Parts, run: Run) -> str:
    """Return the first line that a run displays."""
    config, engine = parts.config, parts.engine
    sizes = "x".join(map(str, config.obs_dims))
    replay = f"replay of {config.buffer_size} steps"
    kept = f"rollouts of {config.timesteps} steps" if config.on_policy else replay
    if config.on_policy and config.alg in decompositions():
        kept += f" and {replay}"
    return (f"env {resolve_env(config.env, config.env_kwargs)}: {sizes} observations, {config.acts_dims[0]} actions; "
            f"{kept}, up to {human_bytes(engine.buffer.bytes_needed)}; "
            f"{check_backend()} on {config.device}; engine {engine.name} ({parts.why}); {config.run_length} steps; "
            f"record in {run.directory}")


def hints(parts: Parts) -> Iterator[str]:
    """Yield the notes that are useful before a long run."""
    config = parts.config
    yield from config.notes
    if hint := crowded():
        yield hint
    if lack := missing_reward(config.env):
        yield f"note: {lack}"
    if line := scaling(parts.own_actions):
        yield line
    if eval_config(config) is None:
        yield "note: evaluation is off, because env is an instance; give eval_env=, or a function as env"
    if processes(config, parts.env) > (cores := count_cores()):
        yield f"note: {config.num_envs} environments take turns on {cores} cores"
    if config.warmup >= config.run_length:
        yield f"note: nothing is learned before warmup, {config.warmup} steps"


def how_to_resume(run: Run) -> str:
    """Return how a stopped run is resumed, for a message."""
    if run.config.env_given is None:
        return f"resume with --resume={run.directory}"
    return f"resume with train(env=..., resume={str(run.directory)!r})"
