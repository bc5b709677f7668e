"""Rules that run each command of the documentation with a small budget or, if that is impossible, check its parts.

A rule is a function of a command's words, and the first words determine which one applies. A new kind of command has no
rule: then the test fails, and a rule must be written here.
"""

from __future__ import annotations

import glob
import importlib
import re
import runpy
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import setuptools.command.build_py  # now: pip, once imported, takes setuptools' distutils away
from documents import ROOT
from runs import SMALL, SMALL_ROLLOUTS

import evaluate
import plot
import report
import sweep
import train
from algorithm import create_agent, use_pytorch
from algorithm.model_file import write_model
from return_decomposition import cli
from sweeps import lanes, suite
from utils.settings.cli import parse_args
from utils.settings.fields import Config
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes
from utils.stop import AGAIN

SCRIPT = re.compile(r"(benchmarks|tests)/(\w+/)?\w+\.py")
RULES: dict[str, Callable[[list[str]], None]] = {}
# Patterns of whole lines that are not commands of one program.
SENTENCES: dict[str, Callable[[re.Match], None]] = {}


def run(command: str) -> None:
    """Run a command of the documentation; the current directory is `place`'s.

    Raises:
        AssertionError: it fails, or there is no rule for it.
    """
    for pattern, check in SENTENCES.items():
        if match := re.fullmatch(pattern, command):
            return check(match)
    words = [word for word in shlex.split(command) if word != "..."]
    with pytest.MonkeyPatch.context() as patch:
        while "=" in words[0]:
            patch.setenv(*words.pop(0).split("=", 1))
        rule_of(words)(words)


def rule_of(words: list[str]) -> Callable[[list[str]], None]:
    """The rule of a command's words."""
    for count in (3, 2, 1):
        if found := RULES.get(" ".join(words[:count])):
            return found
    if words[0] == "python" and SCRIPT.fullmatch(words[1]):
        return script
    raise AssertionError(f"{shlex.join(words)}: no rule in tests/shell.py says how to run it")


def rule(*beginnings: str) -> Callable:
    """Decorator: the rule of the commands that begin so."""
    def register(function: Callable) -> Callable:
        RULES.update(dict.fromkeys(beginnings, function))
        return function
    return register


def sentence(pattern: str) -> Callable:
    """Decorator: the rule of the commands that are so, all of them."""
    def register(function: Callable) -> Callable:
        SENTENCES[pattern] = function
        return function
    return register


# This program's own --------------------------------------------------------------------------------------------------

@rule("python -m torchrl_gpu.train_torchrl_gpu")
def run_torchrl(words: list[str]) -> None:
    from torchrl_gpu import train_torchrl_gpu
    small = ["--device=cpu", "--total_timesteps=8", "--test_timesteps=3", "--buffer_size=500"]
    assert train_torchrl_gpu.main([*words[3:], *small]) == 0
    assert list(Path("outputs").glob("training_*/seed_*/evaluations.npz"))


@rule("torchrun")
def run_torchrun(words: list[str]) -> None:
    """Its module and flags; tests/torchrl_gpu/test_processes.py runs two processes."""
    assert words[1:4] == ["--nproc_per_node=2", "-m", "torchrl_gpu.train_torchrl_gpu"]
    parse_args([*words[4:], "--device=cpu"])


@rule("python docs/examples/torchrl_sac.py", "python docs/examples/torchrl_ppo.py")
def run_example(words: list[str]) -> None:
    """The file; tests/adapters/test_torchrl_parts.py runs it."""
    assert (ROOT / words[1]).is_file()
    assert len(words) == 2


@rule("python train.py")
def run_train(words: list[str]) -> None:
    flags = words[2:]
    if flags[0] in ("--help", "--completion"):
        return only_print(flags)
    config = parse_args(flags)                                      # the unchanged flags
    if config.env.startswith("Assault"):
        pytest.importorskip("ale_py")
        pytest.importorskip("cv2")
    if not use_pytorch():
        pytest.importorskip("tensorflow")
    before = set(Path("outputs").rglob("metrics.csv"))
    assert train.main([*flags, *small(config)]) == 0
    new = set(Path("outputs").rglob("metrics.csv")) - before
    if config.resume:
        new = {Path(config.resume) / "metrics.csv"}
    assert len(new) == len(small_seeds(config))
    assert all("Rewards" in path.read_text().partition("\n")[0] for path in new)


