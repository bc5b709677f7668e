"""The state that a run is resumed from: two generations that share no file, and a log that only grows.

The directory holds two chains, `a` and `b`, which are written in turn. So two generations exist at any time, and damage
to any file of the newest one leaves the other one whole. A chain consists of

    manifest.json                          written last: numbers, and size and SHA-256 of every other file
    state-00000012.safetensors             tensors of generation 12
    log-00000000-00000010.safetensors      entries 0 to 9 of the log (the episodes of the replay), ...

A generation adds only the entries that its chain lacks. So each chain holds every entry once, and the cost of a save
depends on what is new. Nothing is overwritten before the new manifest is complete. No pickle is written or read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as format_tensors
from torch import Tensor

from record.manifest import MOST_BYTES, Chain, Segment, format_manifest, parse_manifest
from utils.errors import IN_USE, CheckpointError, ConfigError
from utils.files import read_file, saving, write_file

try:
    import fcntl
except ImportError:             # Windows
    fcntl = None

SEGMENT_BYTES = 64_000_000      # of a log's file, about
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Log:
    """The entries [first, end) of a list that grows at its end and loses entries at its beginning."""

    first: int
    end: int
    read: Callable[[int, int], Tensors]         # (a, b) -> the tensors of the entries [a, b)
    entry_bytes: int = 0                        # approximate size of one entry


@dataclass(frozen=True)
class Snapshot:
    """The whole state of a run at one moment, to be saved."""

    values: dict[str, Any]                      # numbers, strings, lists, and dicts with strings as keys
    tensors: Tensors
    log: Log                                    # read while it is saved: a replay is too large to be copied


@dataclass
class Generation:
    """A snapshot as it was read back."""

    number: int
    values: Any                         # what JSON can hold
    tensors: Tensors
    chain: Chain

    def log(self) -> Iterator[tuple[int, Tensors]]:
        """Yield (number of the first entry, tensors of the entries), file by file, in order.

        Raises:
            CheckpointError: a file has changed since it was checked.
        """
        for segment in self.chain.segments:
            yield segment.first, _tensors(self.chain, segment.name)


@contextlib.contextmanager
def fitting(saved: Generation | None) -> Iterator[None]:
    """Turn an error raised while a generation is restored into a CheckpointError: it belongs to another run."""
    try:
        yield
    except (CheckpointError, ConfigError, OSError):
        raise
    except Exception as error:
        if saved is None:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"{saved.chain.directory}: does not fit this run: {reason}") from error


class Store:
    """Save and load generations. Only one process at a time may use a directory."""

    def __init__(self, directory: Path):
        """directory: created by the first save."""
        self.directory = directory
        self.chains = [Chain(directory / name) for name in "ab"]
        self.newest = 0
        self.lock: Any = None

    def close(self) -> None:
        """Release the lock."""
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    def open(self) -> None:
        """Lock the directory against other processes.

        Raises:
            CheckpointError: another process uses the directory.
            SaveError: the directory cannot be written to.
        """
        if self.lock is not None:
            return
        with saving(self.directory, 0):
            for chain in self.chains:
                chain.directory.mkdir(parents=True, exist_ok=True)
            self.lock = open(self.directory / "lock", "w")
        if fcntl is not None:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self.close()
                raise CheckpointError(f"{self.directory}: {IN_USE}; wait for that process to end") from None

    # Saving -------------------------------------------------------------------------------------------------------

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot as the next generation.

        Raises:
            SaveError: it could not be written; the generation before is untouched.
        """
        self.open()
        number = self.newest + 1
        old = self.chains[number % 2]
        held = [segment for segment in old.segments if segment.end > snapshot.log.first]
        new = Chain(old.directory, number, {one.name: old.files[one.name] for one in held}, held)
        self._write_log(new, snapshot.log)
        self._write(new, f"state-{number:08}.safetensors", snapshot.tensors)
        write_file(new.manifest, format_manifest(new, snapshot.values))
        self.chains[number % 2], self.newest = new, number
        _clean(new)

    def _write_log(self, chain: Chain, log: Log) -> None:
        """Write the entries that the chain lacks."""
        first = max(log.first, chain.segments[-1].end if chain.segments else log.first)
        for start, end in _pieces(first, log.end, log.entry_bytes):
            name = f"log-{start:08}-{end:08}.safetensors"
            self._write(chain, name, log.read(start, end))
            chain.segments.append(Segment(start, end, name))

    def _write(self, chain: Chain, name: str, tensors: Tensors) -> None:
        data = format_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        write_file(chain.directory / name, data)
        chain.files[name] = [len(data), hashlib.sha256(data).hexdigest()]

    # Loading ------------------------------------------------------------------------------------------------------

    def load(self, complain: Callable[[str], None] = lambda line: None,
             fits: Callable[[Generation], bool] = lambda generation: True) -> Generation | None:
        """Return the newest undamaged generation that fits, or None if nothing was ever saved.

        Args:
            complain: called with one line for each damaged generation.
        Raises:
            CheckpointError: there are generations, but all are damaged.
        """
        found, wrong = self._read_chains()
        newest = max(filter(fits, found), key=lambda generation: generation.number, default=None)
        wrong += self._missing_manifests(newest)
        if not found and wrong:
            raise CheckpointError("; ".join(wrong))
        for line in wrong:
            complain(f"{line}; using the generation before it")
        self.newest = newest.number if newest else 0
        # what was saved after it is of a future that is not continued: it is written anew
        self.chains = [Chain(chain.directory) if chain.generation > self.newest else chain for chain in self.chains]
        return newest

    def _read_chains(self) -> tuple[list[Generation], list[str]]:
        """Return the undamaged generations, and one line for each damaged one."""
        self.chains = [Chain(self.directory / name) for name in "ab"]
        found, wrong = [], []
        for i, chain in enumerate(self.chains):
            try:
                generation = _read_generation(chain.directory)
            except CheckpointError as error:
                wrong.append(str(error))
                continue
            if generation is not None:
                self.chains[i] = generation.chain
                found.append(generation)
        return found, wrong

    def _missing_manifests(self, newest: Generation | None) -> list[str]:
        """Return one line for each chain without a manifest, although it must have been written once."""
        return [f"{chain.manifest}: missing" for chain in self.chains
                if not chain.generation and not os.path.lexists(chain.manifest)
                and (newest.number >= 2 if newest else _latest(chain.directory) > 2)]


