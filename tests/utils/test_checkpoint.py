"""save_model and load_model: everything is restored, and other files are refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from agents import IDS, PAIRS, make_agent, make_batch, parameters

from utils.checkpoint import CheckpointError


def trained(alg: str, basis: str | None = None, seed: int = 0, **settings):
    agent = make_agent(alg, basis, seed=seed, obs_normalization=True, **settings)
    for step in range(3):
        agent.normalizer_update(make_batch(step))
        agent.train(make_batch(step))
        agent.target_update()
    return agent


def assert_same(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize(("alg", "basis"), PAIRS, ids=IDS)
def test_a_loaded_agent_continues_as_the_saved_one(alg, basis):
    saved, loaded = trained(alg, basis), make_agent(alg, basis, seed=9, obs_normalization=True)
    saved.save_model("model")
    loaded.load_model("model")
    assert_same(parameters(saved), parameters(loaded))
    for agent in (saved, loaded):
        for step in range(3, 6):
            agent.train(make_batch(step))
            agent.target_update()
    assert_same(parameters(saved), parameters(loaded))


def test_a_checkpoint_holds_log_alpha_targets_normaliser_and_adams_moments():
    trained("rrd", "sac").save_model("model")
    names = safetensors.torch.load_file("model")
    for name in ("nets.main.alpha.log_alpha", "nets.target.q_value_1.q.weight", "nets.rrd.r.bias",
                 "nets.normalizer.normalizer_variables.mean", "opt.main.alpha.log_alpha.exp_avg_sq", "opt.reward.t",
                 "updates"):
        assert name in names
    assert float(names["nets.main.alpha.log_alpha"]) != 0


@pytest.fixture
def model() -> Path:
    """A saved model, small enough to damage in many places."""
    trained("sac").save_model("model")
    return Path("model")


def assert_refused(path, complaint: str) -> None:
    agent = trained("sac", seed=5)
    before = parameters(agent)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        agent.load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_same(before, parameters(agent))


@pytest.mark.parametrize("at", [0, 3, 8, 9, 200, 0.2, 0.5, 0.9, -1])
def test_a_flipped_byte_is_found(model, at):
    data = bytearray(model.read_bytes())
    data[int(at * len(data)) if isinstance(at, float) else at] ^= 0x41
    model.write_bytes(data)
    assert_refused(model, "model: ")


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 0.5, 0.999])
def test_a_cut_file_is_found(model, keep):
    data = model.read_bytes()
    model.write_bytes(data[:int(keep * len(data)) if isinstance(keep, float) else keep])
    assert_refused(model, "not a checkpoint")


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("content", [b"", b"hello", b"{}", b"\xff" * 64, pickle.dumps(Bomb())])
def test_a_foreign_file_is_refused_and_runs_nothing(content):
    Path("foreign").write_bytes(content)
    assert_refused("foreign", "not a checkpoint")
    assert not Path("exploded").exists()


def test_a_torch_save_file_is_refused_and_runs_nothing():
    torch.save({"bomb": Bomb()}, "foreign.pt")
    assert_refused("foreign.pt", "not a checkpoint")
    assert not Path("exploded").exists()


def test_a_missing_file_and_a_directory_are_refused():
    assert_refused("nowhere", "no such file")
    Path("folder").mkdir()
    assert_refused("folder", "not a checkpoint")


def test_another_programs_safetensors_is_refused():
    safetensors.torch.save_file({"weight": torch.zeros(3)}, "other.safetensors")
    assert_refused("other.safetensors", "format")


@pytest.mark.parametrize(("agent", "complaint"), [
    (lambda: trained("td3"), "alg: got 'td3', expected 'sac'"),
    (lambda: trained("rrd", "sac"), "alg: got 'rrd', expected 'sac'"),
    (lambda: trained("sac", alpha_lr=0), "missing"),
    (lambda: make_agent("sac", obs_normalization=False), "missing"),
])
def test_another_agents_checkpoint_is_refused(agent, complaint):
    agent().save_model("other")
    assert_refused("other", complaint)


def test_other_sizes_are_refused():
    agent, other = make_agent("sac"), make_agent("sac")
    other.obs_dims = (4,)
    other.save_model("other")
    with pytest.raises(CheckpointError, match=r"obs_dims: got '\(4,\)', expected '\(5,\)'"):
        agent.load_model("other")


def test_a_checkpoint_has_the_usual_permissions(model):
    Path("plain").touch()
    assert model.stat().st_mode == Path("plain").stat().st_mode


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        make_agent("sac").save_model("nowhere/model")


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(model, monkeypatch):
    old = model.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        trained("sac", seed=1).save_model(model)
    assert model.read_bytes() == old
    assert [path.name for path in Path().iterdir()] == ["model"]
