"""The replay command equals the published program's figures (tests/reference/marinenav), also in float32."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from envs.marinenav.replay import main

FOLDER = Path(__file__).parents[2] / "reference" / "marinenav"
EPISODES = sorted(path.stem for path in FOLDER.glob("env_*.npz"))
EXACT = {"collision", "reach_goal", "deactivated", "done", "info", "num_detected", "obs/mask", "in_zone",
         "objects_index"}
GIVEN = {"points", "cores", "core_clockwise", "core_gamma", "ego_velocity", "object", "objects", "actions", "meta"}
TIGHT = {"reward", "phi", "objects_phi"}


def replay(case, tmp_path, *flags):
    assert main([str(case), "--out", str(tmp_path / "out.npz"), *flags]) == 0
    with np.load(tmp_path / "out.npz") as file:
        return {name: file[name] for name in file.files}


def compare(case, got, double):
    with np.load(case) as file:
        names = [name for name in file.files if name not in GIVEN and not name.startswith(("world/", "noise/"))]
        want = {name: file[name] for name in names}
    assert set(got) == set(want)
    for name, value in want.items():
        assert got[name].shape == value.shape, name
        error = np.abs(got[name].astype(float) - value.astype(float))
        if name == "pose":
            error[..., 2] = np.minimum(error[..., 2], np.abs(2 * np.pi - error[..., 2]))
        limit = 0 if name in EXACT else 1e-10 if double else 5e-4 if name in TIGHT else 1e-3
        assert error.max(initial=0) <= limit, name


@pytest.mark.parametrize("name", [*EPISODES, "table_field", "table_colregs"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_case_is_replayed(name, dtype, tmp_path):
    case = FOLDER / f"{name}.npz"
    compare(case, replay(case, tmp_path, "--dtype", dtype), dtype == "float64")


def test_settings_are_read_from_the_case(tmp_path):
    """Half the range and a wider goal change what is detected and reached."""
    with np.load(FOLDER / "env_crowded.npz") as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(str(arrays["meta"]))
    before = replay(FOLDER / "env_crowded.npz", tmp_path)
    changed = {"detection_range": 8.0, "max_objects": 3, "goal_distance": 100.0, "substeps": 2}
    np.savez(tmp_path / "case.npz", **arrays | {"meta": json.dumps(meta | changed)})
    after = replay(tmp_path / "case.npz", tmp_path)
    assert after["obs/objects"].shape[2] == 3
    assert after["reach_goal"].all()
    assert not before["reach_goal"].any()
    assert (after["num_detected"][0] < before["num_detected"][0]).any()
    moved = [np.linalg.norm(one["pose"][1, :, :2] - one["pose"][0, :, :2], axis=-1).max() for one in (after, before)]
    assert 0 < moved[0] < moved[1]


def changed(**arrays):
    given = {name.replace("__", "/"): array for name, array in arrays.items()}
    with np.load(FOLDER / "env_time_limit.npz") as file:
        return {name: file[name] for name in file.files} | given


@pytest.mark.parametrize(("arrays", "says"), [
    ({"world__goal": np.zeros((3, 2))}, "'world/goal' is float64 of shape (3, 2), expected numbers of shape (2, 2)"),
    ({"world__goal": np.full((2, 2), np.nan)}, "'world/goal' has numbers that are not finite"),
    ({"actions": np.zeros((11, 2), int), "meta": '{"continuous": false, "noise": "loud"}'}, "noise 'loud'"),
    ({"actions": np.full((11, 2), 25), "meta": '{"continuous": false}'}, "expected indices from 0 to 24"),
    ({"meta": '{"noise": "recorded"}'}, "has no 'noise/obstacle'"),
    ({"meta": '{"substeps": 0}'}, "substeps"),
    ({"meta": "[1]"}, "expected a JSON object"),
])
def test_a_bad_case_is_one_line(arrays, says, tmp_path, capsys):
    np.savez(tmp_path / "case.npz", **changed(**arrays))
    assert main([str(tmp_path / "case.npz"), "--out", str(tmp_path / "out.npz")]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b'{"meta": 1}'])
def test_a_file_that_is_no_case_is_one_line(content, tmp_path, capsys):
    (tmp_path / "case.npz").write_bytes(content)
    assert main([str(tmp_path / "case.npz"), "--out", str(tmp_path / "out.npz")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
