"""Algorithms, decompositions and environments of one's own: the pages of docs/extending, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from engines import SAME, build_buffer, float64
from runs import SMALL, Finished
from saved import digest

import algorithm.engine
import evaluate
import sweep
import train
from algorithm import create_agent, register_algorithm, register_decomposition
from algorithm.basis_alg.sac_torch import SAC
from algorithm.basis_alg.td3_torch import TD3
from algorithm.decomposition.base import Decomposition
from algorithm.decomposition.judge import create_judge
from algorithm.decomposition.networks import MLPRewardNet
from algorithm.decomposition.rrd import RRD
from algorithm.engine import create_engine
from algorithm.replay_buffer import create_buffer
from algorithm.replay_buffer.subsequence import SubsequenceReplay
from algorithm.replay_buffer.transition import TransitionReplay
from utils.errors import ConfigError, NotFiniteError
from utils.settings.algorithms import ALGORITHMS
from utils.settings.cli import parse_args

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = {page: (ROOT / "docs" / "extending" / f"{page}.md").read_text(encoding="utf-8")
         for page in ("algorithm", "decomposition", "environment", "tensor_environments")}
RRD_READS = dict(r_lr=3e-4, rrd_batch_size=8, rrd_sample_size=4, rrd_bias_correction=False)
pytestmark = pytest.mark.usefixtures("forget")


# The pages ------------------------------------------------------------------------------------------------------

def files_of(page: str) -> dict[str, str]:
    """The blocks that begin with a file's name."""
    return dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE))


def write_files(page: str) -> None:
    for name, code in files_of(page).items():
        Path(name).write_text(code)


def commands_of(program: str) -> list:
    return [pytest.param(page, command, id=f"{page} {command}") for page, text in PAGES.items()
            for command in re.findall(rf"^    python {program} (.*)$", text, re.MULTILINE)]


def small(command: str) -> list[str]:
    """The command's flags on a small budget."""
    flags = shlex.split(command)
    rrd = ["--rrd_batch_size=8", "--rrd_sample_size=4"] if "--alg=rrd" in command else []
    dqn = ["--eps_decay=100"] if "=dqn" in command else []
    return [*flags, *SMALL, *rrd, *dqn]


def run(*argv: str) -> Finished:
    """Train; the directory that is new."""
    before = set(Path("outputs").glob("*"))
    assert train.main(list(argv)) == 0
    return Finished(max(set(Path("outputs").glob("*")) - before))


def said(capsys) -> str:
    return re.search(r"engine (\w+ \(.*?\))", capsys.readouterr().out)[1]


def test_every_file_of_the_pages_is_a_block_that_says_so():
    for page, text in PAGES.items():
        assert len(files_of(page)) == text.count("```python")
        assert text.startswith("# ")
        for name, code in files_of(page).items():
            compile(code, name, "exec")
    named = {name for page in PAGES for name in files_of(page)}
    assert named == {"munchausen.py", "test_munchausen.py", "recency.py", "my_rewards.py", "recurrent.py",
                     "offline.py", "test_my_rewards.py", "my_env.py", "my_pixels.py",
                     "my_carts.py", "my_loop.py"}


@pytest.mark.parametrize(("page", "command"), commands_of(r"train\.py"))
def test_the_pages_commands_run(page, command, capsys):
    write_files(page)
    done = run(*small(command))
    assert done.rows[-1]["Timesteps"] == "120"
    assert any(float(row["Q_loss"] or "nan") > 0 for row in done.rows)
    assert ":" in done.config["env"] or ":" not in command
    assert "modules" not in done.config
    assert "imports" not in done.config
    if "--diagnose_every" in command:
        assert done.rows[-1]["Reward/std_within"] != ""


