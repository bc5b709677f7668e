"""Hostile files that must do no harm; the tests make and load them."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

CANARY = "canary"                       # any code that gets to run touches it in the working directory
MODULE = "named_by_a_file"              # a module that touches it when it is imported


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path(CANARY),)


def explode(path: Path) -> None:
    """An action that no reader may perform."""
    pickle.loads(path.read_bytes())


def write_module(folder: Path) -> None:
    (folder / f"{MODULE}.py").write_text(f"import pathlib\npathlib.Path({CANARY!r}).touch()\n")


def tensors(header, data: bytes = b"", size: int | None = None) -> bytes:
    """A safetensors file of this header, which may claim another size."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(header) if size is None else size).to_bytes(8, "little") + header + data


def tensor(shape=(1,), dtype: str = "F32", offsets=(0, 4)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def contents() -> dict[str, bytes]:
    """Name and content of every hostile file; none is a checkpoint, an index or settings."""
    return dict(_foreign()) | dict(_safetensors()) | dict(_json())


def _foreign() -> Iterator[tuple[str, bytes]]:
    saved, old, arrays, bomb = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"bomb": Bomb()}, saved)
    torch.save({"bomb": Bomb()}, old, _use_new_zipfile_serialization=False)
    np.savez(arrays, info=np.array([Bomb()], object))
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("info.npy", bytes(2**24))
    yield from {"empty": b"", "zeros": bytes(4096), "ones": b"\xff" * 4096, "text": b"hello\nworld\n" * 50,
                "pickle": pickle.dumps(Bomb()), "pickle-0": pickle.dumps(Bomb(), 0), "torch": saved.getvalue(),
                "torch-old": old.getvalue(), "npz": arrays.getvalue(), "zip-bomb": bomb.getvalue(),
                "python": f"import {MODULE}".encode()}.items()


def _safetensors() -> Iterator[tuple[str, bytes]]:
    yield from {
        "header-of-2**60": tensors(b"{}", size=2**60), "header-of-2**64": tensors(b"{}", size=2**64 - 1),
        "header-of-90MB": tensors(b"{}", size=90 * 2**20), "header-beyond-the-end": tensors(b"{}", size=3),
        "tensor-of-2**60": tensors({"a": tensor((2**58,), offsets=(0, 2**60))}),
        "sizes-overflow": tensors({"a": tensor((2**63, 2), offsets=(0, 0))}),
        "empty-but-huge": tensors({"a": tensor((2**64 - 1, 0), offsets=(0, 0))}),
        "overlap": tensors({"a": tensor(), "b": tensor()}, bytes(4)),
        "gap": tensors({"a": tensor(offsets=(4, 8))}, bytes(8)),
        "backwards": tensors({"a": tensor(offsets=(4, 0))}, bytes(4)), "beyond": tensors({"a": tensor()}, bytes(3)),
        "appended": tensors({"a": tensor()}, bytes(5)), "negative": tensors({"a": tensor((-1,))}, bytes(4)),
        "no-such-type": tensors({"a": tensor(dtype="OBJECT")}, bytes(4)),
        "type-without-tensor": tensors({"a": tensor((8,), "F4")}, bytes(4)),
        "deep-header": tensors(b'{"a":' * 10_000), "numbers-as-metadata": tensors({"__metadata__": {"format": 1}}),
        "metadata-twice": tensors(b'{"__metadata__":{"a":"1","a":"2"}}'),
        "module-as-metadata": tensors({"__metadata__": {"format": f"{MODULE}:Format"}}),
    }.items()


def _json() -> Iterator[tuple[str, bytes]]:
    yield from {
        "twice": b'{"seed": 1, "seed": 2}', "deep": b'{"seed":' * 50_000, "deep-list": b"[" * 50_000,
        "digits": b'{"seed": ' + b"9" * 100_000 + b"}", "exponent": b'{"seed": 1e999999999}',
        "many-names": json.dumps({f"name{n}": n for n in range(50_000)}).encode(),
        "long-name": json.dumps({"a" * 500_000: 1}).encode(), "long-file": b'{"tag": "' + b"a" * 2**21 + b'"}',
        "many-seeds": json.dumps({"seeds": "0-999," * 100_000 + "0"}).encode(),
        "module": json.dumps({"env": f"{MODULE}:Any-v0"}).encode(), "null-bytes": b'{"tag": "\0"}',
        "class": json.dumps({"__class__": f"{MODULE}.Any"}).encode(), "pickled": json.dumps(
            {"py/object": f"{MODULE}.Any"}).encode(), "number": b"3", "not-a-number": b'{"gamma": NaN}',
        "two-boms": b"\xef\xbb\xbf\xef\xbb\xbf{}", "half-a-pair": b'{"alg": "\\ud800"}',
        "utf-16": '{"seed": 1}'.encode("utf-16"),
    }.items()


def make_nodes(folder: Path, suffix: str) -> list[Path]:
    """Paths that exist but are no regular files."""
    names = ("folder", "pipe", "nowhere", "round", "to-pipe", "endless", "none")
    paths = [folder / f"{name}{suffix}" for name in names]
    paths[0].mkdir()
    os.mkfifo(paths[1])
    for path, target in zip(paths[2:6], ("no-such", paths[3].name, paths[1].name, "/dev/zero"), strict=True):
        path.symlink_to(target)
    return paths
