"""The saved state of two runs, compared to the bit."""

from __future__ import annotations

import csv
import hashlib
import io
import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

from record.store import Store


def digest(directory: Path) -> dict[str, object]:
    """All that a run is resumed from, with its record, by name: SHA-256 of tensors, and values; no times."""
    store = Store(directory / "checkpoints" / "resume")
    saved = store.load()
    values = dict(saved.values)
    for name in ("system", "config"):
        values.pop(name)
    record = values.pop("record")
    found: dict[str, object] = {f"values/{name}": value for name, value in values.items()}
    found["values/learner"] = {name: n for name, n in values["learner"].items() if name != "trained"}
    found |= {f"tensors/{name}": _sha(tensor) for name, tensor in saved.tensors.items()}
    oldest = values["replay"].get("episodes_stored", 0) - values["replay"].get("episodes", 0)   # none without a replay
    for first, fields in saved.log():
        found |= _episodes(first, oldest, fields, values["replay"])
    return found | {"returns": record["returns"], "best": record["best"],
                    "sums": {k: v for k, v in record["logger"]["sums"].items() if not k.startswith("TimeCost")},
                    "rows": rows(record["logger"]["csv"])}


def rows(text: str) -> list[dict[str, str]]:
    """The rows of a `metrics.csv`, without times."""
    return [{name: value for name, value in row.items() if not name.startswith("TimeCost")}
            for row in csv.DictReader(io.StringIO(text))]


def board(directory: Path) -> list[tuple[str, int, float]]:
    """(name, step, value) of everything in the run's event files, in order, without times."""
    found = []
    for path in sorted((directory / "tensorboard").iterdir(), key=lambda path: int(path.name.split(".")[-2])):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = Event.FromString(data[12:12 + length]), data[16 + length:]
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value
                      if not value.tag.startswith(("TimeCost", "charts/SPS"))]
    return found


def _episodes(first: int, oldest: int, fields: dict, numbers: dict) -> dict[str, object]:
    """The tensors by episode, in whatever files they are."""
    lengths = fields["lengths"].tolist()
    found: dict[str, object] = {}
    for name, tensor in fields.items():
        extra = 0 if name in ("lengths", "returns") else (len(tensor) - sum(lengths)) // len(lengths)
        sizes = [1] * len(lengths) if name in ("lengths", "returns") else [length + extra for length in lengths]
        for i, part in enumerate(tensor.split(sizes)):
            if first + i >= oldest:
                found[f"episode {first + i}/{name}"] = _sha(part)
    return found


def _sha(tensor) -> str:
    array = tensor.contiguous()
    return hashlib.sha256(f"{array.dtype} {tuple(array.shape)}".encode() + array.numpy().tobytes()).hexdigest()
