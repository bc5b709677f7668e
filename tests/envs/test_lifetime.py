"""What an environment holds is given back: each one is closed once, and none is made that is not needed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from runs import SMALL, run
from tiny_envs import Clock, Film

import evaluate
import return_decomposition as rd
import train
from envs import make_env
from utils.errors import ConfigError
from utils.settings.fields import Config

pytestmark = pytest.mark.usefixtures("forget")
SAC = ["--alg=sac", "--env=held:Held-v0", *SMALL]
MODULE = """
import gymnasium as gym
from pathlib import Path
from tiny_envs import Clock

class Held(Clock):
    def __init__(self, fails="", most=99):
        super().__init__()
        self.fails = fails
        names = [path for path in Path("held").iterdir() if path.name.startswith(str(os.getpid()))]
        if len(names) >= most:
            raise RuntimeError("another one is held")
        self.name = next(name for i in range(99) if not (name := Path("held") / f"{os.getpid()}-{i}").exists())
        self.name.touch()
        with open("made", "a") as file:
            file.write(".")

    def step(self, action):
        if self.fails == "step" and self.episode == 1:
            raise OSError("lost")
        obs, *rest = super().step(action)
        return obs * (float("nan") if self.fails == "nan" and self.episode == 1 else 1), *rest

    def close(self):
        self.name.unlink()                              # raises if it is closed twice
        if self.fails == "close":
            raise OSError("cannot close")

gym.register("Held-v0", Held)
gym.register("One-v0", Held, kwargs={"most": 1})
"""


@pytest.fixture(autouse=True)
def _held(monkeypatch):
    Path("held").mkdir()
    Path("held.py").write_text("import os\n" + MODULE)
    monkeypatch.syspath_prepend(".")


def count() -> tuple[int, int]:
    """How many were made, and how many are still held."""
    return len(Path("made").read_text()), len(list(Path("held").iterdir()))


@pytest.mark.parametrize("flags", [[], ["--num_envs=2"], ["--seeds=0,1"], ["--test_rollouts=0"],
                                   ["--alg=rrd", "--rrd_sample_size=4", "--diagnose_every=1"]], ids=str)
def test_a_run_closes_every_environment_once(flags):
    assert train.main([*SAC, *flags]) == 0
    made, held = count()
    assert made > 0
    assert held == 0


@pytest.mark.parametrize("flags", [[], ["--num_envs=2"], ["--seeds=0,1"]], ids=str)
@pytest.mark.parametrize("how", ["step", "nan"])
def test_so_does_one_that_fails(how, flags):
    failing = f'--env_kwargs={{"fails": "{how}"}}'
    assert train.main([*SAC, *flags, failing]) == 1
    assert count()[1] == 0


def test_so_does_one_that_is_stopped():
    def stop(row):
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        rd.train("held:Held-v0", alg="sac", callback=stop, **_settings())
    assert count() == (2, 0)


def _settings() -> dict[str, str]:
    return dict(flag.removeprefix("--").split("=") for flag in SMALL)


@pytest.mark.parametrize("wrong", [["--alg=dqn"], ["--buffer_size=1000000000000"],
                                   ["--seeds=0,1", "--buffer_size=10000000000"]], ids=str)
def test_so_does_one_that_cannot_begin(wrong):
    assert train.main([*SAC, *wrong]) == 2
    made, held = count()
    assert made > 0
    assert held == 0


def test_an_error_in_close_is_a_note_and_the_run_is_done(capsys):
    assert train.main([*SAC, '--env_kwargs={"fails": "close"}']) == 0
    assert "train.py: " not in (told := capsys.readouterr().err)
    assert told.count("note: closing the environment failed: OSError: cannot close\n") == 2
    assert count()[1] == 0


def test_evaluation_closes_its_environment_also_when_it_fails():
    directory = run(*SAC).directory
    assert evaluate.main([str(directory), "--env=held:Held-v0", "--episodes=2"]) == 0
    assert count() == (3, 0)
    assert evaluate.main([str(directory), "--env=held:Held-v0", "--episodes=2", '--env_kwargs={"fails": "nan"}']) == 1
    assert count() == (4, 0)


def test_an_instance_of_the_callers_stays_open_and_what_a_function_made_does_not():
    import held
    mine = held.Held()
    rd.train(mine, eval_env=held.Held, alg="sac", **_settings())
    assert count()[1] == 1
    mine.close()
    assert count()[1] == 0


# One instance in a process --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flags", [[], ["--num_envs=2"]], ids=str)
def test_one_instance_is_enough_without_evaluation(flags):
    gone = [flag for flag in SAC if "test_rollouts" not in flag and "--env=" not in flag]
    finished = run(*gone, "--env=held:One-v0", "--test_rollouts=0", *flags)
    assert count() == (1 + 2 * bool(flags), 0)
    assert all(row["Rewards"] == "" for row in finished.rows)
    assert not (finished.directory / "rews").exists()
    assert evaluate.main([str(finished.directory), "--env=held:One-v0", "--episodes=2"]) == 0
    assert rd.load(finished.directory).updates > 0


def test_a_run_without_evaluation_is_evaluated_at_its_end(capsys):
    directory = run(*SAC, "--test_rollouts=0").directory
    capsys.readouterr()
    assert evaluate.main([str(directory), "--env=held:Held-v0", "--episodes=1"]) == 0
    shown = capsys.readouterr()
    assert "evaluate.py: note: the run has no evaluations, so no best checkpoint; evaluating the last one" in shown.err
    assert f"{directory}/checkpoints/last.safetensors" in shown.out


def test_a_run_with_evaluations_is_evaluated_at_its_best(capsys):
    directory = run(*SAC).directory
    assert evaluate.main([str(directory), "--env=held:Held-v0", "--episodes=1"]) == 0
    shown = capsys.readouterr()
    assert "note" not in shown.err
    assert f"{directory}/checkpoints/best.safetensors" in shown.out


@pytest.mark.parametrize("kind", [Film, type("Flat", (Clock,), {"action_space": gym.spaces.MultiBinary(2)})])
def test_an_environment_that_is_refused_is_closed(kind):
    closed = []
    gym.register("Own-v0", type("Own", (kind,), {"close": lambda self: closed.append(1)}))
    with pytest.raises(ConfigError):
        make_env(Config(env="Own-v0", alg="sac"))
    assert closed == [1]


# Helper processes -----------------------------------------------------------------------------------------------------

HELPED = """
import multiprocessing, signal
import gymnasium as gym
from pathlib import Path
from tiny_envs import Clock