def test_the_loop_over_a_tensor_environment_runs():
    write_files("tensor_environments")
    done = subprocess.run([sys.executable, "my_loop.py"], env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_curriculum_of_the_page_is_read():
    write_files("tensor_environments")
    (form,) = re.findall(r"^```json\n(.*?)^```", PAGES["tensor_environments"], re.DOTALL | re.MULTILINE)
    Path("stages.json").write_text(form)
    done = run(*SMALL, "--alg=sac", "--env=my_carts:Carts-v0", "--curriculum=stages.json")
    assert done.rows[-1]["Stage"] == "0"


@pytest.mark.parametrize("page", ["algorithm", "decomposition"])
def test_the_pages_tests_pass(page):
    """In the directory of their files, as the page says; with nothing of this suite's settings."""
    write_files(page)
    (command,) = re.findall(r"^    python -m pytest (.*)$", PAGES[page], re.MULTILINE)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *command.split()],
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{PAGES[page].count('def test_')} passed" in done.stdout


MUNCHAUSEN = ["--import=munchausen", "--alg=munchausen", "--env=Pendulum-v1"]
HUBER = ["--import=my_rewards", "--alg=rrd_huber", "--env=Pendulum-v1", "--rrd_batch_size=8", "--rrd_sample_size=4"]
RECENCY = ["--import=recency", "--alg=recency", "--env=Pendulum-v1"]
RECURRENT = ["--import=recurrent", "--alg=recurrent", "--env=Pendulum-v1"]
PARCEL = ["--import=my_env", "--alg=sac", "--env=Parcel-v0", "--test_timesteps=17"]      # iterations end in episodes
OWN = {"algorithm": MUNCHAUSEN, "decomposition": HUBER, "environment": PARCEL}


@pytest.mark.parametrize(("page", "flags", "engine"), [
    ("algorithm", MUNCHAUSEN, "eager (no gradients are written by hand for Munchausen)"),
    ("algorithm", ["--import=munchausen", "--alg=rrd", "--basis_alg=munchausen", "--env=Pendulum-v1",
                   "--rrd_batch_size=8", "--rrd_sample_size=4"],
     "eager (no gradients are written by hand for Munchausen)"),
    ("decomposition", RECENCY, "manual (gradients by hand are the fastest on CPUs)"),
    ("decomposition", HUBER, "eager (no gradients are written by hand for HuberRRD)"),
    ("decomposition", ["--import=my_rewards", "--alg=rrd_state", *HUBER[2:]],
     "eager (no gradients are written by hand for networks such as StateReward)"),
    ("decomposition", RECURRENT, "eager (no gradients are written by hand for Recurrent)"),
], ids=lambda value: None if isinstance(value, str) else value[1])
def test_a_run_says_its_engine_and_why(page, flags, engine, capsys):
    write_files(page)
    done = run(*flags, *SMALL)
    assert said(capsys) == engine
    if "munchausen" in flags[0]:
        assert float(done.rows[-1]["Bonus"]) <= 0


def test_a_command_of_ones_own_is_what_the_record_holds():
    """In a process of its own, from a directory that is not on Python's path."""
    write_files("algorithm")
    flags = [*MUNCHAUSEN, *SMALL]
    subprocess.run([sys.executable, ROOT / "train.py", *flags], check=True, capture_output=True)
    (directory,) = Path("outputs").iterdir()
    assert "--import=munchausen" in json.dumps(Finished(directory).facts["command"])
    assert directory.name.startswith("-munchausen-Pendulum-v1") or directory.name.startswith("munchausen-Pendulum-v1")
    done = subprocess.run([sys.executable, ROOT / "train.py", "--import=munchausen", "--help"], check=True,
                          capture_output=True, text=True)
    assert "|munchausen" in done.stdout


@pytest.mark.parametrize(("page", "own"), [*OWN.items(), ("decomposition", RECURRENT)], ids=lambda value: value[1])
def test_two_parts_are_the_whole(page, own):
    write_files(page)
    flags = [*SMALL, *own]
    parts = run(*flags, "--total_timesteps=80", "--tag=parts")
    assert train.main([f"--resume={parts.directory}", own[0], "--total_timesteps=120"]) == 0
    whole = run(*flags, "--tag=whole")
    assert digest(parts.directory) == digest(whole.directory)


