"""Train an agent on the return of whole episodes; `python train.py --help`."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from program import complain, leave_early, run_program


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns 0; 1 if a disk, a worker process or one of several seeds fails, or a number is not finite; 2 for a wrong
    setting or a damaged checkpoint; 75 after SIGTERM, SIGUSR1 or SIGHUP, 130 after Ctrl-C: then it can be gone on with.
    """
    def work() -> int:
        from utils.settings.cli import parse_args
        return train(parse_args(sys.argv[1:] if argv is None else argv))
    return run_program("train.py", work, "--buffer_device=cpu, or a smaller --batch_size, frees most")


def train(config) -> int:
    """Run the settings, with their seed or with each of their seeds; returns the exit code."""
    from algorithm import check_backend
    backend = check_backend()                           # before anything is built
    if config.track:
        from record.track import import_wandb
        import_wandb()
    from utils.display import Display
    from utils.stop import Stop, Stopped
    from utils.torch_utils import resolve_device

    if backend == "tensorflow":
        check_reference(config)
    device = "cpu" if backend == "tensorflow" else config.device
    config = dataclasses.replace(config, device=str(resolve_device(device)))
    with Stop() as stop:
        try:
            if config.seeds:
                from learner.seeds import train_seeds
                return train_seeds(config, build, learn, stop)
            parts = build(config)
            with Display() as display:
                learn(parts, display.view(config.run_length), stop)
        except Stopped:
            complain("train.py", stop.told())
            # the reference has saved nothing that it could go on with
            return stop.exit_code if backend == "pytorch" else 128 + (stop.signal or signal.SIGINT)
    return 0


@dataclass
class Parts:
    """What a run is made of."""

    config: Any
    env: Any
    test_env: Any
    engine: Any
    why: str                            # this engine
    diagnosis_env: Any = None           # with --diagnose_every


def build(config) -> Parts:
    """The parts of the run, whose settings have the sizes of observations and actions.

    Raises:
        ConfigError: a setting is wrong, here.
    """
    from algorithm import create_agent
    from algorithm.engine import create_engine
    from algorithm.replay_buffer import create_buffer
    from envs import make_env, sizes
    from learner.diagnoser import diagnosis_env
    from utils.memory import check_workers

    env, test_env = make_env(config), make_env(config)
    config = sizes(config, env)
    agent, buffer = create_agent(config), create_buffer(config)
    check_workers(config.num_envs, buffer.bytes_needed if buffer.device.type == "cpu" else 0)
    return Parts(config, env, test_env, *create_engine(config, agent, buffer),
                 diagnosis_env(config))


def learn(parts: Parts, view, stop) -> None:
    """Run the learner and keep the record; see `record.run.Run` for `view` and `stop`.

    Raises:
        Stopped: the run was asked to stop, and has saved itself.
    """
    from algorithm import check_backend
    from envs import env_kwargs
    from envs.names import resolve_env
    from learner import Evaluator, Learner, open_collector
    from learner.diagnoser import Diagnoser, columns
    from learner.evaluator import Stoppable
    from record.run import Run
    from utils.stop import Stopped
    from utils.text import human_bytes

    config, env, engine = parts.config, parts.env, parts.engine
    backend, name = check_backend(), resolve_env(config.env)
    facts = {"backend": backend, "env_id": env.spec.id, "env_kwargs": env_kwargs(config),
             "obs_dims": config.obs_dims, "acts_dims": config.acts_dims}
    with Run(config, engine.agent, facts, view, stop, columns=columns(config)) as run:
        sizes = "x".join(map(str, config.obs_dims))
        run.say(f"env {name}: {sizes} observations, {config.acts_dims[0]} actions; "
                f"replay of {config.buffer_size} steps, up to {human_bytes(engine.buffer.bytes_needed)}; "
                f"{backend} on {config.device}; engine {engine.name} ({parts.why}); {config.run_length} steps; "
                f"record in {run.directory}")
        for note in notes(config):
            run.say(note)
        evaluator = Evaluator(config, Stoppable(parts.test_env, stop), engine.actor)
        if config.diagnose_every:
            evaluator = Diagnoser(config, evaluator, Stoppable(parts.diagnosis_env, stop), engine)
        with open_collector(config, env, engine.actor, run.say) as collector:
            learner = Learner(config, collector, engine, evaluator, run)
            begin(learner, run)
            try:
                learner.learn()
            except Stopped:
                if run.store.newest:
                    run.say(f"saved after {learner.steps} steps; --resume={run.directory} goes on")
                raise
        run.say(f"done; record in {run.directory}")


def begin(learner, run) -> None:
    """Where a run is gone on with, bring back what it was."""
    if run.saved is None:
        if not run.is_new:
            run.say("note: nothing was saved yet, so the run begins anew")
        return
    lost = learner.restore(run.saved)
    run.saved = None                                    # its tensors are many
    run.say(f"goes on after {learner.steps} steps, {learner.config.run_length} in all")
    if lost:
        run.say(f"note: {lost} open episode{'s' * (lost > 1)} could not be brought back and begin anew, for the "
                "environment does not repeat itself; from here on the run is not what it would have been")


def notes(config) -> Iterator[str]:
    """What a user may want to hear before a long run."""
    from record.system import crowded
    if hint := crowded():
        yield hint
    if config.num_envs > (cores := os.cpu_count() or 1):
        yield f"note: {config.num_envs} environments take turns on {cores} cores"
    if config.warmup >= config.run_length:
        yield f"note: nothing is learned before warmup, {config.warmup} steps"


def check_reference(config) -> None:
    """The TensorFlow reference trains on the CPU, one seed at a time, from the beginning to the end."""
    from utils.errors import ConfigError
    wrong = {"seeds": config.seeds, "resume": config.resume, "on_existing": config.on_existing == "resume"}
    for name in (name for name, given in wrong.items() if given):
        raise ConfigError(f"{name}: not read by the TensorFlow reference (USE_PYTORCH=0), whose runs are one by one "
                          "and new; expected --seed")
    if config.diagnose_every:
        raise ConfigError(f"diagnose_every: got {config.diagnose_every}, not read by the TensorFlow reference "
                          "(USE_PYTORCH=0); expected 0")
    if config.device not in ("auto", "cpu"):
        raise ConfigError(f"device: got {config.device!r}, but the TensorFlow reference (USE_PYTORCH=0) trains on the "
                          "CPU; expected cpu or auto")


# How every program here begins and ends -----------------------------------------------------------------------------


if __name__ == "__main__":
    leave_early()
    sys.exit(main())
