"""The cases of return decompositions: losses, gradients and rewards of every method, in both precisions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from algorithm import replay

FOLDER = Path(__file__).resolve().parent.parent.parent / "reference" / "methods"
METHODS = ("rd", "rd_bags", "outcome", "vib_rd", "lrr", "gp_lrr", "rudder", "rbt", "ares", "diaster", "grd")
COMPARED = ("loss/", "grad_", "reward/", "pred/", "mask/")
# In float32, relative to the largest number of an array, of a gradient to its norm.
RELATIVE = dict.fromkeys(METHODS, 2e-5) | {"rbt": 2e-4, "gp_lrr": 2e-4}
# Softmax does not depend on what is added to all scores: this gradient is 0, and the figures hold what rounding left.
ROUNDING = "k/bias"


def arrays_of(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def compute(arrays: dict[str, np.ndarray], dtype: str = "float64") -> dict[str, np.ndarray]:
    np.savez("case.npz", **arrays)
    assert replay.main(["case.npz", "--out=out.npz", f"--dtype={dtype}"]) == 0
    with np.load("out.npz") as file:
        return dict(file)


def lost(wanted: dict[str, np.ndarray], found: dict[str, np.ndarray], tolerance: float) -> list[str]:
    """The arrays of a case that were not met."""
    names = [name for name in wanted if name.startswith(COMPARED) and not name.endswith(f"/{ROUNDING}")]
    assert len(names) > 8
    return [name for name in names if name not in found or not near(wanted, found[name], name, tolerance)]


def near(wanted: dict[str, np.ndarray], got: np.ndarray, name: str, tolerance: float) -> bool:
    want, norms = wanted[name], name.replace("/sample/", "/norms/")
    size = max(np.abs(want).max(), wanted[norms][1] if norms != name else 0)
    return got.shape == want.shape and bool(np.abs(got - want).max() <= tolerance * size + 1e-30)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_meets_its_figures_whatever_stands_in_the_padding(name):
    wanted = arrays_of(name)
    assert lost(wanted, compute(wanted), 1e-9) == []
    filled = dict(wanted)
    outside = np.arange(wanted["batch/mask"].shape[1]) >= wanted["batch/length"][:, None]
    for field in (field for field in wanted if field.startswith(("batch/obs", "batch/acts", "batch/feat", "noise/"))):
        if wanted[field].shape[:2] == outside.shape:
            filled[field] = np.where(outside.reshape(*outside.shape, *[1] * (wanted[field].ndim - 2)),
                                     np.float32(50 if "noise" in field else -3e38), wanted[field])
    assert lost(wanted, compute(filled), 1e-9) == []
    assert lost(wanted, compute(filled, "float32"), RELATIVE[name]) == []


def test_the_gradient_that_must_vanish_is_rounding():
    found, wanted = compute(arrays_of("ares")), arrays_of("ares")
    for one in (found, wanted):
        assert 0 < one[f"grad_total/norms/{ROUNDING}"][1] < 1e-14 < one["grad_total/norms/q/bias"][1]


@pytest.mark.parametrize(("name", "field", "value", "changed"), [
    ("rd", "seed", 12, "reward/step"), ("vib_rd", "beta", 0.01, "loss/total"),
    ("lrr", "sigma_floor", 1.5, "loss/joint"), ("gp_lrr", "kernel", "rq", "loss/total"),
    ("rudder", "aux", 0.4, "loss/total"), ("rudder", "scale", 5.0, "loss/main"),
    ("rudder", "b_ig_offset", -2.0, "pred/g"), ("diaster", "scale", 5.0, "loss/cut_20"),
    ("diaster", "max_logvar", 0.4, "reward/target"), ("rbt", "window", 5, "reward/last_of_window"),
    ("grd", "temperature", 0.7, "grad_R_loss/norms/causal/s_r"), ("outcome", "bias", 0.5, "loss/bce"),
])
def test_the_settings_are_read_from_the_case(name, field, value, changed):
    wanted = arrays_of(name)
    meta = json.loads(str(wanted["meta"])) | {field: value}
    if field == "kernel":
        meta["hyper"]["log_alpha"] = 0.3
    assert changed in lost(wanted, compute(wanted | {"meta": json.dumps(meta)}), 1e-6)


def alone(arrays: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """The case of one of its episodes, without padding."""
    count, steps, length = *arrays["batch/mask"].shape, int(arrays["batch/length"][n])
    found = {"meta": arrays["meta"]}
    for name, value in arrays.items():
        if name.startswith(("batch/", "noise/", "init/", "transitions/")) and "bag" not in name:
            whole, each = value.shape[:2] == (count, steps), value.shape[0] == count and name.startswith("batch/")
            found[name] = value[n:n + 1, :length] if whole else value[n:n + 1] if each else value
    if "batch/bags" in arrays:
        bags, labels = arrays["batch/bags"], arrays["batch/bag_return"]
        mine = bags[:, 0] == n
        found |= {"batch/bags": bags[mine] * [0, 1, 1], "batch/bag_return": labels[mine]}
    return found | ({"batch/step_rows": np.zeros(3, np.int64)} if "batch/step_rows" in arrays else {})


@pytest.mark.parametrize("name", METHODS)
def test_the_shortest_episode_alone_is_paid_as_among_others(name):
    """It is one of a single step, but for rbt's."""
    wanted = arrays_of(name)
    n = int(wanted["batch/length"].argmin())
    found, length = compute(alone(wanted, n)), int(wanted["batch/length"][n])
    rewards = [one for one in wanted if one.startswith("reward/") and wanted[one].ndim == 2]
    assert rewards
    for one in rewards:
        size = np.abs(wanted[one]).max()
        np.testing.assert_allclose(found[one][0], wanted[one][n, :length], rtol=0, atol=1e-9 * size)
    assert all(np.isfinite(value).all() for value in found.values())


@pytest.mark.parametrize(("change", "complaint"), [
    ({"method": "magic"}, "meta.method: got 'magic', expected one of rd, rd_bags, outcome"),
    ({"shapes": {"reward/dense1/kernel": [13, 8], "reward/dense1/bias": [8], "reward/dense2/kernel": [8, 1],
                 "reward/dense2/bias": [1], "other": [2]}}, "meta.shapes: got other, expected one of reward/dense1"),
    ({"shapes": {"reward/dense1/kernel": [12, 8], "reward/dense1/bias": [8], "reward/dense2/kernel": [8, 1],
                 "reward/dense2/bias": [1]}}, "reward/dense1/kernel: got (12, 8), expected (13, 8)"),
])
def test_a_case_that_cannot_be_replayed_is_one_line(change, complaint, capsys):
    wanted = arrays_of("rd")
    np.savez("case.npz", **wanted | {"meta": json.dumps(json.loads(str(wanted["meta"])) | change)})
    assert replay.main(["case.npz", "--out=out.npz"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
