"""Generations of a run's state: damaged, cut, half-written, killed in the middle, on a disk that fails."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import ROOT, SMALL, SMALL_RRD, run
from saved import digest
from tensorboardX.event_file_writer import EventsWriter

import train
from record.manifest import dump, format_manifest, parse_manifest
from record.store import Log, Snapshot, Store
from utils.errors import CheckpointError
from utils.files import SaveError, write_file

TENSORS = {"x": torch.arange(6.0).reshape(2, 3), "t": torch.tensor(7)}


def entries(first: int, end: int) -> dict[str, torch.Tensor]:
    return {"rows": torch.arange(first, end).float()}


def saved(directory: Path, generations: int = 3) -> Store:
    """Four new entries per generation; the last six are kept."""
    store = Store(directory)
    for n in range(1, generations + 1):
        store.save(Snapshot({"n": n, "at": 0.1 * n}, TENSORS, Log(max(0, 4 * n - 6), 4 * n, entries)))
    store.close()
    return store


def load(directory: Path) -> tuple[int | None, list[str]]:
    """The number of the newest whole generation, and the reported damages."""
    messages: list[str] = []
    found = Store(directory).load(messages.append)
    if found is None:
        return None, messages
    assert found.values["n"] == found.number
    assert all(torch.equal(found.tensors[name], TENSORS[name]) for name in TENSORS)
    held = [value for first, fields in found.log() for value in fields["rows"].tolist()]
    assert held[-4:] == [4.0 * found.number - 4 + i for i in range(4)]
    assert held == sorted(held)
    return found.number, messages


def test_a_snapshot_is_loaded_and_each_entry_is_written_once_per_chain(tmp_path):
    assert load(tmp_path / "never") == (None, [])
    asked = []
    store = Store(tmp_path)
    for n in range(1, 7):
        store.save(Snapshot({"n": n}, TENSORS, Log(0, 4 * n, lambda *entry: asked.append(entry) or entries(*entry))))
        assert load(tmp_path) == (n, [])
    store.close()
    assert asked == [(0, 4), (0, 8), (4, 12), (8, 16), (12, 20), (16, 24)]
    store = Store(tmp_path)
    store.load()
    store.save(Snapshot({"n": 7}, TENSORS, Log(0, 28, lambda *entry: asked.append(entry) or entries(*entry))))
    store.close()
    assert asked[-1] == (20, 28)                                # it continues where its chain ends


def test_dropped_entries_are_removed_and_large_logs_are_split(tmp_path):
    store = saved(tmp_path, 9)
    files = {path.name for path in tmp_path.rglob("log-*")}
    assert files == {"log-00000030-00000036.safetensors", "log-00000026-00000032.safetensors"}
    store.save(Snapshot({"n": 10}, TENSORS, Log(0, 200, entries, entry_bytes=1_000_000)))
    store.close()
    assert len(list((tmp_path / "a").glob("log-*"))) > 2


def flips(size: int, most: int = 400) -> list[int]:
    """Every byte of a small file, some bytes of a large one."""
    return sorted({i * size // most for i in range(most)} | {0, size - 1}) if size > most else list(range(size))


@pytest.mark.parametrize("which", ["manifest", "state", "log"])
def test_any_byte_flipped_or_cut_away_leaves_the_generation_before(tmp_path, which):
    saved(tmp_path / "whole")
    (newest,) = [path for path in (tmp_path / "whole" / "b").iterdir() if path.name.startswith(which)]
    data = newest.read_bytes()
    damaged = tmp_path / "damaged"
    shutil.copytree(tmp_path / "whole", damaged)
    path = damaged / "b" / newest.name
    assert load(damaged) == (3, [])
    for i in flips(len(data)):
        for wrong in (data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1:], data[:i], data + data[:i + 1]):
            path.write_bytes(wrong)
            number, (message,) = load(damaged)
            assert number == 2, i
            assert str(path) in message
            assert message.endswith("; using the generation before it")
    path.unlink()
    assert load(damaged)[0] == 2
    path.mkdir()
    assert load(damaged)[0] == 2


def test_both_generations_damaged_is_one_error_that_names_both(tmp_path):
    saved(tmp_path)
    for chain in "ab":
        (tmp_path / chain / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"a/manifest\.json: damaged.*b/manifest\.json: damaged"):
        load(tmp_path)


def test_after_damage_the_damaged_chain_is_written_anew(tmp_path):
    saved(tmp_path)
    next((tmp_path / "b").glob("log-*")).write_bytes(b"?")
    store = Store(tmp_path)
    assert store.load(lambda line: None).number == 2
    store.save(Snapshot({"n": 3}, TENSORS, Log(6, 12, entries)))
    store.close()
    assert load(tmp_path) == (3, [])


def test_an_older_generation_is_chosen_and_what_came_after_it_is_written_anew(tmp_path):
    saved(tmp_path)
    store = Store(tmp_path)
    assert store.load(fits=lambda one: one.values["n"] == 2).number == 2
    store.save(Snapshot({"n": 3}, TENSORS, Log(4, 9, entries)))         # with fewer entries than the one before
    store.close()
    found = Store(tmp_path).load()
    assert found.number == 3
    assert [value for _, fields in found.log() for value in fields["rows"].tolist()] == [4, 5, 6, 7, 8]
    assert Store(tmp_path).load(fits=lambda one: False) is None


def test_two_processes_do_not_write_at_once(tmp_path):
    store = saved(tmp_path)
    store.open()
    with pytest.raises(CheckpointError, match="in use by another process"):
        Store(tmp_path).open()
    store.close()
    store.open()
    store.close()


# Forged manifests -----------------------------------------------------------------------------------------------

def forged(body: dict) -> bytes:
    return dump({"sha256": hashlib.sha256(dump(body)).hexdigest(), **body}) + b"\n"


def valid() -> dict:
    body = {"format": "return-decomposition/resume/1", "generation": 3,
            "files": {"state-00000003.safetensors": [4, "0" * 64], "log-00000000-00000004.safetensors": [4, "0" * 64]},
            "log": [[0, 4, "log-00000000-00000004.safetensors"]], "values": {}}
    assert parse_manifest(Path("manifest.json"), forged(body))[0].generation == 3
    return body


@pytest.mark.parametrize("change", [
    {"format": "other"}, {"generation": "3"}, {"generation": -1}, {"generation": None}, {"files": []}, {"log": {}},
    {"files": {"../../x": [4, "0" * 64]}}, {"log": [[0, 4, "../x"]]}, {"log": [[4, 0, "x"]]}, {"log": [[0]]},
    {"log": [[0, 2 ** 70, "log-00000000-00000004.safetensors"]] * 2},
    {"files": {"state-00000003.safetensors": [-1, "0"], "log-00000000-00000004.safetensors": [4, "0" * 64]}},
    {"files": {"state-00000003.safetensors": [1e99, "0"], "log-00000000-00000004.safetensors": [4, "0" * 64]}},
], ids=str)
def test_a_forged_manifest_names_nothing_outside_and_has_no_gaps(change):
    with pytest.raises(CheckpointError):
        parse_manifest(Path("manifest.json"), forged(valid() | change))


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
                    max_leaves=10)


@settings(deadline=2000, max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
          suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["format", "generation", "files", "log", "values", "sha256", "more"]), JSON, st.binary())
def test_any_manifest_raises_only_checkpoint_errors(name, value, noise):
    data = forged(valid() | {name: value})
    for one in (data, noise, data[:len(noise)] + noise + data[len(noise):]):
        with contextlib.suppress(CheckpointError):
            parse_manifest(Path("manifest.json"), one)


@pytest.mark.parametrize("part", ["learner", "replay", "evaluator", "open", "record", "agent/", "generators/",
                                  "replay/"])
@pytest.mark.sampled(4)
def test_a_run_whose_state_does_not_fit_gives_a_one_line_error(part, capsys):
    """Wrong content with right checksums, as an attacker could make it."""
    directory = run(*SMALL_RRD, "--env=Match-v0").directory
    found = Store(directory / "checkpoints" / "resume").load()
    chain = found.chain
    shutil.rmtree(chain.directory.with_name("ab".replace(chain.directory.name, "")))
    name = f"state-{chain.generation:08}.safetensors"
    for wrong in (None, {}, [], 3, {"x": [1]}):
        values = {name: wrong if name == part else value for name, value in found.values.items()}
        tensors = {name: torch.zeros(2) if name.startswith(part) else tensor for name, tensor in found.tensors.items()}
        data = safetensors.torch.save(tensors)
        (chain.directory / name).write_bytes(data)
        chain.files[name] = [len(data), hashlib.sha256(data).hexdigest()]
        chain.manifest.write_bytes(format_manifest(chain, values))
        assert train.main([f"--resume={directory}", "--total_timesteps=200"]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1, message
        assert "does not fit this run" in message


# A disk that fails ------------------------------------------------------------------------------------------------

class Failing:
    """Makes the k-th of all writes, flushes, fsyncs and renames fail."""

    def __init__(self, k: int, code: int = errno.ENOSPC):
        self.k, self.code, self.calls = k, code, 0

    def __call__(self, function):
        def call(*args, **kwargs):
            self.calls += 1
            if self.calls == self.k:
                raise OSError(self.code, os.strerror(self.code))
            return function(*args, **kwargs)
        return call

    def install(self, monkeypatch) -> None:
        for name in ("fsync", "replace"):
            monkeypatch.setattr(f"utils.files.os.{name}", self(getattr(os, name)))
        opened = open

        def opening(path, mode="r", *args, **kwargs):
            file = opened(path, mode, *args, **kwargs)
            return Proxy(file, self) if "w" in mode and "b" in mode else file
        monkeypatch.setattr("utils.files.open", opening, raising=False)


class Proxy:
    """A file whose write and flush may fail."""

    def __init__(self, file, failing: Failing):
        self.file, self.write, self.flush = file, failing(file.write), failing(file.flush)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_each_write_flush_fsync_and_rename_that_fails_leaves_the_generation_before(tmp_path, monkeypatch, code):
    saved(tmp_path / "whole")
    failed = 0
    for k in range(1, 200):
        directory = tmp_path / f"{k}"
        shutil.copytree(tmp_path / "whole", directory)
        store = Store(directory)
        store.load()
        failing = Failing(k, code)
        with monkeypatch.context() as patched:
            failing.install(patched)
            try:
                store.save(Snapshot({"n": 4}, TENSORS, Log(10, 16, entries)))
            except SaveError as error:
                failed += 1
                message = str(error)
                assert re_match(message, directory, code), message
        store.close()
        number, complaints = load(directory)
        assert complaints == []
        # The last call of all makes a rename durable that has been seen already.
        assert number == 3 or k >= failing.calls - 1 or failing.calls < k
        if failing.calls < k:
            break
    assert failed == k - 1 >= 12
    assert number == 4


def re_match(message: str, directory: Path, code: int) -> bool:
    begins = f"cannot write {directory}{os.sep}a{os.sep}"
    return message.startswith(begins) and f"{os.strerror(code)}; " in message and message.endswith(" free there") and (
        " needed, " in message)


@pytest.mark.parametrize("k", [1, 9, 17, 40, 61, 83])
@pytest.mark.sampled(3)
def test_a_run_on_a_failing_disk_ends_with_one_line_and_resumes_from_the_last_save(k, monkeypatch, capsys):
    argv = [*SMALL_RRD, "--env=Hopper-v4", "--tag=x"]
    whole = run(*argv[:-1], "--tag=whole").directory
    capsys.readouterr()
    failing = Failing(k)
    with monkeypatch.context() as patched:
        failing.install(patched)
        assert train.main(argv) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("train.py: cannot write outputs")
    assert "No space left on device" in message
    assert train.main([*argv, "--on_existing=resume"]) == 0
    (parts,) = [path for path in Path("outputs").glob("x*") if (path / "config.json").exists()]
    assert digest(parts) == digest(whole)


def test_metrics_that_cannot_be_written_end_the_run_in_one_line(monkeypatch, capsys):
    write = EventsWriter.write_event

    def fail(self, event):
        if event.HasField("summary"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, event)
    monkeypatch.setattr("tensorboardX.event_file_writer.EventsWriter.write_event", fail)
    assert train.main([*SMALL, "--alg=sac", "--env=Match-v0"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "tensorboard: No space left on device" in message


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_file(path, b"old")
    monkeypatch.setattr("utils.files.os.replace", Failing(1)(os.replace))
    with pytest.raises(SaveError):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# Kills, and time --------------------------------------------------------------------------------------------------

@pytest.mark.skipif(not hasattr(os, "fork"), reason="expected fork")
@pytest.mark.slow
def test_a_run_that_is_killed_repeatedly_equals_an_undisturbed_one():
    """The full one is `make torture`."""
    done = subprocess.run([sys.executable, ROOT / "tests" / "torture.py", "--kills", "8"], capture_output=True,
                          timeout=300, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stderr
    assert "all promises kept: {'kills': 8" in done.stdout


def test_the_cost_of_a_save_depends_on_new_entries(tmp_path):
    """Bytes, not seconds: a hundred more entries cost nothing if they are saved already."""
    def written(held: int) -> int:
        directory = tmp_path / str(held)
        store = Store(directory)
        for end in (held, held + 2, held + 4):
            store.save(Snapshot({}, TENSORS, Log(0, end, lambda first, end: {"rows": torch.zeros(end - first, 1000)})))
        store.close()
        new = [path for path in directory.rglob("log-*") if int(path.name[4:12]) >= held]
        return sum(path.stat().st_size for path in new)
    assert written(4) == written(104) > 0
