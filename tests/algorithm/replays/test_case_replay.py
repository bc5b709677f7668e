"""The command that computes reference cases again, on figures of other programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from algorithm import replay
from algorithm.replays.case import Refused

FOLDER = Path(__file__).resolve().parent.parent.parent / "reference" / "on_policy"
CASES = sorted(path.stem for path in FOLDER.glob("*.npz"))
# Beginnings of the names to be met, and the tolerance: absolute, and relative to the largest number of the array.
MET = ("correct/", "inside/", "beyond/", "advantages", "returns", "minibatch/", "grad_1/", "after_1/", "after_T/",
       "gae/", "forward/", "after_last/", "lr/", "step_returns", "mask")
ABSOLUTE, RELATIVE = 1e-5, 1e-5


def compute(name: str, *flags: str) -> dict[str, np.ndarray]:
    out = Path("out.npz")
    assert replay.main([str(FOLDER / f"{name}.npz"), f"--out={out}", *flags]) == 0
    with np.load(out) as file:
        return dict(file)


def differences(name: str, found: dict[str, np.ndarray]) -> list[str]:
    """The arrays of a case that were not met."""
    with np.load(FOLDER / f"{name}.npz") as file:
        wanted = {key: file[key] for key in file.files if key.startswith(MET)}
    assert wanted
    return [key for key, want in wanted.items() if key not in found or not near(found[key], want)]


def near(got: np.ndarray, want: np.ndarray) -> bool:
    got = got[:len(want)] if want.ndim == 1 and len(got) > len(want) == 64 else got        # samples are cut to 64
    return got.shape == want.shape and bool(
        np.all(np.abs(got - want) <= ABSOLUTE + RELATIVE * np.abs(want).max(initial=0)))


def test_there_are_cases():
    assert len(CASES) == 10


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_met(name):
    assert differences(name, compute(name)) == []


@pytest.mark.parametrize("name", ["trainer_gae", "trainer_ppo", "arena_sb3_ppo_lstm"])
def test_double_precision_meets_it_too(name):
    found = compute(name, "--dtype=float64")
    assert differences(name, found) == []
    if name == "trainer_gae":
        with np.load(FOLDER / f"{name}.npz") as file:
            np.testing.assert_allclose(found["correct64/advantages"], file["correct64/advantages"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "field", "value"), [
    ("arena_ppo_early_stop", "clip_range", 0.3), ("arena_ppo_early_stop", "target_kl", None),
    ("arena_ppo_early_stop", "clip_range_vf", None), ("arena_sb3_a2c", "gae_lambda", 0.5),
    ("arena_sb3_ppo_lstm", "vf_coef", 0.1),
])
def test_the_settings_are_read_from_the_case(name, field, value):
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = dict(file)
    meta = json.loads(str(arrays["meta"]))
    meta["hyperparameters"][field] = value
    np.savez("changed.npz", **arrays | {"meta": json.dumps(meta)})
    assert replay.main(["changed.npz", "--out=out.npz"]) == 0
    with np.load("out.npz") as file:
        assert differences(name, dict(file)) != []


# The agents of MarineNav --------------------------------------------------------------------------------------------

AGENTS = sorted((FOLDER.parent / "marinenav_agents").glob("*.npz"))


def agent_differences(wanted: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> list[str]:
    """The arrays of an agent's case that were not met."""
    tolerances = {"info/": 1e-3, "act/": 1e-3, "grad_1/norms": 1e-4, "after_1/norms": 1e-5, "after_5/norms": 1e-5}
    names = [name for name in wanted if name.startswith(tuple(tolerances)) and name not in ("act/taus", "act/noise")]
    assert len(names) > 20
    lost = []
    for name in names:
        got, want = found.get(name, np.nan), wanted[name]
        got, want = (got[-1], want[-1]) if "norms" in name else (got, want)             # the l2 norm
        tolerance = next(value for start, value in tolerances.items() if name.startswith(start))
        lost += [] if np.all(np.abs(got - want) <= tolerance * (1 + np.abs(want))) else [name]
    return lost


def test_there_are_agents():
    assert [path.stem for path in AGENTS] == ["ac_iqn", "ddpg", "dqn", "iqn", "rainbow", "sac_exact_log_prob"]


@pytest.mark.parametrize("path", AGENTS, ids=lambda path: path.stem)
def test_an_agent_is_met(path):
    assert replay.main([str(path), "--out=out.npz"]) == 0
    with np.load(path) as wanted, np.load("out.npz") as found:
        assert agent_differences(dict(wanted), dict(found)) == []
        if "act/q" in wanted:
            assert found["act/action"].tolist() == wanted["act/action"].tolist()


