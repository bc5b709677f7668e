"""Damaged and hostile files: each is refused with the typed error, and none runs anything, hangs, or takes memory."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
import torch
from agents import make_agent, parameters
from reference_cases import FOLDER

from algorithm.model_file import write_model
from utils import checkpoint
from utils.checkpoint import CheckpointError, read_checkpoint, read_identity, write_checkpoint
from utils.errors import ConfigError
from utils.settings.cli import parse_args
from utils.settings.json_files import read_json

ROOT = Path(__file__).resolve().parent.parent.parent
TF = FOLDER / "rrd_sac_tf1_checkpoint" / "model.ckpt"
CASE = FOLDER / "convert" / "convert_dqn"
STATISTICS = CASE.with_name("convert_dqn_vecnormalize.pkl")
SB3 = ("convert", "vecnormalize", "model_file")         # readers of models in the forms of Stable-Baselines3
NODES = ("folder", "pipe", "nowhere", "round", "to-pipe", "endless", "none")


def small_checkpoint(path: Path) -> bytes:
    """A checkpoint with a real agent's names and identity, cut to its weights and to three numbers a tensor."""
    agent = make_agent("rrd", "sac")
    state = {name: tensor.reshape(-1)[:3] for name, tensor in agent.state_dict().items()
             if name.startswith(("nets.main", "updates"))}
    write_checkpoint(path, state, agent.identity())
    return path.read_bytes()


def is_refused(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        read_checkpoint(path, {})
    except CheckpointError:
        return True
    return False


# Damage -------------------------------------------------------------------------------------------------------------

def test_every_flipped_byte_is_found(tmp_path):
    path, rng = tmp_path / "model", random.Random(0)
    data = small_checkpoint(path)
    missed = [at for at in range(len(data))
              if not is_refused(path, data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1:])]
    assert len(data) > 1500
    assert missed == []


def test_every_cut_and_everything_appended_is_found(tmp_path):
    path = tmp_path / "model"
    data = small_checkpoint(path)
    assert [keep for keep in range(0, len(data), 7) if not is_refused(path, data[:keep])] == []
    assert all(is_refused(path, data + more) for more in (b"\0", b" ", b"\n", data))


@pytest.mark.parametrize(("old", "new"), [(b"(5,)", b"(6,)"), (b'"rrd"', b'"sac"'), (b'"rrd"', b'"\\u0072rd"'),
                                          (b'{"__meta', b'{ "__meta')])
def test_the_checksum_covers_identity_and_spelling(tmp_path, old, new):
    path = tmp_path / "model"
    data = small_checkpoint(path)
    size = int.from_bytes(data[:8], "little")
    header, tensors = data[8:8 + size], data[8 + size:]
    changed = header.replace(old, new, 1)
    assert changed != header
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + tensors)
    with pytest.raises(CheckpointError, match="damaged, its checksum does not match"):
        read_identity(path)


def test_a_duplicate_name_is_refused_although_the_checksum_is_right(tmp_path):
    path = tmp_path / "model"
    data = small_checkpoint(path)
    size = int.from_bytes(data[:8], "little")
    header = data[8:8 + size].replace(b'"alg":"rrd"', b'"alg":"sac","alg":"rrd"')
    changed = len(header).to_bytes(8, "little") + header + data[8 + size:]
    at = changed.index(checkpoint.MARK) + len(checkpoint.MARK)
    path.write_bytes(changed[:at] + checkpoint._digest(changed).encode() + changed[at + 64:])
    with pytest.raises(CheckpointError, match="its header contains a name twice"):
        read_identity(path)


def test_damage_never_changes_the_agent(tmp_path):
    path, agent, rng = tmp_path / "model", make_agent("sac", seed=1), random.Random(0)
    make_agent("sac", seed=2).save_model(path)
    data, before = path.read_bytes(), parameters(agent)
    places = [rng.randrange(10_000) for _ in range(40)] + [rng.randrange(len(data)) for _ in range(40)]
    for at in places:
        path.write_bytes(data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1:])
        with pytest.raises(CheckpointError):
            agent.load_model(path)
    assert all(torch.equal(value, before[name]) for name, value in parameters(agent).items())


@pytest.mark.parametrize("value", [torch.tensor(float("nan")), torch.tensor(True), torch.tensor(1j),
                                   torch.tensor(1, dtype=torch.int32)], ids=str)
def test_another_type_with_a_right_checksum_does_not_change_the_agent(tmp_path, value):
    agent, other = make_agent("sac", seed=1), make_agent("sac", seed=2)
    before = parameters(agent)
    write_checkpoint(tmp_path / "model", other.state_dict() | {"updates": value}, other.identity())
    with pytest.raises(CheckpointError, match=r"updates: got dtype torch\.\w+, expected torch\.int64"):
        agent.load_model(tmp_path / "model")
    assert all(torch.equal(value, before[name]) for name, value in parameters(agent).items())


def test_many_unknown_names_are_reported_at_once(monkeypatch):
    own, sought = make_agent("sac").state_dict(), []
    monkeypatch.setattr(checkpoint, "did_you_mean", lambda name, known: sought.append(name) or "")
    with pytest.raises(ValueError, match="and 99992 more"):
        checkpoint.check_same(own | dict.fromkeys(map(str, range(100_000)), torch.zeros(1)), own, "state")
    assert len(sought) == 8             # a million would take minutes


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a" * 10_000])
def test_an_error_is_one_short_line_for_any_file(tmp_path, name):
    agent = make_agent("sac")
    write_checkpoint(tmp_path / "model", agent.state_dict() | {name: torch.zeros(1)}, agent.identity())
    with pytest.raises(CheckpointError) as caught:
        agent.load_model(tmp_path / "model")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 3000


