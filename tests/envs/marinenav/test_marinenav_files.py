"""The published `eval_configs.json` is read, and written so that only what holds noise differs."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from envs.marinenav.files import read_worlds, write_worlds
from envs.marinenav.settings import DEFAULTS, Settings
from utils.errors import ConfigError

FILE = Path(__file__).parents[2] / "reference" / "marinenav" / "eval_configs.json"


@pytest.fixture
def content():
    return json.loads(FILE.read_text())


def read(content, path):
    path.write_text(json.dumps(content))
    return read_worlds(path)


def test_the_published_worlds_are_read(content):
    layout, given = read_worlds(FILE)
    assert layout.robot_exists.tolist() == [[True, True, False], [True, True, True]]
    assert layout.start[1].tolist() == content[1]["robots"]["start"]
    assert layout.goal[0, :2].tolist() == content[0]["robots"]["goal"]
    assert layout.strength[0].tolist() == pytest.approx([9.42477796, -9.42477796])
    assert layout.strength[1].tolist() == [0, 0]
    assert layout.obstacle_exists.sum(1).tolist() == [1, 2]
    assert (given["num_robots"], given["num_cores"], given["num_obstacles"]) == (3, 2, 2)
    assert given["goal_reward"] == 10.0


def test_the_published_worlds_are_written_as_they_were(content, tmp_path):
    """First observations hold noise, ours are those without it."""
    layout, given = read_worlds(FILE)
    write_worlds(tmp_path / "w.json", layout, Settings(**DEFAULTS | given), as_published=True, seed=5)
    found = json.loads((tmp_path / "w.json").read_text())
    for ours, theirs in zip(found, content, strict=True):
        histories = [one["robots"].pop("observation_history") for one in (ours, theirs)]
        assert ours == theirs
        for one, other in zip(*histories, strict=True):
            assert one[0][0] == pytest.approx(other[0][0], abs=1e-9)
            assert len(one[0][1]) == len(other[0][1])


def test_what_a_file_says_of_rewards_and_robots_counts(content, tmp_path):
    """`num_robots` decides how many of the lists are read."""
    for one in content:
        one["env"] |= {"num_robots": 1, "goal_reward": 3, "timestep_penalty": -1.5}
        one["robots"]["perception"]["range"] = [12.0] * 3
    layout, given = read(content, tmp_path / "w.json")
    assert layout.start.shape == (2, 1, 2)
    assert (given["goal_reward"], given["timestep_penalty"], given["detection_range"]) == (3.0, -1.5, 12.0)


def edited(content, *path, value):
    content = copy.deepcopy(content)
    part = content[0]
    for key in path[:-1]:
        part = part[key]
    if value is None:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return content


@pytest.mark.parametrize(("path", "value", "says"), [
    (("env", "goal_reward"), 5, "world 2 has goal_reward 10.0, world 1 has 5"),
    (("env", "num_robots"), 4, "world 1: dt: got 2 values, expected one for each of 4 robots"),
    (("env", "num_robots"), "two", "num_robots: got 'two'"),
    (("env", "cores"), None, "world 1: missing 'cores'"),
    (("env", "cores", "positions"), [[1, 2]], "expected finite ones of shape [2, 2]"),
    (("robots", "m"), [400, 300], "m: got [400, 300], expected the same for all robots"),
    (("robots", "yRV"), [1, 1], "yRV: got 1, expected 0"),
    (("robots", "r"), [2, 2], "r: got 2, expected 2.79508"),
    (("robots", "perception", "angle"), [3.0, 3.0], "angle: got 3.0"),
    (("robots", "start"), [[1, float("nan")], [2, 3]], "finite"),
    (("robots",), [], "world 1"),
])
def test_a_file_that_does_not_fit_is_one_line(content, path, value, says, tmp_path):
    with pytest.raises(ConfigError) as error:
        read(edited(content, *path, value=value), tmp_path / "w.json")
    assert says in str(error.value)
    assert str(error.value).startswith("worlds: ")


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", "nonsense", '{"format": "marinenav-worlds-1"}',
                                     '{"format": "marinenav-worlds-1", "worlds": [{"robots": [{}]}]}'])
def test_a_file_of_another_form_is_refused(content, tmp_path):
    (tmp_path / "w.json").write_text(content)
    with pytest.raises(ConfigError, match=r"^worlds: "):
        read_worlds(tmp_path / "w.json")
    with pytest.raises(ConfigError, match=r"^worlds: cannot read"):
        read_worlds(tmp_path / "none.json")


def test_our_form_says_each_thing_once(tmp_path):
    layout, given = read_worlds(FILE)
    write_worlds(tmp_path / "w.json", layout, Settings(**DEFAULTS | given))
    content = json.loads((tmp_path / "w.json").read_text())
    assert [len(one["robots"]) for one in content["worlds"]] == [2, 3]
    assert [len(one["cores"]) for one in content["worlds"]] == [2, 0]
    again, settings = read_worlds(tmp_path / "w.json")
    assert all(torch.equal(one, two) for one, two in
               zip(layout.tensors().values(), again.tensors().values(), strict=True))
    assert {name: settings[name] for name in given} == given
