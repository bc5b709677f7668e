"""Train an agent on the return of whole episodes; `python train.py --help`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARK = "return-decomposition"       # utils/__init__.py bears it
REQUIRED = ("torch", "numpy", "gymnasium", "mujoco", "safetensors", "tensorboardX", "rich")     # setup.py's


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns 0; 1 if a disk, a worker process or one of several seeds fails, or a number is not finite; 2 for a wrong
    setting or a damaged checkpoint; 75 after SIGTERM, SIGUSR1 or SIGHUP, 130 after Ctrl-C: then it can be gone on with.
    """
    def work() -> int:
        from utils.cli import parse_args
        return train(parse_args(sys.argv[1:] if argv is None else argv))
    return run_program("train.py", work, "--buffer_device=cpu, or a smaller --batch_size, frees most")


def train(config) -> int:
    """Run the settings, with their seed or with each of their seeds; returns the exit code."""
    from algorithm import check_backend
    backend = check_backend()                           # before anything is built
    if config.track:
        from utils.track import import_wandb
        import_wandb()
    from utils.display import Display
    from utils.stop import Stop, Stopped
    from utils.torch_utils import resolve_device

    if backend == "tensorflow":
        check_reference(config)
        config.device = "cpu"
    config.device = str(resolve_device(config.device))
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
    """The parts of the run; the settings get the sizes of observations and actions.

    Raises:
        ConfigError: a setting is wrong, here.
    """
    from algorithm import create_agent
    from algorithm.engine import create_engine
    from algorithm.replay_buffer import create_buffer
    from envs import make_env
    from learner.diagnoser import diagnosis_env
    from utils.memory import check_workers

    env, test_env = make_env(config), make_env(config)
    config.obs_dims = env.observation_space.shape
    config.acts_dims = (int(env.action_space.n),) if config.discrete else env.action_space.shape
    agent, buffer = create_agent(config), create_buffer(config)
    check_workers(config.num_envs, buffer.bytes_needed if buffer.device.type == "cpu" else 0)
    return Parts(config, env, test_env, *create_engine(config, agent, buffer),
                 diagnosis_env(config, agent, buffer))


def learn(parts: Parts, view, stop) -> None:
    """Run the learner and keep the record; see `utils.run.Run` for `view` and `stop`.

    Raises:
        Stopped: the run was asked to stop, and has saved itself.
    """
    from algorithm import check_backend
    from envs import env_kwargs, resolve_env
    from learner import Evaluator, Learner, open_collector
    from learner.diagnoser import Diagnoser, columns
    from learner.evaluator import Stoppable
    from utils.memory import human_bytes
    from utils.run import Run
    from utils.stop import Stopped

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
    from utils.run import crowded
    if hint := crowded():
        yield hint
    if config.num_envs > (cores := os.cpu_count() or 1):
        yield f"note: {config.num_envs} environments take turns on {cores} cores"
    if config.warmup >= config.run_length:
        yield f"note: nothing is learned before warmup, {config.warmup} steps"


def check_reference(config) -> None:
    """The TensorFlow reference trains on the CPU, one seed at a time, from the beginning to the end."""
    from utils.config import ConfigError
    wrong = {"seeds": config.seeds, "resume": config.resume, "on_existing": config.on_existing == "resume"}
    for name in (name for name, given in wrong.items() if given):
        raise ConfigError(f"{name}: not read by the TensorFlow reference (USE_PYTORCH=0), whose runs are one by one "
                          "and new; wants --seed")
    if config.diagnose_every:
        raise ConfigError(f"diagnose_every: got {config.diagnose_every}, not read by the TensorFlow reference "
                          "(USE_PYTORCH=0); wants 0")
    if config.device not in ("auto", "cpu"):
        raise ConfigError(f"device: got {config.device!r}, but the TensorFlow reference (USE_PYTORCH=0) trains on the "
                          "CPU; wants cpu or auto")


# How every program here begins and ends -----------------------------------------------------------------------------

def run_program(name: str, work: Callable[[], int], without_memory: str = "") -> int:
    """The exit code of `work`; what it raises is one line on standard error.

    Args:
        name: of the program, such as "plot.py".
        work: imports what it needs of this project's packages, which are looked for first.
        without_memory: what helps where CUDA has no more of it.

    Returns: what `work` does; 1 if a disk, a worker process or CUDA's memory fails, or a number is not finite; 2 for
        a wrong setting, a damaged checkpoint or a package that is not installed; 130 after Ctrl-C.
    """
    open_descriptors()
    if stranger := foreign_package():
        return complain(name, stranger, 2)
    from utils.config import CheckpointError, ConfigError, NotFiniteError
    try:
        return with_packages(work)
    except (ConfigError, CheckpointError) as error:
        return complain(name, str(error), 2)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        return complain(name, f"CUDA is out of memory; {without_memory}", 1)
    except (OSError, NotFiniteError) as error:
        path = getattr(error, "filename", None)
        return complain(name, f"{path}: {error.strerror}" if path else str(error), 1)
    except KeyboardInterrupt:
        return complain(name, "interrupted", 130)


def with_packages(work: Callable[[], int]) -> int:
    """What `work` gives; a ConfigError where a package is not installed that this project requires."""
    from utils.config import ConfigError
    try:
        return work()
    except ModuleNotFoundError as error:
        if error.name not in REQUIRED:                  # somebody's own code misses it
            raise
        raise ConfigError(f"{error.name} is not installed; `pip install -e .` in the repository brings it") from None


def open_descriptors() -> None:
    """Those of 0, 1 and 2 that are closed (`2>&-`) lead nowhere: else files and libraries would get their numbers."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)            # the lowest number that is free, which is this one
            os.set_inheritable(nowhere, True)
            setattr(sys, name, open(nowhere, mode, closefd=False))


def complain(program: str, line: str, code: int = 0) -> int:
    """A line on standard error, if anybody reads it; returns the code."""
    with contextlib.suppress(OSError):                  # the terminal may be closed
        print(f"{program}: {line}", file=sys.stderr, flush=True)
    return code


def foreign_package() -> str | None:
    """One line if `algorithm`, `envs`, `learner` or `utils` would be somebody else's; found without importing them."""
    for name in ("utils", "algorithm", "envs", "learner"):
        spec = importlib.util.find_spec(name)
        if spec is None:
            return f"the package `{name}` is not found; run train.py in its repository, or `pip install -e .` there"
        place = Path(next(iter(spec.submodule_search_locations or ()), spec.origin))
        mark = place.parent / "utils" / "__init__.py"           # ours stand side by side, and utils bears the mark
        if not mark.is_file() or MARK not in mark.read_text(encoding="utf-8", errors="replace"):
            return (f"the package `{name}` at {place} is not this project's and comes first on sys.path; "
                    "rename it, or run train.py from another directory, without PYTHONPATH")
    return None


def leave_early() -> None:
    """Signals before a run has begun, and after it has ended, find nothing to save, but give `utils.stop`'s codes."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: os._exit(130 if number == signal.SIGINT else 75))


if __name__ == "__main__":
    leave_early()
    sys.exit(main())