def only_print(flags: list[str]) -> None:
    try:
        code = train.main(flags)
    except SystemExit as end:
        code = end.code or 0
    assert code == 0


def small_seeds(config: Config) -> tuple[int, ...]:
    """Two of several seeds."""
    return config.seeds[:2] if config.seeds else (config.seed,)


def small(config: Config) -> list[str]:
    """Flags that make a run of these settings take a second."""
    if config.resume:
        return ["--total_timesteps=160"]                            # 40 more than SMALL
    images = config.env.startswith("Assault") or "catch" in config.env
    rows = min(config.num_envs, config.group_size or 2)
    size = [*SMALL_ROLLOUTS, f"--num_envs={rows}"] if config.on_policy else SMALL
    return [*size, *["--rrd_batch_size=8", "--rrd_sample_size=4"] * (config.alg == "rrd"),
            *["--total_timesteps=40", "--warmup=20", "--train_batches=1", "--batch_size=2"] * images,
            *["--fit_updates=2"] * bool(config.fit_updates),
            *["--diagnose_every=2"] * bool(config.diagnose_every),
            *[f"--seeds={','.join(map(str, small_seeds(config)))}"] * bool(config.seeds)]


@rule("srun python train.py")
def run_by_slurm(words: list[str]) -> None:
    run_train(words[1:])


class Here(lanes.Lanes):
    """Trials in this process, a small one of each."""

    def __init__(self, jobs: int | None):
        super().__init__(jobs)
        self.codes: dict[str, int] = {}

    def start(self, trial: suite.Trial) -> None:
        self.codes[trial.name] = train.main([*trial.flags, *small(parse_args(trial.flags))])

    def poll(self, trial: suite.Trial) -> int:
        return self.codes[trial.name]


@rule("python sweep.py")
def run_sweep(words: list[str]) -> None:
    """All trials are read and checked; one trial of each algorithm is run, on the last of the environments."""
    def few(*args) -> list[suite.Trial]:
        return list({trial.settings["alg"]: trial for trial in read_suite(*args)}.values())

    read_suite = suite.read_suite
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "read_suite", few)
        patch.setattr(lanes, "Lanes", Here)
        assert sweep.main([re.sub(r"^--search=\d+$", "--search=2", word) for word in words[2:]]) == 0


@rule("python -m algorithm.replay")
def run_replay(words: list[str]) -> None:
    """A converted model's case in place of the document's."""
    case = ROOT / "tests" / "reference" / "convert" / "convert_dqn.npz"
    words = [str(case) if word == "CASE.npz" else word for word in words]
    assert importlib.import_module(words[2]).main(words[3:]) == 0
    assert Path(words[words.index("--out") + 1]).is_file()


@rule("python -m adapters.convert_sb3")
def run_convert_sb3(words: list[str]) -> None:
    """The files of a reference case in place of those of the document."""
    case = ROOT / "tests" / "reference" / "convert"
    files = {"MODEL.zip": case / "convert_ppo.zip", "STATS.pkl": case / "convert_ppo_vecnormalize.pkl"}
    assert importlib.import_module(words[2]).main([str(files.get(word, word)) for word in words[3:]]) == 0
    assert Path("MODEL_normalization.json").is_file()


@rule("python evaluate.py MODEL.pt")
def run_evaluate_model(words: list[str]) -> None:
    """A new agent of the environment's sizes in place of the document's model."""
    config = with_sizes(resolve({"alg": "ppo", "device": "cpu"}), 32, 6, acts_discrete=True)
    write_model(Path("MODEL.pt"), create_agent(config))
    assert evaluate.main([*words[2:], "--episodes=1", "--test_timesteps=5", "--device=cpu", "--json=found.json"]) == 0


@rule("python evaluate.py")
def run_evaluate(words: list[str]) -> None:
    assert evaluate.main([*words[2:], "--episodes=2", "--device=cpu"]) == 0
    assert list(Path("outputs/RUN/evaluations").glob("*.json"))


@rule("python plot.py")
def run_plot(words: list[str]) -> None:
    assert plot.main([*unglobbed(words[2:]), "--resamples=20"]) == 0
    out = next((word.partition("=")[2] for word in words if word.startswith("--out=")), "plots")
    assert list(Path(out).glob("curves-*.png"))


