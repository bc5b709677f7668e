"""--env_kwargs and --eval_env_kwargs reach every environment of a run, and are a part of what the run is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from runs import SMALL, SMALL_RRD, refusal, run

import evaluate
import plot
import return_decomposition as rd
import train
from envs import env_kwargs, make_env
from results import reading
from results.curves import Curve
from sweeps.suite import read_suite
from utils.errors import ConfigError
from utils.settings.cli import parse_args
from utils.settings.fields import Config
from utils.settings.json_files import read_json
from utils.settings.resolve import resolve

pytestmark = pytest.mark.usefixtures("forget")
MODULE = """
import gymnasium as gym
from tiny_envs import Clock

class Sized(Clock):
    '''Writes down with what it was made.'''

    def __init__(self, length=10, name="", render_mode=None):
        super().__init__(length)
        with open("made", "a") as file:
            file.write(f"{length}{name} ")

gym.register("Sized-v0", Sized)
"""
SAC = ["--alg=sac", "--env=sized:Sized-v0", *SMALL]


@pytest.fixture(autouse=True)
def _module(monkeypatch):
    Path("sized.py").write_text(MODULE)
    monkeypatch.syspath_prepend(".")


def made() -> list[str]:
    text = Path("made").read_text()
    Path("made").unlink()
    return sorted(text.split())


def test_the_environments_of_a_run_get_them():
    finished = run(*SAC, '--env_kwargs={"length": 4, "name": "x"}')
    assert made() == ["4x", "4x"]
    assert finished.config["env_kwargs"] == finished.facts["env_kwargs"] == {"length": 4, "name": "x"}
    assert {row["Steps"] for row in finished.rows} == {"4"}
    run(*SAC, '--env_kwargs={"length": 4}', '--eval_env_kwargs={"length": 6}', "--num_envs=2", "--tag=two")
    assert made() == ["4", "4", "4", "6"]


def test_evaluation_diagnosis_and_seeds_get_those_of_evaluation():
    assert train.main([*SMALL_RRD, "--env=sized:Sized-v0", '--env_kwargs={"length": 4}', "--diagnose_every=1",
                       '--eval_env_kwargs={"length": 6}', "--seeds=0,1"]) == 0
    assert made() == ["4", "4", "6", "6", "6", "6"]


@pytest.mark.parametrize(("flags", "length"), [([], "6"), (['--env_kwargs={"length": 8}'], "8"),
                                               (["--env-kwargs={}"], "10")])
def test_evaluate_uses_those_with_which_the_run_was_evaluated(flags, length, capsys):
    directory = run(*SAC, '--env_kwargs={"length": 4}', '--eval_env_kwargs={"length": 6}').directory
    made()
    assert evaluate.main([str(directory), "--env=sized:Sized-v0", "--episodes=2", *flags]) == 0
    assert made() == [length]
    assert re.search(rf"length +{length} ", capsys.readouterr().out)


def test_an_empty_object_for_evaluation_means_none():
    run(*SAC, '--env_kwargs={"length": 4}', "--eval_env_kwargs={}")
    assert made() == ["10", "4"]


def test_a_file_repeats_a_run_and_load_builds_its_agent():
    directory = run(*SAC, "--import=sized", "--env=Sized-v0", '--env_kwargs={"length": 4}').directory
    made()
    run("--import=sized", f"--config={directory}/config.json", "--tag=again")
    assert made() == ["4", "4"]
    assert rd.load(directory).updates > 0


def test_resume_compares_them(capsys):
    directory = run(*SAC, '--env_kwargs={"length": 4}').directory
    resumed = [f"--resume={directory}", "--env=sized:Sized-v0", "--total_timesteps=160"]
    assert train.main([*resumed, '--env_kwargs={"length": 5}']) == 2
    assert "env_kwargs {'length': 4} -> {'length': 5}; expected the same ones" in capsys.readouterr().err
    assert train.main(resumed) == 0
    resumed[0] = f"--resume={run(*SAC, '--tag=without').directory}"
    assert train.main([*resumed, "--env_kwargs={}"]) == 0


def test_the_order_of_the_arguments_is_none_of_their_meaning():
    one, other = (resolve({"alg": "sac", "env_kwargs": dict.fromkeys(names, 1)}) for names in ("ab", "ba"))
    assert one == other
    assert reading.task_name(one.settings()) == reading.task_name(other.settings())


def test_python_takes_a_dict():
    finished = rd.train("sized:Sized-v0", alg="sac", env_kwargs={"length": 4}, eval_env_kwargs={"length": 6},
                        **dict(flag.removeprefix("--").split("=") for flag in SMALL))
    assert made() == ["4", "6"]
    assert {row["Steps"] for row in finished.metrics} == {6}


@pytest.mark.parametrize(("kwargs", "says"), [
    ({"env": lambda: None}, "expected an id"), ({"env_kwargs": {"a": object()}}, "expected an object of JSON"),
    ({"env_kwargs": [1]}, "expected an object of JSON"), ({"env_kwargs": {"a": float("nan")}}, "expected an object"),
])
def test_python_refuses_what_cannot_be_kept(kwargs, says):
    import sized
    given = {"env": "sized:Sized-v0", "env_kwargs": {"length": 4}} | kwargs
    if callable(given["env"]):
        given["env"] = sized.Sized
    with pytest.raises(ConfigError, match=f"^env_kwargs: got .*{says}"):
        rd.train(alg="sac", **given)


def test_another_environment_of_evaluation_has_its_own(monkeypatch):
    settings = dict(flag.removeprefix("--").split("=") for flag in SMALL)
    rd.train("sized:Sized-v0", eval_env="Clock10-v0", alg="sac", env_kwargs={"length": 4}, **settings)
    assert made() == ["4"]
    rd.train("sized:Sized-v0", eval_env="Clock10-v0", alg="sac", eval_env_kwargs={"length": 4}, **settings)
    rd.train("sized:Sized-v0", eval_env="sized:Sized-v0", alg="sac", env_kwargs={"length": 4}, **settings)
    assert made() == ["10", "4", "4"]


@pytest.mark.parametrize("text", ["{", "[]", "3", "", '{"a": 1, "a": 2}', '{"a": NaN}', "{'a': 1}", "null" * 3])
def test_what_is_no_object_is_refused(text, capsys):
    assert refusal([*SAC, f"--env_kwargs={text}"], capsys) == (
        f"env_kwargs: got {text!r}, expected an object of JSON, such as {{\"size\": 5}}")


def test_a_name_that_the_environment_does_not_take_is_one_line(capsys):
    assert refusal([*SAC, '--env_kwargs={"size": 4}'], capsys).startswith(
        "env_kwargs: got {\"size\": 4}, but 'sized:Sized-v0' does not take all of it: ")


def test_what_a_setting_chooses_is_refused(capsys):
    assert refusal([*SAC, '--env_kwargs={"max_episode_steps": 4}'], capsys) == (
        "env_kwargs: got max_episode_steps, expected --test_timesteps")


def test_they_win_over_the_arguments_of_an_alias():
    config = Config(env="Ant-v2", alg="sac", env_kwargs={"use_contact_forces": False, "reset_noise_scale": 0.0})
    assert env_kwargs(config) == {"use_contact_forces": False, "reset_noise_scale": 0.0}
    assert make_env(config).observation_space.shape == (27,)


def test_files_and_suites_take_them():
    Path("settings.json").write_text(json.dumps({"env": {"env": "Sized-v0", "env_kwargs": {"length": 4}}}))
    assert read_json("settings.json")["env_kwargs"] == {"length": 4}
    suite = {"env": ["Sized-v0"], "common": {"env_kwargs": {"length": 4}, "hidden_sizes": [8, 8]},
             "runs": {"a": {"alg": "sac"}, "b": {"alg": "sac", "env_kwargs": {"length": 5, "name": "it's"}}}}
    Path("suite.json").write_text(json.dumps(suite))
    trials = read_suite(Path("suite.json"), "0", ["sized"])
    configs = [parse_args(trial.flags) for trial in trials]
    assert [config.env_kwargs for config in configs] == [{"length": 4}, {"length": 5, "name": "it's"}]
    assert configs[0].hidden_sizes == (8, 8)


# Tasks in figures -----------------------------------------------------------------------------------------------------

def test_runs_with_other_arguments_are_other_tasks(capsys):
    run(*SAC, "--tag=a")
    run(*SAC, '--env_kwargs={"length": 4}', "--tag=b")
    run(*SAC, '--env_kwargs={"length": 4}', '--eval_env_kwargs={"length": 5}', "--tag=c")
    names = {curve.env for curve in reading.read_curves(["outputs"], print)}
    assert names == {"Sized-v0", "Sized-v0, length=4", "Sized-v0, length=4, evaluated with length=5"}
    assert plot.main(["outputs", "--resamples=20"]) == 0
    assert len(list(Path("plots").glob("curves-*.png"))) == 3


def test_one_environment_by_two_names_is_one_task():
    run(*SAC)
    run("--import=sized", "--alg=uniform", "--env=Sized-v0", *SMALL)
    assert {curve.env for curve in reading.read_curves(["outputs"], print)} == {"Sized-v0"}
    assert plot.main(["outputs", "--resamples=20"]) == 0
    assert len(list(Path("plots").glob("curves-*.png"))) == 1


def test_two_environments_of_one_id_are_two_tasks():
    curves = [Curve("SAC", name, "seed 0", None, {}) for name in
              ("sized:Sized-v0", "other:Sized-v0", "Sized-v0", "a:B-v0, x=1:2", "B-v0", "ALE/Pong-v5, mode=1")]
    assert [curve.env for curve in reading.one_name_a_task(curves)] == [
        "sized:Sized-v0", "other:Sized-v0", "Sized-v0", "B-v0, x=1:2", "B-v0", "ALE/Pong-v5, mode=1"]


def test_a_run_is_resumed_under_the_other_name():
    directory = run("--import=sized", "--alg=sac", "--env=Sized-v0", *SMALL).directory
    assert train.main([f"--resume={directory}", "--env=sized:Sized-v0", "--total_timesteps=160"]) == 0


def test_a_suite_takes_no_task_twice():
    Path("suite.json").write_text(json.dumps({"env": ["Sized-v0", "sized:Sized-v0"], "runs": {"a": {"alg": "sac"}}}))
    with pytest.raises(ConfigError, match="one task"):
        read_suite(Path("suite.json"), "0", ["sized"])
