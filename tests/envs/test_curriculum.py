"""Curricula: when a stage ends, what is saved, and files that describe them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tasks import Walk

from envs.curriculum import Curriculum, Schedule, Stage
from envs.curriculum_forms import of_form, open_curriculum
from envs.point_mass import PointMassRL
from utils.errors import ConfigError

TWO = [Stage({"far": 1.0}, {"success": 0.5}, 3), Stage({"far": 2.0})]


def stages(curriculum: Curriculum, **columns) -> list[int]:
    """The stage after each episode."""
    found = []
    for i in range(len(next(iter(columns.values())))):
        curriculum.update({name: values[i:i + 1] for name, values in columns.items()})
        found.append(curriculum.stage)
    return found


def test_a_stage_ends_when_there_are_enough_episodes_and_the_mean_is_reached():
    assert stages(Curriculum(TWO), success=[1, 1, 1]) == [0, 0, 1]
    assert stages(Curriculum(TWO), success=[1, 0, 0, 1, 0, 1]) == [0, 0, 0, 1, 1, 1]
    assert stages(Curriculum(TWO), success=[0, 0, 0, 1, 1, 1]) == [0, 0, 0, 0, 0, 1]
    assert stages(Curriculum(TWO, window=2), success=[0, 0, 0, 1, 1, 1]) == [0, 0, 0, 1, 1, 1]


def test_update_returns_the_settings_of_a_stage_that_begins():
    curriculum = Curriculum(TWO)
    assert curriculum.settings() == {"far": 1.0}
    assert curriculum.update({"success": [1, 1]}) is None
    assert curriculum.update({"success": torch.ones(2)}) == {"far": 2.0}
    assert curriculum.update({"success": np.ones(200)}) is None
    assert curriculum.last_settings() == curriculum.settings() == {"far": 2.0}


@pytest.mark.parametrize(("bounds", "values", "expected"), [
    ((None, 5), [6, 5, 4], [0, 0, 1]), ((4, 6), [3, 7, 9], [0, 1, 1]), ((4, 6), [3, 3, 3], [0, 0, 0]),
    (5, [5], [1]), ((None, 5), [math.nan, 9, 1], [0, 0, 1]), (0, [math.nan, math.nan, 0], [0, 0, 1])])
def test_bounds_of_a_mean(bounds, values, expected):
    """An episode without a value, NaN, is left out of the mean; with none at all there is no mean."""
    assert stages(Curriculum([Stage({}, {"length": bounds}), Stage({})]), length=values) == expected


def test_every_metric_must_be_within_its_bounds():
    both = [Stage({}, {"success": 0.5, "length": (None, 5)}), Stage({})]
    assert stages(Curriculum(both), success=[1, 1, 1], length=[20, 1, -9]) == [0, 0, 1]
    assert stages(Curriculum(both), success=[1, 1]) == [0, 0]


@pytest.mark.parametrize(("fresh", "expected"), [(True, [0, 1, 1, 1, 2]), (False, [0, 1, 1, 2, 2])])
def test_a_stage_begins_without_episodes_or_with_those_before(fresh, expected):
    """With those before, also the number of episodes is that of all stages."""
    three = [Stage({}, {"success": 0.5}, 2), Stage({}, {"success": 0.6}, 3 if fresh else 4), Stage({})]
    assert stages(Curriculum(three, fresh=fresh), success=[1, 1, 0, 1, 1]) == expected


def test_one_stage_at_most_ends_at_an_update():
    curriculum = Curriculum([Stage({}), Stage({}), Stage({})], fresh=False)
    assert stages(curriculum, success=[1, 1, 1, 1]) == [1, 2, 2, 2]


def test_a_saved_curriculum_resumes_in_the_middle_of_a_stage():
    values = [*np.random.default_rng(0).random(60), math.nan, 0.4]
    three = [Stage({}, {"x": 0.45, "length": 0}, 7), Stage({}, {"x": (0.3, 0.5)}, 20), Stage({})]
    for cut in (0, 3, 11, 40):
        whole, parts = (Curriculum(three, window=9, keep=15) for _ in range(2))
        expected = stages(whole, x=values, length=values)
        first = stages(parts, x=values[:cut], length=values[:cut]) if cut else []
        resumed = Curriculum(three, window=9, keep=15)
        resumed.restore(json.loads(json.dumps(parts.state())))
        assert first + stages(resumed, x=values[cut:], length=values[cut:]) == expected
        assert repr(resumed.state()) == repr(whole.state())
    assert expected[-1] == 2
    assert len(whole.values["x"]) == 15


def test_a_schedule_reads_steps():
    schedule = Schedule([0, 10, 20], [Stage({"far": 1.0}), Stage({"far": 2.0}), Stage({"far": 3.0})])
    assert schedule.settings() == {"far": 1.0}
    changes = [schedule.update({}, steps) for steps in (0, 9, 10, 15, 19, 45, 99)]
    assert changes == [None, None, {"far": 2.0}, None, None, {"far": 3.0}, None]
    other = Schedule([0, 10, 20], schedule.stages)
    other.restore(json.loads(json.dumps(schedule.state())))
    assert (other.stage, other.last_settings()) == (2, {"far": 3.0})


@pytest.mark.parametrize("timesteps", [[0, 5], [0, 5, 5], [1, 5, 6], [0, 6, 5]])
def test_wrong_timesteps_are_refused(timesteps):
    with pytest.raises(ConfigError, match=r"^curriculum: got timesteps .*, expected 3, one for each stage, ascending"):
        Schedule(timesteps, [Stage({})] * 3)


# As JSON --------------------------------------------------------------------------------------------------------------

FORM = {"window": 5, "stages": [{"name": "near", "settings": {"far": 1}, "until": {"success": 0.5}, "episodes": 2},
                                {"settings": {"limit": 9}, "until": {"length": [None, 4]}}, {}]}


def test_stages_set_what_any_of_them_sets():
    """By default as the run does, so that no stage leaks into the next."""
    curriculum = of_form(FORM, Walk(1, limit=8))
    assert [curriculum.of_stage(i) for i in range(3)] == [{"far": 1.0, "limit": 8}, {"far": 2.0, "limit": 9},
                                                          {"far": 2.0, "limit": 8}]
    assert (curriculum.window, curriculum.fresh, curriculum.stages[0].name) == (5, True, "near")


def test_a_schedule_by_steps_has_a_column_a_setting():
    schedule = of_form({"timesteps": [0, 100], "far": [1, 2], "limit": [5, 6]}, Walk(1))
    assert isinstance(schedule, Schedule)
    assert schedule.update({}, 100) == {"far": 2.0, "limit": 6}


@pytest.mark.parametrize(("form", "message"), [
    ([], "got list, expected an object"), ({"stage": []}, "got 'stage' in an object; did you mean stages"),
    ({"stages": {}}, "got {} as stages, expected a list"), ({"stages": []}, "got 0 stages"),
    ({"stages": [{"setings": {}}]}, "got 'setings' in a stage; did you mean settings"),
    ({"stages": [{}], "window": 0}, "window 0"), ({"stages": [{}], "window": "9"}, "got window '9'"),
    ({"stages": [{}], "fresh": 1}, "fresh 1"), ({"stages": [{"settings": 3}]}, "got a stage {'settings': 3}"),
    ({"stages": [{"episodes": -1}]}, "got a stage"),
    ({"stages": [{"until": {"success": "1"}}]}, "as the bound of success"),
    ({"stages": [{"until": {"success": [1]}}]}, "as the bound of success"),
    ({"stages": [{"until": {"success": None}}]}, "as the bound of success"),
    ({"stages": [{"until": {"sucess": 1}}]}, "got metric 'sucess'; did you mean success?"),
    ({"stages": [{"settings": {"limmit": 1}}]}, "Walk has no setting 'limmit'; did you mean limit?"),
    ({"stages": [{"settings": {"limit": 0}}]}, "got 0, expected 1 to 1000"),
    ({"timesteps": [0, 1], "far": [1]}, "as far, expected a list as long as timesteps"),
    ({"timesteps": 3}, "got 3 as timesteps"), ({"timesteps": [0, "1"], "far": [1, 2]}, "expected integers"),
    ({"timesteps": [0], "fra": [1]}, "did you mean far?")])
def test_a_wrong_form_is_refused(form, message):
    with pytest.raises(ConfigError) as error:
        of_form(form, Walk(1))
    assert message in str(error.value)


def test_the_tasks_own_none_or_a_file(monkeypatch):
    Path("mine.json").write_text(json.dumps(FORM))
    assert open_curriculum("default", Walk(1)) is None
    assert len(open_curriculum("mine.json", Walk(1)).stages) == 3
    monkeypatch.setattr(Walk, "curriculum", {"stages": [{}, {}]})
    assert len(open_curriculum("default", Walk(1)).stages) == 2
    assert open_curriculum("none", Walk(1)) is None
    assert open_curriculum("default", None) is None
    Path("other.json").write_text("{")
    for choice, message in (("other.json", "is no JSON"), ("nothing.json", "cannot be read: No such file")):
        with pytest.raises(ConfigError, match=f"^curriculum: '{choice}' {message}"):
            open_curriculum(choice, Walk(1))
    with pytest.raises(ConfigError, match=r"settings cannot change during a run; expected none, or a tensor"):
        open_curriculum("mine.json", None)


def test_point_mass_goes_through_its_stages():
    """A scripted policy that stops 0.1 before the goal: easy stages end, and the last one stays."""
    env = PointMassRL(32, seed=1)
    form = {"stages": [{"settings": {"success_threshold": size}, "until": {"success": 0.9, "length": [None, 95]},
                        "episodes": 40} for size in (0.4, 0.2, 0.05)] + [{}]}
    curriculum = of_form(form, env)
    env.configure(**curriculum.settings())
    obs, seen = env.reset(), [0]
    for _ in range(800):
        gap = obs[:, 4:6] - obs[:, :2]
        acts = 5 * gap * (1 - 0.1 / gap.norm(dim=1, keepdim=True).clamp(min=0.1)) - 0.5 * obs[:, 2:4]
        obs, _, terminated, truncated, info = env.step(acts)
        over = terminated | truncated
        ended = {name: value[over] for name, value in info["metrics"].items()} | {"length": env.steps[over]}
        if over.any() and (changes := curriculum.update(ended)):
            seen.append(curriculum.stage)
            env.configure(**changes)
            assert not torch.equal(env.of_row("success_threshold"), torch.full((32,), changes["success_threshold"]))
        obs = env.reset(over)
    assert seen == [0, 1, 2]
    assert env.settings["success_threshold"] == 0.05
    assert torch.equal(env.of_row("success_threshold"), torch.full((32,), 0.05))
