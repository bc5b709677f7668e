"""Hostile files that must do no harm; the tests make and load them."""

from __future__ import annotations

import base64
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


def models(model: Path, statistics: Path) -> dict[str, bytes]:
    """Hostile files in the forms of Stable-Baselines3: a model's zip, by `*.zip`, and a VecNormalize, by `*.pkl`.

    Args:
        model, statistics: whole ones, which these are made from.
    """
    saved = io.BytesIO()
    torch.save({"bomb": Bomb()}, saved)
    bomb, text = pickle.dumps(Bomb()), base64.b64encode(pickle.dumps(Bomb())).decode()
    space = {"action_space": {":type:": "<class 'gymnasium.spaces.discrete.Discrete'>", ":serialized:": text}}
    with zipfile.ZipFile(model) as archive:
        data = json.loads(archive.read("data"))
    whole = statistics.read_bytes()
    gadget = b"\x8c\x08builtins\x8c\x04exec\x93\x8c\x20__import__('os').mkdir('canary')\x85R0"
    return {
        "weights.zip": _with(model, "policy.pth", saved.getvalue()),
        "pickled-weights.zip": _with(model, "policy.pth", bomb),
        "variables.zip": _with(model, "pytorch_variables.pth", saved.getvalue()),
        "data.zip": _with(model, "data", bomb), "space.zip": _with(model, "data", json.dumps(data | space).encode()),
        "zeros.zip": _with(model, "policy.pth", bytes(2**24)), "deep.zip": _with(model, "data", b"[" * 100_000),
        "bomb.pkl": bomb, "bomb-0.pkl": pickle.dumps(Bomb(), 0), "bomb-inside.pkl": whole[:11] + gadget + whole[11:],
        "many.pkl": b"\x80\x04" + b"]" * 2_000_000 + b".", "long.pkl": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
        "named.pkl": f"c{MODULE}\nVecNormalize\n)\x81.".encode()}


def _with(path: Path, name: str, data: bytes) -> bytes:
    """The bytes of a zip in which one member is another."""
    target = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            new.writestr(member, data if member == name else old.read(member))
    return target.getvalue()


def make_nodes(folder: Path, suffix: str) -> list[Path]:
    """Paths that exist but are no regular files."""
    names = ("folder", "pipe", "nowhere", "round", "to-pipe", "endless", "none")
    paths = [folder / f"{name}{suffix}" for name in names]
    paths[0].mkdir()
    os.mkfifo(paths[1])
    for path, target in zip(paths[2:6], ("no-such", paths[3].name, paths[1].name, "/dev/zero"), strict=True):
        path.symlink_to(target)
    return paths