@pytest.mark.parametrize("page", ["algorithm", "decomposition"])
def test_seeds_side_by_side_are_their_single_runs(page):
    write_files(page)
    flags = [*OWN[page], *SMALL]
    assert train.main([*flags, "--seeds=1,2", "--tag=both"]) == 0
    single = run(*flags, "--seed=2", "--tag=single")
    (one,) = Path("outputs").glob("both*seed2*")
    assert digest(one) == digest(single.directory)


def test_several_environments_at_once_of_a_module_that_was_imported():
    """Workers import it themselves where the id is found in it, and only there."""
    write_files("environment")
    write_files("algorithm")
    flags = ["--alg=munchausen", "--import=munchausen", "--env=Parcel-v0", "--import=my_env", "--num_envs=2"]
    assert run(*flags, *SMALL).rows[-1]["Timesteps"] == "120"


@pytest.mark.parametrize(("page", "flags"), [("algorithm", MUNCHAUSEN), ("decomposition", RECENCY),
                                             ("decomposition", HUBER), ("decomposition", RECURRENT)],
                         ids=lambda value: value[1])
def test_evaluation(page, flags, capsys):
    write_files(page)
    done = run(*flags, *SMALL)
    argv = [str(done.directory), "--episodes=2", flags[0]]
    assert evaluate.main(argv) == 0
    capsys.readouterr()
    code = evaluate.main([*argv, "--diagnose"])
    out, err = capsys.readouterr()
    if page == "algorithm":
        assert (code, err) == (2, "evaluate.py: diagnose: munchausen learns no reward; expected a run of rrd, "
                                  "ircr or uniform\n")
    else:
        assert code == 0
        assert re.search(r"std_within +[\d.]", out)


@pytest.mark.parametrize("page", ["algorithm", "decomposition"])
def test_a_run_without_its_module_says_what_is_missing(page, capsys):
    write_files(page)
    done = run(*OWN[page], *SMALL)
    name = OWN[page][1].removeprefix("--alg=")
    del ALGORITHMS[name]
    capsys.readouterr()
    for main, argv in ((train.main, [f"--resume={done.directory}"]), (evaluate.main, [str(done.directory)])):
        assert main(argv) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(rf"alg: got '{name}'.*--import=MODULE", line)


# --import -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "code", "message"), [
    ("nosuchmodule", None, "import: there is no module 'nosuchmodule', neither installed nor in /"),
    ("nosuch.module", None, "import: there is no module 'nosuch'"),
    ("bad.py", "", "import: got 'bad.py', expected a module's name, such as my_rewards for my_rewards.py"),
    ("../bad", "", "import: got '../bad', expected a module's name"),
    ("", "", "import: got '', expected a module's name"),
    ("bad", "x = 1\n1 / 0\n", "import: 'bad' cannot be imported: ZeroDivisionError: division by zero (bad.py, line 2)"),
    ("bad", "import nosuchmodule\n", "import: 'bad' cannot be imported: ModuleNotFoundError: No module named "
                                     "'nosuchmodule' (bad.py, line 1)"),
    ("bad", "def\n", "import: 'bad' cannot be imported: SyntaxError: invalid syntax (bad.py, line 1)"),
    ("bad", "import sys\nsys.exit('no')\n", "import: 'bad' cannot be imported: SystemExit: no (bad.py, line 2)"),
    ("bad", "from algorithm import register_algorithm\nregister_algorithm('rrd')\n",
     "import: 'bad' cannot be imported: ConfigError: name: got 'rrd', expected a word other than rrd, ircr, uniform"),
])
@pytest.mark.parametrize("main", [train.main, lambda argv: evaluate.main(["outputs/RUN", *argv]),
                                  lambda argv: sweep.main(["suite.json", *argv])], ids=["train", "evaluate", "sweep"])
