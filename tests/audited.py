"""Load hostile files and report what Python did meanwhile; a separate program, because an audit hook cannot be removed.

    python tests/audited.py FILES.json      # {reader: [path, ...]}, valid ones under "valid"
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import hostile
from agents import make_agent

from adapters.convert_sb3 import convert_files
from adapters.sb3_files import read_vecnormalize
from algorithm import model_file
from algorithm.tf import convert as tf_checkpoint
from record import manifest, store
from utils import checkpoint
from utils.errors import ConfigError
from utils.settings.cli import parse_args

AGENT = make_agent("sac")


def load_run(path: str) -> None:
    """Read the file as the state of a run: as a manifest, and as a file that a manifest names."""
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder) / "a"
        chain.mkdir()
        (chain / "manifest.json").symlink_to(Path(path).absolute())
        state = chain / "state-00000001.safetensors"
        state.symlink_to(Path(path).absolute())
        try:
            return _load(Path(folder))
        except checkpoint.CheckpointError:
            try:
                size = Path(path).stat().st_size
            except OSError:                             # a link to itself
                size = 0
            small = 0 < size < 2**24 and Path(path).is_file()
            digest = hashlib.sha256(Path(path).read_bytes() if small else b"").hexdigest()
            (chain / "manifest.json").unlink()
            made = manifest.Chain(chain, 1, {state.name: [size, digest]})
            (chain / "manifest.json").write_bytes(manifest.format_manifest(made, {}))
            return _load(Path(folder))


def _load(folder: Path) -> None:
    list(store.Store(folder).load().log())


READERS = {
    "load_model": (AGENT.load_model, checkpoint.CheckpointError),
    "read_checkpoint": (lambda path: checkpoint.read_checkpoint(path, {}), checkpoint.CheckpointError),
    "read_identity": (checkpoint.read_identity, checkpoint.CheckpointError),
    "config": (lambda path: parse_args(["--config", path]), ConfigError),
    "run": (load_run, checkpoint.CheckpointError),
    "convert": (convert_files, checkpoint.CheckpointError),
    "vecnormalize": (read_vecnormalize, checkpoint.CheckpointError),
    "model_file": (model_file.load_model, checkpoint.CheckpointError),
    "tensorflow": (tf_checkpoint.read_checkpoint, checkpoint.CheckpointError),
}
LOADED: list[str] = []


def listen(event: str, args: tuple) -> None:
    if event == "pickle.find_class":
        LOADED.append(f"pickle {args[0]}.{args[1]}")
    elif event == "import" and args[0] == hostile.MODULE:
        LOADED.append(f"import {args[0]}")
    elif event == "exec" and not args[0].co_filename.endswith(".py") and "<frozen" not in args[0].co_filename:
        LOADED.append(f"exec {args[0].co_filename}")
    elif event == "compile":
        LOADED.append(f"compile {args[1]}")


def outcome(reader: str, path: str) -> str | None:
    """None if the file was refused as it should be."""
    read, wanted = READERS[reader]
    start = time.perf_counter()
    try:
        read(path)
    except wanted as error:
        slow = time.perf_counter() - start > 5
        return "slow" if slow else None if len(str(error).splitlines()) == 1 else str(error)
    except Exception as error:
        return repr(error)
    return "loaded"


def main(files: dict[str, list]) -> dict:
    valid = files.pop("valid")
    for reader, path in valid:                          # import now what would be imported late
        READERS[reader][0](path)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, resource.RLIM_INFINITY))
    sys.addaudithook(listen)
    for reader, path in valid:
        READERS[reader][0](path)
    wrong = [(reader, path, what) for reader, paths in files.items() for path in paths
             if (what := outcome(reader, path)) is not None]
    loaded, canary = list(LOADED), Path(hostile.CANARY).exists()
    hostile.explode(Path("pickle.json"))                # now the hook must have been called
    return {"wrong": wrong, "loaded": loaded, "canary": canary, "heard": LOADED[len(loaded):]}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