def _latest(directory: Path) -> int:
    """Return the number of the last generation whose tensors a chain holds, damaged or not; 0 if there is none."""
    names = [path.name for path in directory.glob("state-*.safetensors")]
    return max((int(name[6:14]) for name in names if re.fullmatch(r"state-[0-9]{8}\.safetensors", name)), default=0)


def _pieces(first: int, end: int, entry_bytes: int) -> Iterator[tuple[int, int]]:
    """Divide the entries [first, end) into files of about SEGMENT_BYTES."""
    step = max(1, SEGMENT_BYTES // max(entry_bytes, 1))
    return ((start, min(start + step, end)) for start in range(first, end, step))


def _clean(chain: Chain) -> None:
    """Remove the files that the manifest does not name: old ones, and half-written ones of a killed process."""
    with contextlib.suppress(OSError):
        for path in chain.directory.iterdir():
            if path.name not in chain.files and path != chain.manifest:
                path.unlink()


def _read_generation(directory: Path) -> Generation | None:
    """Read a chain and check every file of it; None if it holds nothing.

    Raises:
        CheckpointError: its manifest or a file that it names is missing, damaged, or of another format.
    """
    path = directory / "manifest.json"
    if not os.path.lexists(path):
        return None
    chain, values = parse_manifest(path, _read(path, MOST_BYTES))
    for name, (size, digest) in chain.files.items():
        data = _read(directory / name, size)
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            raise CheckpointError(f"{directory / name}: damaged, its checksum does not match")
    return Generation(chain.generation, values, _tensors(chain, f"state-{chain.generation:08}.safetensors"), chain)


def _read(path: Path, most: int) -> bytes:
    try:
        return read_file(path, most)
    except OSError as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise CheckpointError(f"{path}: {reason}") from None


def _tensors(chain: Chain, name: str) -> Tensors:
    path = chain.directory / name
    data = _read(path, chain.files[name][0])
    if hashlib.sha256(data).hexdigest() != chain.files[name][1]:
        raise CheckpointError(f"{path}: damaged, its checksum does not match")
    try:
        return parse_tensors(data)
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint ({error})") from None