def serve(pipe):
    while True:
        pipe.send(pipe.recv() + 1)

class Helped(Clock):
    def __init__(self):
        super().__init__()
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.helper = context.Process(target=serve, args=(theirs,), daemon=True)
        self.helper.start()

    def step(self, action):
        self.pipe.send(self.t)
        assert self.pipe.recv() == self.t + 1
        return super().step(action)

    def close(self):
        self.helper.terminate()
        self.helper.join(4)
        with open("ended", "a") as file:
            file.write(f"{self.helper.exitcode} ")
        self.helper.kill()

gym.register("Helped-v0", Helped)
"""


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("flags", [[], ["--num_envs=2"]], ids=str)
def test_a_forked_helper_ends_when_it_is_told_to(flags):
    Path("helped.py").write_text(HELPED)
    assert train.main(["--alg=sac", "--env=helped:Helped-v0", *SMALL, *flags]) == 0
    assert set(Path("ended").read_text().split()) == {str(-signal.SIGTERM)}


def test_a_helper_of_a_run_leaves_other_signals_to_the_run():
    from utils.stop import Stop

    def report(pipe):
        pipe.send([signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
                   for number in (signal.SIGTERM, signal.SIGINT)])
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    with Stop():
        process = context.Process(target=report, args=(theirs,))
        process.start()
    assert ours.recv() == [True, False]
    process.join()


# Flags ----------------------------------------------------------------------------------------------------------------

class Ends(Clock):
    """Gives what its arguments say as `terminated` and `truncated` at its seventh step."""

    def __init__(self, terminated=False, truncated=False, before=False):
        super().__init__()
        self.flags, self.before = (terminated, truncated), before

    def step(self, action):
        obs, reward, *_ = super().step(action)
        return obs, reward, *(self.flags if self.t >= 7 else (self.before, self.before)), {}


def ends(**flags) -> gym.Env:
    gym.registry.pop("Ends-v0", None)
    gym.register("Ends-v0", Ends, kwargs=flags)
    return make_env(Config(env="Ends-v0", alg="sac", test_timesteps=20))


@pytest.mark.parametrize("name", ["terminated", "truncated"])
@pytest.mark.parametrize("value", [True, 1, 2, -1, 0.5, np.bool_(True), np.int64(3), np.array([True]), np.array(2.0)],
                         ids=repr)
def test_a_number_ends_an_episode_as_a_bool_does(name, value):
    env = ends(**{name: value, "before": value * 0})
    env.reset(seed=0)
    steps = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(7)]
    assert steps[:6] == [(False, False)] * 6
    assert steps[6] == (name == "terminated", name == "truncated")
    assert all(type(flag) is bool for step in steps for flag in step)


@pytest.mark.parametrize("name", ["terminated", "truncated"])
@pytest.mark.parametrize("value", [None, "no", np.nan, np.zeros(2), [], {}, 1j], ids=repr)
def test_what_is_no_flag_is_refused_by_name(name, value):
    env = ends(**{name: value})
    env.reset(seed=0)
    for _ in range(6):
        env.step(np.zeros(1, np.float32))
    with pytest.raises(ConfigError, match=rf"^env: 'Ends-v0' gives .* as {name}, expected True or False$"):
        env.step(np.zeros(1, np.float32))


@pytest.mark.parametrize("flags", [[], ["--num_envs=2"]], ids=str)
def test_a_run_on_counts_is_that_on_bools(flags):
    Path("counts.py").write_text("""
import gymnasium as gym
from tiny_envs import Clock

class Counts(Clock):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def step(self, action):
        obs, reward, over, _, info = super().step(action)
        return obs, reward, self.value if self.t >= 7 else 0, 0, info

gym.register("Bool-v0", Counts, kwargs={"value": True})
gym.register("Two-v0", Counts, kwargs={"value": 2})
""")
    learned = [run("--alg=sac", f"--env=counts:{name}-v0", *SMALL, *flags) for name in ("Bool", "Two")]
    assert learned[0].untimed() == learned[1].untimed()
    assert any(float(row["Q_loss"] or 0) for row in learned[0].rows)
