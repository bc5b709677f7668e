"""Models in the files of the published MarineNav program: read, written, trained on, evaluated, refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from boats import QUICK, write

import evaluate
import train
from algorithm import create_agent
from algorithm.marinenav_files import FILES, read_published, write_published
from learner.loading import load_agent, load_weights
from return_decomposition.exporting import main as export
from utils.errors import CheckpointError, ConfigError
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

FOLDER = Path(__file__).parents[1] / "reference" / "marinenav_checkpoints"
ALGS = {"ac_iqn": "ac_iqn", "ddpg": "marinenav_ddpg", "sac": "marinenav_sac", "iqn": "iqn", "dqn": "marinenav_dqn",
        "rainbow": "rainbow"}


@pytest.fixture(scope="module")
def forward():
    with np.load(FOLDER / "forward.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files if name != "meta"}


@torch.no_grad()
def outputs(agent, name: str, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `forward.npz` holds, by our agent."""
    obs = torch.cat([given["self"], given["objects"].flatten(1), given["mask"].float()], 1)
    acts, main = given["action"], agent.nets["main"]
    if name in ("iqn", "dqn"):
        return {"q": main["value"](obs, given["taus32"]) if name == "iqn" else main["value"](obs)}
    if name == "rainbow":
        return {"probs": main["value"](obs).softmax(-1)}
    if name == "sac":
        return dict(zip(("mean", "log_std"), main["policy"](obs), strict=True)) | {
            critic: main[critic](obs, acts) for critic in ("critic_1", "critic_2")}
    more = (given["taus8"],) if name == "ac_iqn" else ()
    return {"action": main["policy"](obs), "critic": main["critic"](obs, acts, *more)}


@pytest.mark.parametrize("name", ALGS)
def test_a_published_directory_computes_what_it_computed(name, forward):
    agent = load_agent(FOLDER / name)
    assert agent.config.alg == ALGS[name]
    found = outputs(agent, name, forward)
    assert {f"{name}/{key}" for key in found} == {key for key in forward if key.startswith(f"{name}/")}
    for key, value in found.items():                    # of cos(64 pi tau) a processor rounds the argument by 1e-5
        bound = 1e-4 if "iqn" in name else 1e-6
        torch.testing.assert_close(value, forward[f"{name}/{key}"], rtol=1e-5, atol=bound)
    for net, target in agent.target_pairs() if hasattr(agent, "critics") else [(agent.value, agent.value_target)]:
        for ours, theirs in zip(net.parameters(), target.parameters(), strict=True):
            assert torch.equal(ours, theirs)            # in the original a loaded model's target stays random


@pytest.mark.parametrize("name", ALGS)
def test_ours_are_written_in_the_same_form(name, tmp_path):
    written = write_published(tmp_path, load_agent(FOLDER / name))
    assert {path.name for path in written} == {path.name for path in (FOLDER / name).iterdir()}
    for path in written:
        theirs = FOLDER / name / path.name
        if path.suffix == ".json":
            ours, given = json.loads(path.read_text()), json.loads(theirs.read_text())
            assert list(ours) == list(given)
            assert {key: value for key, value in ours.items() if key != "seed"} == {
                key: value for key, value in given.items() if key != "seed"}
            continue
        ours, given = (torch.load(one, weights_only=True) for one in (path, theirs))        # noqa: TID251
        assert ours.keys() == given.keys()
        for key, tensor in given.items():
            assert torch.equal(ours[key], tensor) or key.endswith("_epsilon"), key
            assert ours[key].shape == tensor.shape
        for key in (key for key in ours if key.endswith("weight_epsilon")):         # noise of one draw for each end
            assert int(torch.linalg.matrix_rank(ours[key])) == 1


def test_a_loaded_model_learns_on(tmp_path):
    """Weights and targets are the loaded ones, and the optimiser steps them; in the original it steps others."""
    sizes = dict(object_sizes="8,4", hidden_sizes="16,16", encoder="objects", device="cpu", batch_size=4)
    agent = create_agent(with_sizes(resolve({"alg": "ac_iqn", **sizes}), 37, 2))
    load_weights(agent, str(FOLDER / "ac_iqn"))
    before = {name: tensor.clone() for name, tensor in agent.nets.state_dict().items()}
    for name, tensor in read_published(FOLDER / "ac_iqn").nets.items():
        assert torch.equal(before[name], tensor)
    draw = torch.Generator().manual_seed(0)
    batch = {"obs": torch.randn(4, 37, generator=draw), "obs_next": torch.randn(4, 37, generator=draw),
             "acts": torch.rand(4, 2, generator=draw), "rews": torch.ones(4, 1), "done": torch.zeros(4, 1)}
    agent.train(batch)
    for name, tensor in agent.nets.state_dict().items():
        if name.endswith("hidden_layer.weight"):
            assert torch.equal(tensor, before[name]) == name.startswith("target."), name