# Hostile files ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("read", [make_agent("sac").load_model, read_identity, read_json],
                         ids=["load_model", "read_identity", "read_json"])
def test_paths_that_are_no_file_are_refused_without_waiting(tmp_path, name, read):
    hostile.make_nodes(tmp_path, "")
    message = "not a regular file" if name in ("pipe", "to-pipe", "endless") else None
    with pytest.raises((CheckpointError, ConfigError), match=message):
        read(tmp_path / name)


def test_a_link_to_a_file_is_read(tmp_path):
    make_agent("sac").save_model(tmp_path / "model")
    (tmp_path / "link").symlink_to("model")
    make_agent("sac").load_model(tmp_path / "link")


def test_only_a_flag_may_name_a_module_to_import(tmp_path):
    hostile.write_module(tmp_path)
    name = f"{hostile.MODULE}:Any-v0"
    Path("settings.json").write_text(json.dumps({"env": name}))
    with pytest.raises(ConfigError) as caught:
        parse_args(["--config=settings.json"])
    assert str(caught.value) == (f"env: '{name}' in settings.json names a module to import, which only a flag may: "
                                 f"give --env={name}")
    assert parse_args(["--config=settings.json", f"--env={name}"]).env == name
    assert parse_args(["--config=settings.json", "--env=Pendulum-v1"]).env == "Pendulum-v1"


def test_commands_in_errors_are_quoted():
    Path("settings.json").write_text(json.dumps({"env": "a:b; rm -r ~"}))
    with pytest.raises(ConfigError, match=r"give --env='a:b; rm -r ~'$"):
        parse_args(["--config=settings.json"])


def corpus() -> dict[str, list]:
    """Write all hostile files to the working directory; the paths by reader."""
    with_tensorflow = importlib.util.find_spec("tensorflow") is not None
    files = {"load_model": [], "read_checkpoint": [], "read_identity": [], "run": [], "config": [], "tensorflow": [],
             "convert": [], "vecnormalize": [], "model_file": []}
    index, data = (Path(f"{TF}{part}") for part in (".index", ".data-00000-of-00001"))
    for name, content in hostile.contents().items():
        for suffix in (".safetensors", ".json", ".ckpt.index", "-data.ckpt.data-00000-of-00001"):
            Path(f"{name}{suffix}").write_bytes(content)
        shutil.copy(data, f"{name}.ckpt.data-00000-of-00001")
        shutil.copy(index, f"{name}-data.ckpt.index")
        for reader in ("load_model", "read_checkpoint", "read_identity", "run"):
            files[reader] += [f"{name}.safetensors", f"{name}.json"]
        files["config"] += [f"{name}.json", f"{name}.safetensors"]
        for reader in SB3:
            files[reader] += [f"{name}.json"]
        files["tensorflow"] += [f"{name}.ckpt", f"{name}-data.ckpt", f"{name}.json"] * with_tensorflow
    for name, content in hostile.models(CASE.with_suffix(".zip"), STATISTICS).items():
        Path(name).write_bytes(content)
        for reader in SB3:
            files[reader] += [name]
    for suffix, readers in ((".sb3", SB3), (".safetensors", list(files)[:4]), (".json", ["config"]),
                            (".index", ["tensorflow"])):
        for path in hostile.make_nodes(Path(), suffix):
            for reader in readers:
                files[reader] += [str(path)] if reader != "tensorflow" or with_tensorflow else []
    return files


def valid(with_tensorflow: bool) -> list[tuple[str, str]]:
    make_agent("sac").save_model("valid.safetensors")
    Path("valid.json").write_text('{"alg": "sac", "seed": 3}')
    readers = ("load_model", "read_checkpoint", "read_identity", "run")
    write_model(Path("valid.pt"), make_agent("sac"))
    return [*((reader, "valid.safetensors") for reader in readers), ("config", "valid.json"),
            ("convert", str(CASE.with_suffix(".zip"))), ("vecnormalize", str(STATISTICS)), ("model_file", "valid.pt"),
            *[("tensorflow", str(TF))] * with_tensorflow]


def test_no_reader_executes_anything(tmp_path):
    hostile.write_module(tmp_path)
    files = corpus()
    files["valid"] = valid(bool(files["tensorflow"]))
    Path("files.json").write_text(json.dumps(files))
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(tmp_path)])
    done = subprocess.run([sys.executable, ROOT / "tests" / "audited.py", "files.json"], timeout=300, text=True,
                          env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, capture_output=True,
                          check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    # A run's tensors are read without the rest of the file, so errors in that rest have no effect.
    wrong = [one for one in report["wrong"] if not (one[0] == "run" and "metadata" in one[1] and one[2] == "loaded")]
    assert not wrong, wrong
    assert report["loaded"] == []
    assert not report["canary"]
    assert any(what.startswith("pickle ") for what in report["heard"])        # so the hook works
    assert Path(hostile.CANARY).exists()                                    # and the hostile file does run