def test_a_module_that_cannot_be_imported_is_one_line(main, name, code, message, capsys):
    Path("suite.json").write_text(json.dumps({"env": ["Pendulum-v1"], "runs": {"SAC": {"alg": "sac"}}}))
    if code:
        Path("bad.py").write_text(code)
    assert main([f"--import={name}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.partition(".py: ")[2].startswith(message)
    assert not Path("outputs").exists()


def test_import_without_a_module_is_one_line(capsys):
    assert train.main(["--alg=sac", "--import"]) == 2
    assert capsys.readouterr().err == "train.py: --import: expected one argument\n"
    assert train.main(["--improt=x"]) == 2
    assert "did you mean --import?" in capsys.readouterr().err


def test_modules_are_imported_in_order_and_before_anything_else_is_read():
    Path("first.py").write_text("order = ['first']\n")
    Path("second.py").write_text("import first\nfirst.order.append('second')\n"
                                 "from algorithm import register_algorithm\n"
                                 "from algorithm.basis_alg.sac_torch import SAC\n"
                                 "register_algorithm('late', gamma=0.5)(SAC)\n")
    config = parse_args(["--alg=late", "--import=first", "--import", "second"])
    assert sys.modules["first"].order == ["first", "second"]
    assert (config.gamma, config.imports) == (0.5, ("first", "second"))
    assert sys.path[-1] == os.getcwd()                  # behind what is installed


@pytest.mark.parametrize("content", [{"import": "mine"}, {"imports": ["mine"]}, {"modules": ["mine"]},
                                     {"runtime": {"import": "mine"}}], ids=str)
def test_a_file_of_settings_may_name_no_module(content):
    Path("mine.py").write_text("raise SystemExit('imported')")
    Path("settings.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="unknown setting"):
        parse_args(["--config=settings.json"])


@pytest.mark.parametrize("name", ["import", "import=mine", "import=mine;"])
@pytest.mark.parametrize("place", ["common", "runs"])
def test_a_suite_may_name_no_module(name, place, capsys):
    Path("mine.py").write_text("open('imported', 'w')")
    runs = {"SAC": {"alg": "sac", **({name: "mine"} if place == "runs" else {})}}
    suite = {"env": ["Pendulum-v1"], "runs": runs} | ({"common": {name: "mine"}} if place == "common" else {})
    Path("suite.json").write_text(json.dumps(suite))
    assert sweep.main(["suite.json"]) == 2
    assert capsys.readouterr().err == ("sweep.py: import: a module to import, which only a flag may name: give "
                                       "--import=MODULE\n")
    assert not Path("imported").exists()


def test_a_sweep_imports_in_every_trial(capsys):
    write_files("environment")
    write_files("decomposition")
    common = dict(flag.lstrip("-").split("=") for flag in SMALL)
    suite = {"common": common, "env": ["my_env:Parcel-v0", "Parcel-v0"], "runs": {"recency": {"alg": "recency"}}}
    Path("suite.json").write_text(json.dumps(suite))
    argv = [sys.executable, ROOT / "sweep.py", "suite.json", "--import=recency"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stderr == ("sweep.py: env: 'my_env:Parcel-v0' names a module to import, which only a flag may: give "
                           "--import=my_env\n")
    done = subprocess.run([*argv, "--import=my_env", "--jobs=2"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("2 done\n")


def test_help_stays_without_pytorch():
    code = "import sys; from utils.settings.cli import parse_args\ntry: parse_args(['--help'])\n" \
           "finally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=False)
    assert done.stdout.endswith("False\n")
    assert "--import MODULE" in done.stdout


# Registering ----------------------------------------------------------------------------------------------------

class Told(Decomposition):
    """Pays what the replay says, and each step of an episode what it was told."""

    markov = joint = False

    def credit(self, episodes, mask):
        return episodes["rews"][..., 0]


def args(alg: str, **changes) -> Namespace:
    given = dict(alg=alg, obs_dims=(5,), acts_dims=(2,), device="cpu", batch_size=8, buffer_size=100)
    return Namespace(**given | changes)


def filled(replay: TransitionReplay, length: int = 10) -> TransitionReplay:
    rng = np.random.default_rng(0)
    sizes = {"obs": 5, "acts": 2, "rews": 1, "obs_next": 5}
    columns = {name: rng.uniform(-1, 1, (length, size)).astype(np.float32) for name, size in sizes.items()}
    replay.store_episode(columns | {"done": np.zeros((length, 1), np.float32)})
    return replay


@pytest.mark.parametrize("name", ["", "a b", "-x", "sac", "dqn", "rrd", None, 3, "a/b", "a\n"])
def test_a_wrong_name_of_a_decomposition_is_refused(name):
    with pytest.raises(ConfigError, match=r"^name: got .*, expected a word other than ddpg, td3, sac, dqn, rrd, ircr"):
        register_decomposition(name)


def test_an_algorithm_of_ones_own_is_no_name_for_a_decomposition_nor_the_other_way_round():
    register_algorithm("one")(SAC)
    register_decomposition("other")(Told)
    with pytest.raises(ConfigError, match=r"^name: got 'one'"):
        register_decomposition("one")
    with pytest.raises(ConfigError, match=r"^name: got 'other'"):
        register_algorithm("other")


@pytest.mark.parametrize("replay", [dict, 3, "TransitionReplay", lambda config: None, TransitionReplay.sample],
                         ids=["dict", "3", "name", "function", "method"])
def test_a_wrong_replay_is_refused(replay):
    with pytest.raises(ConfigError, match=r"^replay: got .* "
                                           r"expected a subclass of algorithm\.replay_buffer\.transition"):
        register_decomposition("mine", replay=replay)
    assert "mine" not in ALGORITHMS


@pytest.mark.parametrize(("defaults", "message"), [
    ({"gama": 1}, "gama: unknown setting; did you mean gamma?"), ({"gamma": 2}, "gamma: got 2.0, expected"),
    ({"alg": "sac"}, "alg: not a setting whose default an algorithm has"),
    ({"basis_alg": "sac"}, "basis_alg: not a setting whose"), ({"seed": 1}, "seed: not a setting whose"),
    ({"env": "Ant-v4"}, "env: not a setting whose"),
])
@pytest.mark.parametrize("register", [register_algorithm, register_decomposition])
def test_wrong_defaults_are_refused(register, defaults, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        register("mine", **defaults)


def test_what_is_no_class_or_function_is_refused():
    for register in (register_algorithm, register_decomposition):
        with pytest.raises(ConfigError, match=r"^mine: @register_.* got a int, expected a class or a function"):
            register("mine")(3)
    with pytest.raises(ConfigError, match=r"^like: got 'rrd', expected one of ddpg"):
        register_algorithm("mine", like="rrd")
    assert "mine" not in ALGORITHMS


@pytest.mark.parametrize("result", [None, 3, torch.nn.Linear(1, 1)], ids=str)
def test_a_decomposition_that_gives_no_model_is_one_line(result, capsys):
    register_decomposition("mine")(lambda config, generator: result)
    assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL]) == 2
    assert capsys.readouterr().err == (f"train.py: alg: 'mine' builds a {type(result).__name__}, expected a subclass "
                                       "of algorithm.decomposition.base.Decomposition\n")


def test_an_algorithm_that_is_no_agent_is_one_line_for_a_run(capsys):
    register_algorithm("mine")(lambda config: object())
    assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL]) == 2
    assert capsys.readouterr().err == ("train.py: alg: 'mine' builds a object, expected a subclass of "
                                       "algorithm.basis_alg.base_torch.Agent\n")


@pytest.mark.parametrize("missing", ["r_lr", "rrd_batch_size", "rrd_sample_size"])
def test_what_rrd_reads_and_nobody_declared_is_one_line(missing, capsys):
    reads = {name: value for name, value in RRD_READS.items() if name != missing}
    register_decomposition("mine", replay=SubsequenceReplay, **reads)(RRD)
    assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL]) == 2
    assert capsys.readouterr().err == (f"train.py: {missing}: not a setting of mine, but a part of mine reads it; "
                                       "expected it among the defaults that mine is registered with\n")


def test_defaults_become_flags_and_others_stay_refused():
    register_decomposition("mine", r_lr=0.5, gamma=0.9)(Told)
    assert (config := parse_args(["--alg=mine", "--r_lr=0.25"])).r_lr == 0.25
    assert (config.gamma, config.basis_alg, config.train_batches) == (0.9, "sac", 100)
    over_dqn = parse_args(["--alg=mine", "--basis_alg=dqn"])
    assert (over_dqn.r_lr, over_dqn.gamma, over_dqn.train_batches) == (0.5, 0.9, 25)
    with pytest.raises(ConfigError, match=r"^rrd_sample_size: not a setting of mine over sac; it belongs to rrd"):
        parse_args(["--alg=mine", "--rrd_sample_size=4"])


def test_a_class_of_ones_own_sees_attributes_of_its_own():
    class Seen(TransitionReplay):
        def __init__(self, config):
            super().__init__(config)
            self.hidden = config.hidden

    @register_decomposition("mine", replay=Seen)
    def mine(config, generator):
        model = Told(config, generator)
        model.hidden = config.hidden
        return model
    agent, replay = create_agent(args("mine", hidden=7)), create_buffer(args("mine", hidden=7))
    assert agent.decomposition.hidden == replay.hidden == 7


def test_an_algorithm_like_dqn_has_discrete_actions():
    from algorithm.basis_alg.dqn_torch import DQN
    register_algorithm("my_dqn", like="dqn", eps_decay=100)(DQN)
    flags = ["--env=CartPole-v1", *SMALL]
    assert run("--alg=my_dqn", *flags).config["eps_decay"] == 100
    assert run("--alg=rrd", "--basis_alg=my_dqn", "--rrd_batch_size=8", *flags, "--rrd_sample_size=4").rows
    register_algorithm("my_dqn")(SAC)                   # anew, and not discrete any more
    assert not parse_args(["--alg=my_dqn"]).discrete


@pytest.mark.parametrize(("found", "told"), [
    (torch.ones(10, 1), "of an episode of 10 steps {} gives shape (10, 1), expected one number for each step"),
    (torch.ones(1), "of an episode of 10 steps {} gives shape (1,), expected one number for each step"),
    (None, "of an episode of 10 steps {} gives shape (), expected one number for each step"),
    ({"rews": 1}, "{} gives a dict that holds other things than numbers, expected a tensor or an array of one number "
                  "for each step"),
], ids=["column", "one", "none", "mapping"])
def test_payments_that_are_not_one_a_step_are_one_line(found, told, capsys):
    mine = type("Mine", (RRD,), {"redistribute": lambda *given: found})
    register_decomposition("mine", replay=SubsequenceReplay, **RRD_READS)(mine)
    assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL, "--diagnose_every=1"]) == 2
    assert capsys.readouterr().err == f"train.py: redistribute: {told.format('Mine')}\n"


