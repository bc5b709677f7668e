"""Where a run keeps what it is resumed from: two generations that share no file, and a log that only grows.

The directory holds two chains, `a` and `b`, which take turns: a generation is written into the chain of the one before
the last. So there are always two of them, and damage to any file of the newest leaves the other one whole. A chain is

    manifest.json                          last: numbers, and size and SHA-256 of every other file
    state-00000012.safetensors             tensors of generation 12
    log-00000000-00000010.safetensors      entries 0 to 9 of the log (the replay's episodes), ...

A generation adds the entries that its chain has not yet, so each chain has every entry once, and what a save costs goes
by what is new. Nothing is overwritten before the new manifest stands. No pickle is written or read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as format_tensors
from torch import Tensor

from utils.errors import CheckpointError, ConfigError
from utils.files import read_file, saving, write_file

try:
    import fcntl
except ImportError:             # Windows
    fcntl = None

FORMAT = "return-decomposition/resume/1"
IN_USE = "in use by another process"
MOST_MANIFEST_BYTES = 256_000_000
SEGMENT_BYTES = 64_000_000      # of a log's file, about
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Segment:
    """A file of the log."""

    first: int                          # entry
    end: int                            # the one after its last
    name: str


@dataclass
class Chain:
    """One of the two directories, and what its manifest says."""

    directory: Path
    generation: int = 0
    files: dict[str, list] = field(default_factory=dict)        # name -> [bytes, SHA-256]
    segments: list[Segment] = field(default_factory=list)

    @property
    def manifest(self) -> Path:
        return self.directory / "manifest.json"


@dataclass
class Generation:
    """What was saved at once."""

    number: int
    values: Any                         # what JSON can say
    tensors: Tensors
    chain: Chain

    def log(self) -> Iterator[tuple[int, Tensors]]:
        """(number of its first entry, the entries' tensors), file by file, in order.

        Raises:
            CheckpointError: a file has changed since it was checked.
        """
        for segment in self.chain.segments:
            yield segment.first, _tensors(self.chain, segment.name)


@contextlib.contextmanager
def fitting(saved: Generation | None) -> Iterator[None]:
    """What goes wrong while a generation is taken over becomes a CheckpointError: it is another run's, or forged."""
    try:
        yield
    except (CheckpointError, ConfigError, OSError):
        raise
    except Exception as error:
        if saved is None:
            raise
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"{saved.chain.directory}: does not fit this run: {told}") from error