@rule("python report.py")
def run_report(words: list[str]) -> None:
    assert report.main([*unglobbed(words[2:]), "--resamples=20"]) == 0
    assert Path(next((word[6:] for word in words if word.startswith("--out=")), "report.html")).is_file()


@rule("python relabel.py")
def run_relabel(words: list[str]) -> None:
    """A few short episodes in place of the document's data set."""
    import relabel
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("MINARI_DATASETS_PATH", str(Path("sets").absolute()))
        write_small_dataset(words[2])
        assert relabel.main([*words[2:], "--updates=2", "--device=cpu"]) == 0


def write_small_dataset(name: str) -> None:
    """Three episodes of three steps that are paid at their ends."""
    import minari
    from gymnasium.spaces import Box
    from minari.data_collector.episode_buffer import EpisodeBuffer
    Path("sets").mkdir(exist_ok=True)
    space, over = Box(-1, 1, (2,), np.float32), np.arange(3) == 2
    buffers = [EpisodeBuffer(observations=np.full((4, 2), i / 3, np.float32), actions=np.zeros((3, 2), np.float32),
                             rewards=over * float(i), terminations=over, truncations=~over & False) for i in range(3)]
    minari.create_dataset_from_buffers(name, buffers, observation_space=space, action_space=space)


def unglobbed(words: list[str]) -> list[str]:
    return [path for word in words for path in (sorted(glob.glob(word)) if "*" in word else [word])]


@rule("python -m envs.arena.replay")
def run_arena(words: list[str]) -> None:
    case = ROOT / "tests" / "reference" / "arena_s2_win.npz"
    words = [str(case) if word == "CASE.npz" else word for word in words]
    assert importlib.import_module(words[2]).main(words[3:]) == 0
    assert Path(words[words.index("--out") + 1]).is_file()


@rule("python -m envs.marinenav.sample", "python -m envs.marinenav.replay")
def run_marinenav(words: list[str]) -> None:
    case = ROOT / "tests" / "reference" / "marinenav" / "table_field.npz"
    words = [str(case) if word == "CASE.npz" else word for word in words]
    assert importlib.import_module(words[2]).main(words[3:]) == 0
    assert Path(words[words.index("--out") + 1]).is_file()


@rule("python doctor.py")
def run_doctor(words: list[str]) -> None:
    import doctor
    assert doctor.main([*words[2:], "--only=python"]) == 0


@rule("rrd")
def run_rrd(words: list[str]) -> None:
    """A subcommand is the program of its name."""
    if words[1] in ("--help", "--version"):
        assert cli.main(words[1:]) == 0
    elif words[1] == "export":
        run_export(words[1:])
    elif words[1] == "convert":
        run_tf_checkpoint(["python", "-m", "", *words[2:]])
    else:
        rule_of(["python", f"{words[1]}.py"])(["python", f"{words[1]}.py", *words[2:]])


def run_export(words: list[str]) -> None:
    """A small run of Arena or MarineNav in place of the document's, where the format is theirs."""
    if any(word.startswith("--what=") for word in words):
        assert cli.main(words) == 0
        return
    if "marinenav" in words:
        assert train.main(["--alg=iqn", "--env=MarineNav-v0", '--env_kwargs={"discrete": true}', "--encoder=objects",
                           "--tag=export", *SMALL]) == 0
        run = next(Path("outputs").glob("export-iqn-MarineNav*"))
        assert cli.main([str(run) if word == "outputs/RUN" else word for word in words]) == 0
        assert (run / "export" / "network_params.pth").is_file()
        return
    assert train.main(["--algo=ppo_torch", "--tag=export", "--steps=8", *SMALL_ROLLOUTS, "--num_envs=2"]) == 0
    run = next(Path("outputs").glob("export-*"))
    assert cli.main([str(run) if word == "outputs/RUN" else word for word in words]) == 0
    assert list((run / "export").glob("*_steps.pt"))


@rule("python -m utils.tf_checkpoint")
def run_tf_checkpoint(words: list[str]) -> None:
    pytest.importorskip("tensorflow")
    from algorithm.tf import convert as tf_checkpoint
    assert tf_checkpoint.main(words[3:]) == 0
    assert list(Path("DIR").glob("model.*"))


