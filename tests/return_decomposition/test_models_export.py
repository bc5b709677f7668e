"""Exported rewards and policies: what they compute, and that they load where this package is not."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import SMALL, SMALL_ROLLOUTS, SMALL_RRD
from runs import run as train_run
from safetensors.torch import load_file

import return_decomposition as rd
from return_decomposition.cards import SCRIPTS
from return_decomposition.exporting import main

SHORT = ["--total_timesteps=80", "--env=Pendulum-v1", "--curriculum=none"]
RUNS = {
    "rrd": [*SMALL_RRD, "--basis_alg=sac", "--obs_normalization=true"],
    "scaled": [*SMALL_RRD, "--basis_alg=td3", "--return_scale=0.03"],
    "cart": [*SMALL_RRD, "--basis_alg=dqn", "--reward_activation=tanh", "--env=CartPole-v1"],
    "td3": [*SMALL, "--alg=td3"], "ddpg": [*SMALL, "--alg=ddpg"], "ppo": [*SMALL_ROLLOUTS, "--alg=ppo"],
    "lrr": [*SMALL, "--alg=lrr"], "rudder": [*SMALL, "--alg=rudder", "--fit_updates=2", "--cell_size=4"],
    "recurrent": [*SMALL_ROLLOUTS, "--alg=ppo", "--policy=recurrent", "--lstm_size=4"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The directory of a run by its name in RUNS, made when it is asked for."""
    place, made = tmp_path_factory.mktemp("runs"), {}

    def find(name: str) -> Path:
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(place)
                flags = [flag for flag in SHORT if flag.partition("=")[0] not in {
                    one.partition("=")[0] for one in RUNS[name] if one.startswith("--env=")}]
                given = [flag for flag in RUNS[name] if "total_timesteps" not in flag]
                made[name] = (place / train_run(*given, *flags, f"--tag={name}").directory).resolve()
        return made[name]
    return find


def export(run: Path, what: str, form: str, out: Path) -> Path:
    assert main([str(run), f"--what={what}", f"--format={form}", f"--out={out}"]) == 0
    return out


def load(folder: Path):
    """The function `model` of an exported folder's own script."""
    names = {"__file__": str(folder / "load.py"), "__name__": "load"}
    exec(compile((folder / "load.py").read_text(), "load.py", "exec"), names)
    return names["model"]


def of_package(run: Path, what: str, inputs: list[torch.Tensor]) -> np.ndarray:
    """What the package itself computes."""
    if what == "policy":
        return np.asarray(rd.load(run).step(inputs[0].numpy()))
    return rd.load_reward(run)(*(value.numpy() for value in inputs))