class Store:
    """Saves and loads generations. One process at a time may use a directory."""

    def __init__(self, directory: Path):
        """directory: is made when it is first saved to."""
        self.directory = directory
        self.chains = [Chain(directory / name) for name in "ab"]
        self.newest = 0
        self.lock: Any = None

    def close(self) -> None:
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    def open(self) -> None:
        """Keep other processes out.

        Raises:
            CheckpointError: one of them is using the directory.
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
                raise CheckpointError(f"{self.directory}: {IN_USE}, expected to be alone") from None

    # Saving -------------------------------------------------------------------------------------------------------

    def save(self, values: Any, tensors: Tensors, first: int, end: int, read: Callable[[int, int], Tensors],
             entry_bytes: int = 0) -> None:
        """Write a generation.

        Args:
            values: numbers, strings, lists and dicts with strings for keys.
            first, end: the log holds the entries [first, end); earlier ones are forgotten.
            read: (a, b) -> the tensors of the entries [a, b); asked only for entries that a chain has not yet.
            entry_bytes: about how large one is.
        Raises:
            SaveError: it could not be written; the generation before is untouched.
        """
        self.open()
        number = self.newest + 1
        chain = self.chains[number % 2]
        held = [segment for segment in chain.segments if segment.end > first]
        new = Chain(chain.directory, number, {one.name: chain.files[one.name] for one in held}, held)
        for start, stop in _pieces(max(first, held[-1].end if held else first), end, entry_bytes):
            name = f"log-{start:08}-{stop:08}.safetensors"
            self._write(new, name, read(start, stop))
            new.segments.append(Segment(start, stop, name))
        self._write(new, f"state-{number:08}.safetensors", tensors)
        write_file(new.manifest, _format_manifest(new, values))
        self.chains[number % 2], self.newest = new, number
        _clean(new)

    def _write(self, chain: Chain, name: str, tensors: Tensors) -> None:
        data = format_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        write_file(chain.directory / name, data)
        chain.files[name] = [len(data), hashlib.sha256(data).hexdigest()]

    # Loading ------------------------------------------------------------------------------------------------------

    def load(self, complain: Callable[[str], None] = lambda line: None) -> Generation | None:
        """The newest generation that is whole; None if nothing was ever saved.

        Args:
            complain: is told of a damaged one.
        Raises:
            CheckpointError: there are generations, but all are damaged.
        """
        self.chains = [Chain(self.directory / name) for name in "ab"]
        self.newest, found, wrong = 0, [], []
        for i, chain in enumerate(self.chains):
            try:
                generation = _read_generation(chain.directory)
            except CheckpointError as error:
                wrong.append(str(error))
                continue
            if generation is not None:
                self.chains[i] = generation.chain
                found.append(generation)
        newest = max(found, key=lambda generation: generation.number, default=None)
        for chain in self.chains:                       # which it had, if ever two generations were written
            if not chain.generation and not os.path.lexists(chain.manifest) and (
                    newest.number >= 2 if newest else _latest(chain.directory) > 2):
                wrong.append(f"{chain.manifest}: missing")
        if not found and wrong:
            raise CheckpointError("; ".join(wrong))
        for line in wrong:
            complain(f"{line}; the generation before it is used")
        if newest is None:
            return None
        self.newest = newest.number
        return newest


def _latest(directory: Path) -> int:
    """The number of the last generation whose tensors stand in a chain, whole or not; 0 if there is none."""
    names = [path.name for path in directory.glob("state-*.safetensors")]
    return max((int(name[6:14]) for name in names if re.fullmatch(r"state-[0-9]{8}\.safetensors", name)), default=0)


def _pieces(first: int, end: int, entry_bytes: int) -> Iterator[tuple[int, int]]:
    step = max(1, SEGMENT_BYTES // max(entry_bytes, 1))
    return ((start, min(start + step, end)) for start in range(first, end, step))


def _clean(chain: Chain) -> None:
    """Remove what the manifest does not name: what is superseded, and what a kill has left half-written."""
    with contextlib.suppress(OSError):
        for path in chain.directory.iterdir():
            if path.name not in chain.files and path != chain.manifest:
                path.unlink()


def _format_manifest(chain: Chain, values: Any) -> bytes:
    body = {"format": FORMAT, "generation": chain.generation, "files": chain.files,
            "log": [[one.first, one.end, one.name] for one in chain.segments], "values": values}
    digest = hashlib.sha256(_dump(body)).hexdigest()
    return _dump({"sha256": digest, **body}) + b"\n"


def _dump(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _read_generation(directory: Path) -> Generation | None:
    """What a chain holds, with every file checked; None if it holds nothing.

    Raises:
        CheckpointError: its manifest or a file that it names is missing, damaged, or of another format.
    """
    path = directory / "manifest.json"
    if not os.path.lexists(path):
        return None
    chain, values = _parse_manifest(path, _read(path, MOST_MANIFEST_BYTES))
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


def _parse_manifest(path: Path, data: bytes) -> tuple[Chain, Any]:
    try:
        body = json.loads(data.decode())
        if _dump(body) + b"\n" != data:         # another space, a key twice
            raise ValueError("not as it was written")
        digest = body.pop("sha256")
        if body["format"] != FORMAT:
            raise CheckpointError(f"{path}: got format {str(body['format'])[:60]!r}, expected {FORMAT!r}")
        if hashlib.sha256(_dump(body)).hexdigest() != digest:
            raise ValueError("its checksum does not match")
        chain = Chain(path.parent, body["generation"], body["files"], [Segment(*one) for one in body["log"]])
        _check_chain(chain)
        return chain, body["values"]
    except CheckpointError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged manifest ({error})") from None


def _check_chain(chain: Chain) -> None:
    """Sizes, names and order of what a manifest tells; nothing outside its directory may be named."""
    names = [f"state-{chain.generation:08}.safetensors", *(segment.name for segment in chain.segments)]
    if sorted(names) != sorted(chain.files):
        raise ValueError("its list of files is not that of its generation")
    for name, (size, digest) in chain.files.items():
        if not (re.fullmatch(r"(state|log)-[0-9-]+\.safetensors", name) and type(size) is int and size >= 0
                and isinstance(digest, str)):
            raise ValueError(f"file {name!r}")
    ends = [segment.end for segment in chain.segments]
    if not all(type(n) is int and n >= 0 for s in chain.segments for n in (s.first, s.end)) or any(
            s.first >= s.end for s in chain.segments) or [s.first for s in chain.segments[1:]] != ends[:-1]:
        raise ValueError("its log has gaps")


def _tensors(chain: Chain, name: str) -> Tensors:
    path = chain.directory / name
    data = _read(path, chain.files[name][0])
    if hashlib.sha256(data).hexdigest() != chain.files[name][1]:
        raise CheckpointError(f"{path}: damaged, its checksum does not match")
    try:
        return parse_tensors(data)
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint ({error})") from None