@sentence(r"python -m (utils\.settings|sweeps)\.schema(?: > (\S+))?")
def run_schema(match: re.Match) -> None:
    from sweeps.schema import suite_schema
    from utils.settings.schema import schema
    of_suites = match[1] == "sweeps"
    make, path = (suite_schema, "configs/suite.schema.json") if of_suites else (schema, "configs/schema.json")
    assert match[2] in (None, path), f"{match[2]}: not where the schema is"
    assert make()["$defs"]


@sentence(r"source <\((?:python train\.py|rrd) (--completion \w+)\)|python train\.py (--completion \w+) \| source")
def run_completion(match: re.Match) -> None:
    run(f"python train.py {match[1] or match[2]}")


@rule("python benchmarks/speed.py")
def run_speed(words: list[str]) -> None:
    """Its flags; tests/benchmarks/test_benchmarks.py runs it."""
    from benchmarks import speed
    speed.parse_args(words[2:])


def script(words: list[str]) -> None:
    """Another benchmark, which takes minutes: check that it knows its flags."""
    text = (ROOT / words[1]).read_text(encoding="utf-8")
    for word in words[2:]:
        assert not word.startswith("-") or f'"{word.partition("=")[0]}"' in text, f"{words[1]} has no {word}"


# Make, pip and others ------------------------------------------------------------------------------------------------

@rule("make")
def run_make(words: list[str]) -> None:
    """The targets are there, and for each line of their recipes there is a rule."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in words[1:]:
        match = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        assert match, f"Makefile has no {target}"
        for line in match[1].replace("$(BIN)/", "").replace("$(PYTHON)", "python").splitlines():
            check_recipe(shlex.split(line.strip().removeprefix("@").replace(".venv-oldest/bin/", "")))


def check_recipe(words: list[str]) -> None:
    while "=" in words[0]:                              # the environment of the command
        words = words[1:]
    if words[0] not in ("echo", "rm"):
        rule_of(words)
    for word in words[1:]:
        assert not re.fullmatch(r"[\w/]+\.(py|txt|json)", word) or (ROOT / word).is_file(), word


@rule("cat", "ruff check", "python -m pytest", "python -m sphinx", "python -m venv", "python3 -m venv")
def nothing(words: list[str]) -> None:
    """Commands that other tests run, or that cannot fail."""
    assert "venv" not in words or words[-1] == ".venv"


@sentence(r"source \.venv/bin/activate")
def run_activate(match: re.Match) -> None:
    pass


@rule("pip install", "python -m pip")
def run_pip(words: list[str]) -> None:
    """Extras and files are there; a package that is named is one of an extra's. This project is on no index."""
    words = words[words.index("install") + 1:]
    extras = declared()
    while words:
        word = words.pop(0)
        if word == "-c":
            assert (ROOT / words.pop(0)).is_file()
        elif match := re.fullmatch(r"\.(?:\[(.+)\])?", word):
            assert set((match[1] or "test").split(",")) <= set(extras), word
        elif word != "-e":
            assert word in {re.match(r"[\w-]+", entry)[0] for entries in extras.values() for entry in entries}, word


@rule("pip download", "pip install --no-index")
def run_pip_for_wheels(words: list[str]) -> None:
    """The options are pip's, and the file is the one that `benchmarks/gpu.py --wheels` writes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                 # setuptools stands in for distutils
        from pip._internal.commands import create_command
    options, packages = create_command(words[1]).parse_args(words[2:])
    assert (options.requirements, packages) == (["wheels.txt"], [])


def declared() -> dict[str, list[str]]:
    """setup.py's extras."""
    given: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", given.update)
        runpy.run_path("setup.py")
    return given["extras_require"]


@rule("pytest")
def run_pytest(words: list[str]) -> None:
    """The files exist; the tests run them anyway."""
    assert len(words) > 1
    assert all((ROOT / word).is_file() for word in words[1:]), words


@sentence(r"tensorboard --logdir outputs|wandb sync outputs/RUN/wandb/offline-run-\*")
def run_viewer(match: re.Match) -> None:
    """Programs of extras that the tests do not have; test_record.py and test_track.py hold what they read."""
    assert declared()["track" if "wandb" in match[0] else "tensorboard"]


@sentence(r"\[ \$\? -eq (\d+) \] && scontrol requeue \$SLURM_JOB_ID")
def run_requeue(match: re.Match) -> None:
    assert int(match[1]) == AGAIN, f"{match[1]}: not the exit code of a run that can be resumed"