def test_a_credit_of_another_shape_is_one_line(capsys):
    class Flat(Told):
        def credit(self, episodes, mask):
            return episodes["rews"]
    register_decomposition("mine")(Flat)
    assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL, "--diagnose_every=1"]) == 2
    assert capsys.readouterr().err == ("train.py: credit: Flat gives shape (1, 10, 1), expected (1, 10), one payment "
                                       "for each step\n")


class Broken(RRD):
    """Predicts a NaN, for the third step of ten."""

    def redistribute(self, episode, mask=None):
        rewards = super().redistribute(episode, mask)
        rewards[2] = torch.nan
        return rewards


class Endless(Told):
    """Pays infinity for the last step."""

    def credit(self, episodes, mask):
        return torch.tensor([[0.0] * (mask.shape[1] - 1) + [torch.inf]])


@pytest.mark.parametrize(("build", "replay", "told"), [
    (Broken, SubsequenceReplay, "nan in evaluation, at step 3 of an episode"),
    (Endless, TransitionReplay, "inf in evaluation, at step 10 of an episode"),
], ids=["by step", "by episode"])
def test_payments_that_are_not_finite_are_one_line(build, replay, told, capsys):
    register_decomposition("mine", replay=replay, **RRD_READS)(build)
    flags = ["--alg=mine", "--env=Pendulum-v1", *SMALL]
    assert train.main([*flags, "--diagnose_every=1", "--tag=diagnosed"]) == 1
    line = f"predicted reward: got {told}; expected a finite float32\n"
    assert capsys.readouterr().err.endswith(f"train.py: {line}")
    plain = run(*flags, "--tag=plain").directory
    capsys.readouterr()
    assert evaluate.main([str(plain), "--diagnose"]) == 1
    assert capsys.readouterr().err == f"evaluate.py: {line}"