def test_a_run_is_exported_and_its_export_evaluated_and_trained_on(capsys):
    content = write("c.json", total_timesteps=40, agent_type="Rainbow")
    assert train.main(["--config", content, *QUICK]) == 0
    run = next(Path("logs").glob("training_*/seed_0"))
    assert export([str(run), "--format=marinenav", "--out=saved", "--evaluations"]) == 0
    with np.load("saved/evaluations.npz", allow_pickle=False) as table:
        assert {"observations", "actions", "trajectories", "relations"} < set(table.files)      # which are pickled
        assert table["rewards"].shape == (1, 3)
    assert export([str(run), "--format=marinenav", f"--out={run}", "--evaluations"]) == 2
    assert export([str(run), "--format=arena", "--evaluations"]) == 2
    ours, saved = load_agent(run, "last"), load_agent("saved")
    for one, other in zip(ours.value.parameters(), saved.value.parameters(), strict=True):
        assert torch.equal(one, other)
    assert train.main(["--config", content, *QUICK, "--load_model=saved", "--q_lr=1e-30", "--run_dir=again"]) == 0
    for one, other in zip(load_agent("again", "last").value.parameters(), ours.value.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-20)
    assert json.loads(Path("again/trial_config.json").read_text())["load_model"] == "saved"
    capsys.readouterr()
    flags = ["--episodes=2", "--test_timesteps=5", '--env_kwargs={"num_robots": 2}', "--json=e.json"]
    assert evaluate.main(["saved", *flags]) == 0
    assert "saved: 2 greedy episodes of MarineNav-v0, seed 0" in capsys.readouterr().out
    assert json.loads(Path("e.json").read_text())["settings"]["env_kwargs"] == {"num_robots": 2, "discrete": True}


def test_sac_is_evaluated_by_samples_or_by_its_mean(capsys):
    flags = ["--episodes=2", "--test_timesteps=5", '--env_kwargs={"num_robots": 2}']
    returns = {}
    for kind in ("sample", "mean"):
        for attempt in "ab":
            assert evaluate.main([str(FOLDER / "sac"), *flags, f"--greedy={kind}", f"--json={kind}{attempt}.json"]) == 0
        one, two = (json.loads(Path(f"{kind}{attempt}.json").read_text())["returns"] for attempt in "ab")
        assert one == two
        returns[kind] = one
    assert returns["sample"] != returns["mean"]
    out = capsys.readouterr().out
    assert "2 sampled episodes" in out
    assert "2 greedy episodes" in out


class Dangerous:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def spoilt(name: str, file: str, content) -> Path:
    """A copy of a directory with one file replaced; None removes it."""
    shutil.copytree(FOLDER / name, name, dirs_exist_ok=True)
    path = Path(name, file)
    path.unlink()
    if isinstance(content, dict):
        given = json.loads((FOLDER / name / file).read_text()) if file.endswith(".json") else {}
        path.write_text(json.dumps(given | content)) if given else torch.save(content, path)
    elif content is not None:
        path.write_bytes(content)
    return Path(name)


@pytest.mark.parametrize(("name", "file", "content", "message"), [
    ("iqn", "network_params.pth", b"damaged", "got no file of weights alone"),
    ("iqn", "network_params.pth", {"output_layer.weight": Dangerous()}, "nothing was run"),
    ("iqn", "network_params.pth", {"output_layer.weight": 3}, "output_layer.weight: got int, expected a tensor"),
    ("iqn", "constructor_params.json", None, "expected the constructor arguments beside the weights"),
    ("iqn", "constructor_params.json", {"hidden_dimension": 17}, r"hidden_layer.weight: got shape \(16, 28\), exp"),
    ("iqn", "constructor_params.json", {"hidden_dimension": 0}, "hidden_dimension: got 0, expected an integer"),
    ("iqn", "constructor_params.json", {"action_size": None}, "got None actions, expected action_size"),
    ("sac", "critic_2_params.pth", None, "critic_2_params.pth: no such file"),
    ("ddpg", "critic_constructor_params.json", {"hidden_dimension": 8}, "hidden_dimension: got 8, expected 16"),
    ("ddpg", "actor_constructor_params.json", {"value_ranges_of_action": [[-2, 2]] * 2}, r"expected \[-1, 1\]"),
], ids=lambda value: value if isinstance(value, str) and "." not in value else None)
def test_wrong_files_are_refused(name, file, content, message):
    with pytest.raises(CheckpointError, match=message):
        load_agent(spoilt(name, file, content))
    assert not Path("ran").exists()


def test_other_agents_cannot_be_written(tmp_path):
    for settings, message in (({"alg": "sac"}, "got alg 'sac', expected ac_iqn"),
                              ({"alg": "ac_iqn"}, "got encoder 'plain', expected objects"),
                              ({"alg": "iqn", "encoder": "objects", "hidden_sizes": "9,8"}, r"hidden_sizes \(9, 8")):
        agent = create_agent(with_sizes(resolve({"device": "cpu", **settings}), 37, 2))
        with pytest.raises(ConfigError, match=message):
            write_published(tmp_path, agent)
    assert set(FILES) == set(ALGS.values())
