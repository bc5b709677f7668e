"""Arena follows the reference cases, step by step from each state and freely from the first."""

import json
from pathlib import Path

import numpy as np
import pytest

from envs.arena.replay import main

CASES = Path(__file__).parents[2] / "reference"
GAMES = ("s1_quick_edge", "s1_time_limit", "s2_death", "s2_stage_change", "s2_win")
ANGLES = [4, 11, 14, 17, 21, 25]
CLOSE = {"forced": {"state": 5e-4, "obs": 2e-6}, "free": {"state": 5e-2, "obs": 5e-4}}


def replayed(name, tmp_path, *flags):
    assert main([str(CASES / f"arena_{name}.npz"), "--out", str(tmp_path / "out.npz"), *flags]) == 0
    return np.load(CASES / f"arena_{name}.npz"), np.load(tmp_path / "out.npz")


@pytest.mark.parametrize("mode", ["forced", "free"])
@pytest.mark.parametrize("name", GAMES)
def test_a_game_follows_its_case(name, mode, tmp_path):
    case, found = replayed(name, tmp_path, f"--mode={mode}")
    natural = json.loads(str(case["meta"]))["natural_start"] and mode == "free"
    names = [key for key in case.files if key.partition("/")[0] in
             ("state", "obs", "reward", "fixed", "component", "damage", "info", *["init"] * natural)]
    assert len(names) > 50
    for key in names:
        same(key, case, found[key.removeprefix("fixed/")], CLOSE[mode])


def same(key, case, ours, close):
    theirs = case[key]
    if key.startswith(("state/proj", "init/proj")):         # the rest of the places is empty
        axis = int(key.startswith("state"))
        assert not ours.take(range(theirs.shape[axis], ours.shape[axis]), axis=axis).any()
        ours = ours.take(range(theirs.shape[axis]), axis=axis)
    assert ours.shape == theirs.shape, key
    if theirs.dtype.kind in "bi":
        np.testing.assert_array_equal(ours, theirs, err_msg=key)
        return
    apart = np.abs(ours - theirs)
    if key.endswith("obs"):
        apart[..., ANGLES] = np.minimum(apart[..., ANGLES] % 1, 1 - apart[..., ANGLES] % 1)
        apart[case["near_tie"] if key == "obs" else []] = 0
    if key.endswith("player_rot"):
        apart = np.minimum(apart, 2 * np.pi - apart)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs), err_msg=key)
    kind = "obs" if key.endswith("obs") else "state"
    limit = 2e-5 if key.startswith(("reward", "component")) else close[kind]
    assert np.nan_to_num(apart).max() <= limit, key


def test_the_curriculum_advances_as_its_case(tmp_path):
    case, found = replayed("curriculum", tmp_path)
    assert len(set(case["stage_after"])) == 6
    for key in (key for key in case.files if key.startswith(("stage", "metrics"))):
        np.testing.assert_array_equal(found[key], case[key], err_msg=key)


def test_normalisation_follows_its_case(tmp_path):
    case, path, out = dict(np.load(CASES / "normalization.npz")), tmp_path / "case.npz", tmp_path / "out.npz"
    np.savez(path, **case | {"meta": json.dumps({"kind": "normalization"})})
    assert main([str(path), "--out", str(out)]) == 0
    found = np.load(out)
    names = [key for key in case if key.startswith("fixed/")]
    assert len(names) == 9
    for key in names:
        np.testing.assert_allclose(found[key], case[key], rtol=1e-5, atol=2e-5, err_msg=key)


@pytest.mark.parametrize(("change", "message"), [
    ({"meta": "{}"}, "case: got kind None, expected env or normalization or curriculum"),
    ({"stage": np.full(40, 6)}, "case: got stages [6], expected -1 to 5"),
    ({"draw/fire": np.zeros((40, 7))}, "case: 'draw/fire' is float64 of shape (40, 7), expected numbers of shape (40,"),
    ({"init/player_pos": None}, "case: has no 'init/player_pos', expected numbers of shape (2)"),
])
def test_a_file_that_is_no_case_is_one_line(change, message, tmp_path, capsys):
    arrays = dict(np.load(CASES / "arena_s1_quick_edge.npz")) | change
    np.savez(tmp_path / "case.npz", **{name: value for name, value in arrays.items() if value is not None})
    assert main([str(tmp_path / "case.npz"), "--out", str(tmp_path / "out.npz")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