def test_a_prediction_for_the_replay_that_is_not_finite_is_named():
    replay = create_buffer(args("rrd"))
    for _ in range(4):
        filled(replay)
    register_decomposition("mine", replay=SubsequenceReplay, **RRD_READS)(Broken)
    with pytest.raises(NotFiniteError, match=r"^predicted reward: got nan at step 3 of episode 3 of 4 in the replay; "):
        create_judge(create_agent(args("mine")), replay).replay_error()


def test_a_batch_that_is_wrong_is_one_line_with_every_engine(capsys):
    class Flat(TransitionReplay):
        def sample(self, batch_size=None):
            batch = super().sample(batch_size)
            return batch | {"rews": batch["rews"][:, 0]}
    register_decomposition("mine", replay=Flat)(Told)
    for engine in ("manual", "eager"):
        assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL, f"--engine={engine}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("train.py: alg: 'mine' does not go with what its replay, a Flat, gives: batch['rews']: "
                               "got shape (8,), expected (B, 1)")


def test_what_would_not_be_saved_is_one_line(capsys):
    class Forgets(RRD):
        def parts(self):
            return {"rrd": MLPRewardNet(3, 1)}

    class Adam(RRD):
        def __init__(self, config, generator):
            super().__init__(config, generator)
            self.opts = [torch.optim.Adam(self.parameters())]
    for build, message in ((Forgets, "its optimisers step parameters that are not in its nets, so they would not be "
                                     "saved; expected them in both"),
                           (Adam, "its optimisers are a Adam, expected utils.torch_utils.TFAdam or TFRMSProp")):
        register_decomposition("mine", replay=SubsequenceReplay, **RRD_READS)(build)
        assert train.main(["--alg=mine", "--env=Pendulum-v1", *SMALL]) == 2
        assert capsys.readouterr().err == f"train.py: alg: 'mine': {message}\n"


