"""Write a run's learned reward or policy as a folder that loads without this package, for `rrd export`."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from learner.loading import find_run, load_found
from return_decomposition.cards import SCRIPTS, as_json, card, curve_of, hashes, page, picture_of
from return_decomposition.portable import dense, example, portable
from utils.errors import ConfigError
from utils.files import saving, write_file
from utils.installed import pip_install

NAMES = {"safetensors": "model.safetensors", "exported": "model.pt2", "onnx": "model.onnx"}


def export_model(run: str, what: str, form: str, checkpoint: str = "", out: str = "") -> list[Path]:
    """Write the model, its card, README.md, load.py and its learning curve; return their paths.

    Args:
        what: reward or policy.
        form: safetensors (weights of dense layers), exported (a program of torch.export) or onnx.
        out: the folder; RUN/export/WHAT-FORM by default. It can be uploaded to a hub as it is.
    Raises:
        ConfigError: the run has no such model, it does not fit the format, or a package is missing.
        CheckpointError: the checkpoint is missing or damaged.
        SaveError: a file could not be written.
    """
    directory, path = find_run(run, checkpoint)
    agent = load_found(directory, path)
    module = portable(agent, what)
    inputs = example(agent, module.inputs)
    with torch.no_grad():
        output = module(*inputs)
    found = card(agent, what, form, path, dict(zip(module.inputs, inputs, strict=True)), output)
    if form == "safetensors":
        data, found["network"] = dense_file(agent, what)
    else:
        data = WRITERS[form](module, inputs)
    return write_folder(Path(out) if out else directory / "export" / f"{what}-{form}", {NAMES[form]: data}, found,
                        curve_of(directory))


def dense_file(agent: Any, what: str) -> tuple[bytes, dict[str, Any]]:
    """Return the file of the weights, and how load.py computes with them."""
    found = dense(agent, what)
    tensors = {name: tensor.contiguous() for name, tensor in found.tensors.items()}
    return save(tensors), {"activations": found.activations, "output": found.output, "size": found.size,
                           "clip": str(found.clip), "actions": agent.config.acts_dims[0]}


def exported_file(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> bytes:
    """Return a program of torch.export, of any number of rows."""
    data = io.BytesIO()
    torch.export.save(program_of(module, inputs), data)
    return data.getvalue()


def onnx_file(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> bytes:
    """Return an ONNX model, of any number of rows.

    Raises:
        ConfigError: the extra `onnx` is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError(f"onnx is not installed; {pip_install('onnx')} installs it") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                 # of the exporter's own internals
        found = torch.onnx.export(program_of(module, inputs), inputs, verbose=False)
    return found.model_proto.SerializeToString()


def program_of(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram:
    """Return the module as a program of torch.export whose rows are any number."""
    rows = torch.export.Dim("rows", min=1)
    return torch.export.export(module, inputs, dynamic_shapes=(dict.fromkeys([0], rows),) * len(inputs), strict=False)


WRITERS: dict[str, Callable[[nn.Module, tuple[torch.Tensor, ...]], bytes]] = {
    "exported": exported_file, "onnx": onnx_file}


def write_folder(folder: Path, files: dict[str, bytes], found: dict[str, Any],
                 curve: list[tuple[int, float]]) -> list[Path]:
    """Write the files of an exported model, and those that describe it; return their paths."""
    picture = picture_of(curve)
    if picture is not None:
        files["curve.png"] = picture
    if curve:
        files["curve.csv"] = "".join(f"{steps},{value}\n" for steps, value in [("steps", "return"), *curve]).encode()
    files["load.py"] = SCRIPTS[found["format"]].encode()
    files["README.md"] = page(found, curve, picture is not None).encode()
    files["card.json"] = as_json({**found, "sha256": hashes(files)})
    with saving(folder, sum(map(len, files.values()))):
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_file(folder / name, data)
    return [folder / name for name in files]