def inputs_of(card: dict, rows: int) -> list[torch.Tensor]:
    """Other inputs than the example's, of so many rows, some beyond what the normaliser clips to."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 2, (rows,), generator=generator) if one["dtype"] == "int64" else
            (10 if name == "obs" else 1) * torch.randn(rows, *one["shape"][1:], generator=generator).clamp(-1, 1)
            for name, one in card["inputs"].items()]


CASES = [("rrd", "reward", "safetensors"), ("rrd", "policy", "safetensors"), ("cart", "reward", "safetensors"),
         ("cart", "policy", "safetensors"), ("td3", "policy", "safetensors"), ("ppo", "policy", "safetensors"),
         ("ppo", "policy", "exported"), ("scaled", "reward", "safetensors")]
MORE = [("ddpg", "policy", "safetensors"), ("rrd", "reward", "exported"), ("cart", "reward", "exported"),
        ("cart", "policy", "exported"), ("lrr", "reward", "exported"), ("rrd", "policy", "exported"),
        ("rrd", "reward", "onnx"), ("cart", "reward", "onnx"), ("cart", "policy", "onnx"), ("ppo", "policy", "onnx"),
        ("lrr", "reward", "onnx"), ("scaled", "reward", "exported"), ("scaled", "reward", "onnx")]


@pytest.mark.parametrize(("name", "what", "form"), [
    *CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)])
def test_an_exported_model_computes_what_the_package_does(name, what, form, runs, tmp_path):
    folder = export(runs(name), what, form, tmp_path / "out")
    card = json.loads((folder / "card.json").read_text())
    model = load(folder)
    for rows in (1, 5):
        inputs = inputs_of(card, rows)
        expected, found = of_package(runs(name), what, inputs), model(*inputs).numpy()
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(np.unique(expected)) > 1 or card["output"]["dtype"] == "int64"


def test_the_normaliser_is_inside(runs, tmp_path):
    folder = export(runs("rrd"), "reward", "safetensors", tmp_path / "out")
    weights, agent = load_file(folder / "model.safetensors"), rd.load(runs("rrd"))
    assert torch.equal(weights["mean"], agent.normalizer.mean)
    assert not torch.equal(weights["std"], torch.ones(3))


def test_the_folder_says_what_it_holds(runs, tmp_path):
    pytest.importorskip("matplotlib")
    folder = export(runs("rrd"), "reward", "safetensors", tmp_path / "out")
    card = json.loads((folder / "card.json").read_text())
    files = {path.name for path in folder.iterdir()}
    assert files == {"model.safetensors", "load.py", "card.json", "README.md", "curve.csv", "curve.png"}
    assert card["sha256"] == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
                              for name in files - {"card.json"}}
    assert (card["algorithm"], card["basis"], card["environment"]) == ("rrd", "sac", "Pendulum-v1")
    assert card["inputs"]["acts"] == {"shape": ["N", 1], "dtype": "float32"}
    assert card["settings"]["rrd_sample_size"] == 4
    assert set(card["versions"]) == {"return_decomposition", "python", "numpy", "torch", "safetensors"}
    page = (folder / "README.md").read_text()
    assert page.startswith("---\nlicense: mit\n")
    assert "# Learned reward of rrd over sac on Pendulum-v1" in page
    assert "`acts` (N, 1) float32" in page
    assert "![Return against environment steps](curve.png)" in page
    assert (folder / "curve.csv").read_text().splitlines()[0] == "steps,return"
    assert str(tmp_path) not in "".join((folder / name).read_text() for name in ("card.json", "README.md", "load.py"))


def test_scripts_are_short():
    for script in SCRIPTS.values():
        body = script.partition("if __name__")[0].partition("CARD =")[2]
        assert len([line for line in body.splitlines() if line.strip()]) <= 18


@pytest.mark.parametrize(("name", "flags", "message"), [
    ("rudder", ["--format=exported"], "what: got 'reward' of rudder, which pays a step by its whole episode; expected"),
    ("td3", ["--format=exported"], "what: got 'reward' of td3, which learns none; expected a decomposition"),
    ("lrr", ["--format=safetensors"], "format: got 'safetensors' for StepNet, which is not of dense layers alone"),
    ("recurrent", ["--what=policy", "--format=exported"], "what: got 'policy' of ppo, which remembers, expected one"),
    ("td3", ["--what=critic", "--format=onnx"], "what: got 'critic', expected reward or policy"),
    ("td3", ["--what=policy", "--format=arena"], "what: not read with --format=arena"),
    ("td3", ["--format=onnxx"], "format: got 'onnxx', expected arena, marinenav, safetensors, exported or onnx"),
])
def test_what_cannot_be_exported_is_refused(name, flags, message, runs, capsys):
    assert main([str(runs(name)), *flags]) == 2
    assert message in capsys.readouterr().err


def test_without_onnx_the_extra_is_named(runs, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main([str(runs("rrd")), "--format=onnx", f"--out={tmp_path}"]) == 2
    assert "onnx is not installed; pip install -e '.[onnx]' installs it" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("form", ["safetensors", "exported", "onnx"])
def test_it_loads_in_another_environment_without_this_package(form, runs, tmp_path):
    folder = export(runs("rrd"), "reward", form, tmp_path / "out")
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    places = {Path(sys.modules[name].__file__).parent.parent for name in ("torch", "numpy")}
    places |= {Path(rd.__file__).parent.parent / "none"} | {Path(one) for one in sys.path if one.endswith("-packages")}
    (site / "others.pth").write_text("\n".join(map(str, places)))       # a .pth in one of them is not followed
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    check = "import importlib.util as u; assert not any(map(u.find_spec, ('return_decomposition', 'algorithm')))"
    subprocess.run([python, "-I", "-c", check], check=True, env=env, cwd=tmp_path)
    done = subprocess.run([python, "-I", folder / "load.py"], check=True, env=env, cwd=tmp_path, capture_output=True,
                          text=True)
    label, _, difference = done.stdout.partition(": ")
    assert label == "largest difference"
    assert float(difference) < 1e-5