# What the engines make of it ------------------------------------------------------------------------------------

class Doubled(RRD):
    """The paper's network, and twice its loss."""

    def loss(self, batch):
        loss, info = super().loss(batch)
        return 2 * loss, info


class Lazy(SAC):
    """A policy that wants nothing."""

    def pi_loss(self, batch):
        loss, info = super().pi_loss(batch)
        return 0 * loss, info


class OtherReward(MLPRewardNet):
    def forward(self, obs, acts, obs_next):
        return -super().forward(obs, acts, obs_next)


def patched(config):
    basis = SAC(config) if config.basis_alg == "patched" else TD3(config)
    plain = basis.pi_loss

    def lazy(batch):
        loss, info = plain(batch)
        return 0 * loss, info
    basis.pi_loss = lazy
    return basis


def other_policy(config):
    basis = SAC(config)
    basis.policy = type("Other", (type(basis.policy),), {})(5, 2, basis.weights_generator)
    basis.nets["main"]["policy"] = basis.policy
    basis.opts = [basis.make_optimizer(basis.policy, basis.critics)]
    return basis


class OwnPay(Told):
    """Pays by itself, so that the field `rews` of a batch is not what it pays."""

    def pay(self, batch):
        return 2 * batch["rews"]


def register_all() -> None:
    register_algorithm("lazy")(Lazy)
    register_algorithm("patched")(patched)
    register_algorithm("patched_td3", like="td3")(patched)
    register_algorithm("other_policy")(other_policy)
    register_decomposition("doubled", replay=SubsequenceReplay, **RRD_READS)(Doubled)
    register_decomposition("other_reward", replay=SubsequenceReplay, **RRD_READS)(
        lambda config, generator: RRD(config, generator, OtherReward(5, 2, generator)))
    register_decomposition("own_pay")(OwnPay)


