"""The manifest of a chain of generations: which files belong to it, their sizes and SHA-256, and numbers."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.errors import CheckpointError

FORMAT = "return-decomposition/resume/1"
MOST_BYTES = 256_000_000        # of a manifest


@dataclass(frozen=True)
class Segment:
    """One file of the log."""

    first: int                          # its first entry
    end: int                            # the entry after its last one
    name: str


@dataclass
class Chain:
    """One of the two directories, and the content of its manifest."""

    directory: Path
    generation: int = 0
    files: dict[str, list] = field(default_factory=dict)        # name -> [bytes, SHA-256]
    segments: list[Segment] = field(default_factory=list)

    @property
    def manifest(self) -> Path:
        return self.directory / "manifest.json"


def format_manifest(chain: Chain, values: Any) -> bytes:
    """Return the bytes of the manifest, with a checksum over itself."""
    body = {"format": FORMAT, "generation": chain.generation, "files": chain.files,
            "log": [[one.first, one.end, one.name] for one in chain.segments], "values": values}
    digest = hashlib.sha256(dump(body)).hexdigest()
    return dump({"sha256": digest, **body}) + b"\n"


def dump(value: Any) -> bytes:
    """Return the only form of JSON that a manifest may have."""
    return json.dumps(value, indent=1).encode()


def parse_manifest(path: Path, data: bytes) -> tuple[Chain, Any]:
    """Return the chain and the numbers in the manifest `data`, which `path` holds.

    Raises:
        CheckpointError: it is damaged, or of another format.
    """
    try:
        body = json.loads(data.decode())
        if dump(body) + b"\n" != data:         # edited: another space, a key twice
            raise ValueError("not as it was written")
        digest = body.pop("sha256")
        if body["format"] != FORMAT:
            raise CheckpointError(f"{path}: got format {str(body['format'])[:60]!r}, expected {FORMAT!r}")
        if hashlib.sha256(dump(body)).hexdigest() != digest:
            raise ValueError("its checksum does not match")
        chain = Chain(path.parent, body["generation"], body["files"], [Segment(*one) for one in body["log"]])
        _check_chain(chain)
        return chain, body["values"]
    except CheckpointError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged manifest ({error})") from None


def _check_chain(chain: Chain) -> None:
    """Check sizes, names and order of the files in a manifest; none may lie outside its directory."""
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