def test_a_memory_is_met():
    path = FOLDER.parent / "marinenav" / "rainbow_memory.npz"
    assert replay.main([str(path), "--out=out.npz"]) == 0
    with np.load(path) as wanted, np.load("out.npz") as found:
        whole = wanted["nstep/complete"]
        np.testing.assert_allclose(found["nstep/return"][whole], wanted["nstep/return"][whole], rtol=1e-5)
        for name in ("nstep/nonterminal", "nstep/last_index", "nstep/complete"):
            np.testing.assert_array_equal(found[name], wanted[name])
        assert (found["per/index"] != wanted["per/index"]).mean() < 0.02
        np.testing.assert_allclose(found["per/weight"], wanted["per/weight"], rtol=1e-4)


@pytest.mark.parametrize(("change", "name"), [
    ({"GAMMA": 0.9}, "info/critic_loss"), ({"grad_clip": 50.0}, "after_5/norms/actor/self_encoder.0.weight"),
    ({"LR": 2e-4}, "after_5/norms/critic/hidden_layer.weight"),
], ids=["gamma", "clip", "rate"])
def test_an_agents_settings_are_read_from_the_case(change, name):
    with np.load(AGENTS[0]) as file:
        arrays = dict(file)
    meta = json.loads(str(arrays["meta"]))
    meta["config"] |= change
    np.savez("changed.npz", **arrays | {"meta": json.dumps(meta)})
    assert replay.main(["changed.npz", "--out=out.npz"]) == 0
    with np.load("out.npz") as found:
        assert name in agent_differences(arrays, dict(found))


def test_an_agents_case_that_cannot_be_met_says_so(capsys):
    with np.load(AGENTS[-1]) as file:
        arrays = dict(file)
    meta = json.loads(str(arrays["meta"]))
    for name, config, kind in (("density.npz", {"log_prob": "original"}, "SAC"), ("name.npz", {}, "PPO")):
        changed = meta | {"config": meta["config"] | config, "agent_type": kind}
        np.savez(name, **arrays | {"meta": json.dumps(changed)})
    assert "got original, expected exact" in complaint(capsys, "density.npz", 3)
    assert "meta.agent_type: got 'PPO', expected one of AC-IQN" in complaint(capsys, "name.npz")
    assert replay.main([str(AGENTS[0]), "--out=out.npz", "--dtype=float64"]) == 2
    assert "dtype: got float64, expected float32" in capsys.readouterr().err


# Files that are no cases ------------------------------------------------------------------------------------------

def complaint(capsys, path: str, code: int = 2) -> str:
    assert replay.main([path, "--out=out.npz"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert not Path("out.npz").exists()
    return err


def test_a_file_that_is_no_case_is_one_line(capsys):
    Path("text.npz").write_text("no zip")
    np.savez("bare.npz", x=np.zeros(3))
    np.savez("odd.npz", meta=json.dumps({"kind": "weather"}))
    np.savez("listed.npz", meta=json.dumps([1]))
    np.savez("empty.npz", meta=json.dumps({"kind": "gae"}))
    assert "no case" in complaint(capsys, "text.npz")
    assert "missing.npz" in complaint(capsys, "missing.npz")
    assert "a file that names no kind" in complaint(capsys, "bare.npz")
    assert "kind 'weather'" in complaint(capsys, "odd.npz")
    assert "meta" in complaint(capsys, "listed.npz")
    assert "rewards" in complaint(capsys, "empty.npz")


def test_arrays_that_do_not_fit_are_one_line(capsys):
    with np.load(FOLDER / "trainer_ppo.npz") as file:
        arrays = dict(file)
    np.savez("cut.npz", **arrays | {"init/actor.0.weight": np.zeros((3, 3), np.float32)})
    assert "weights" in complaint(capsys, "cut.npz")
    np.savez("short.npz", **arrays | {"rollout/values": arrays["rollout/values"][:3]})
    assert "short.npz" in complaint(capsys, "short.npz")


def test_a_figure_that_is_refused_has_a_code_of_its_own(capsys, monkeypatch):
    def refuse(case):
        raise Refused("meta: this figure is wrong")
    monkeypatch.setattr(replay, "find_adapter", lambda case: refuse)
    line = complaint(capsys, str(FOLDER / "trainer_gae.npz"), 3)
    assert line == "python -m algorithm.replay: meta: this figure is wrong\n"