OTHERS = [("lazy", None), ("doubled", "sac"), ("doubled", "td3"), ("other_reward", "sac"),
          ("uniform", "patched"), ("uniform", "patched_td3"), ("uniform", "other_policy"), ("rrd", "lazy"),
          ("uniform", "lazy"), ("own_pay", "sac")]


@pytest.mark.parametrize(("alg", "basis"), OTHERS, ids=str)
def test_nothing_of_ones_own_is_computed_as_if_it_were_the_packages(alg, basis):
    register_all()
    given = args(alg, basis_alg=basis)
    agent, replay = create_agent(given), filled(create_buffer(given))
    engine, why = create_engine(agent.config, agent, replay)
    assert engine.name == "eager"
    assert why.startswith("no gradients are written by hand for ")
    for precision in ("fp32", "bf16"):
        with pytest.raises(ConfigError, match="engine: got 'manual'"):
            create_engine(create_agent(args(alg, basis_alg=basis, engine="manual", precision=precision)).config,
                          agent, replay)


def test_a_subclass_that_changes_nothing_learns_what_rrd_learns():
    """By autograd as by hand; and with another loss, something else."""
    register_all()
    register_decomposition("same", replay=SubsequenceReplay, **RRD_READS)(type("Same", (RRD,), {}))
    learned = {}
    for alg in ("rrd", "same", "doubled"):
        given = args(alg, basis_alg="sac", rrd_batch_size=8, rrd_sample_size=4)
        with float64():                     # see there for why
            agent, replay = create_agent(given), filled(build_buffer(given))
            create_engine(agent.config, agent, replay)[0].run(5)
        learned[alg] = agent.decomposition.reward.r.weight
    torch.testing.assert_close(learned["rrd"], learned["same"], rtol=SAME, atol=SAME)
    # Adam divides by the size of the gradient, so that only its epsilon tells a loss from twice the loss.
    assert not torch.equal(learned["same"], learned["doubled"])


@pytest.mark.parametrize(("alg", "basis"), OTHERS, ids=str)
def test_what_is_captured_is_ones_own_loss(alg, basis, no_graphs):
    """The CUDA engine's computation, on the CPU, walks the way of autograd's, with an actor of the same settings."""
    register_all()
    if basis in ("patched_td3", "td3"):
        pytest.skip("a policy with a batch of its own is captured by hand only")
    learned = []
    for kind in (None, no_graphs):
        given = args(alg, basis_alg=basis, hidden=3)
        agent, replay = create_agent(given), filled(create_buffer(given))
        engine = kind(agent, replay) if kind else create_engine(agent.config, agent, replay)[0]
        engine.run(3)
        engine.actor.step(np.zeros(5, np.float32))
        learned.append(agent.state_dict())
    for name, tensor in learned[0].items():
        torch.testing.assert_close(learned[1][name], tensor, msg=name)


@pytest.mark.parametrize(("alg", "basis"), [("sac", None), ("rrd", "td3"), ("uniform", "sac"), ("recency", "sac"),
                                            *OTHERS], ids=str)
def test_auto_captures_what_is_the_packages(alg, basis):
    """Told that both lie on a GPU; nothing is computed."""
    register_all()
    register_decomposition("recency", replay=type("Recency", (TransitionReplay,), {}))(Told)
    agent, replay = create_agent(args(alg, basis_alg=basis)), create_buffer(args(alg, basis_alg=basis))
    agent.device = replay.device = torch.device("cuda")
    name, _ = algorithm.engine._fastest(agent, replay)
    assert name == {"sac": "cudagraph", "recency": "manual"}.get(alg, "eager" if (alg, basis) in OTHERS
                                                                 else "cudagraph")


def test_an_update_of_ones_own_is_not_captured(no_graphs):
    class Twice(SAC):
        def update(self, sample):
            super().update(sample)
            return super().update(sample)
    register_algorithm("twice")(Twice)
    agent, replay = create_agent(args("twice")), filled(create_buffer(args("twice")))
    with pytest.raises(ConfigError, match="engine: got 'cudagraph', but Twice has a update of its own"):
        no_graphs(agent, replay)
