"""The TensorFlow 1 checkpoint of the reference cases: converted, loaded, changed, refused."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import safetensors.numpy
from reference_cases import FOLDER

from algorithm import create_agent
from algorithm.tf.convert import main
from algorithm.tf.files import PARTS, write_checkpoint

ROOT = Path(__file__).resolve().parent.parent
ORIGINAL = FOLDER / "rrd_sac_tf1_checkpoint" / "model.ckpt"
INDEX, DATA = (Path(f"{ORIGINAL}{part}") for part in PARTS[:2])


def convert(path, out, alg: str = "rrd", basis: str | None = "sac", to_tf: bool = False) -> Path:
    flags = [f"--alg={alg}", *([f"--basis_alg={basis}"] if basis else []), f"--out={out}", *["--to-tf"] * to_tf]
    assert main([str(path), *flags]) == 0
    return Path(out) / ("model.ckpt" if to_tf else "model.safetensors")


def loaded(path, backend: str = "pytorch", alg: str = "rrd", basis: str | None = "sac", obs=(11,), acts=3, **settings):
    """A new agent that loaded the checkpoint."""
    agent = create_agent(Namespace(alg=alg, basis_alg=basis, obs_dims=obs, acts_dims=acts, device="cpu", seed=9,
                                   use_pytorch=backend == "pytorch", **settings))
    agent.load_model(path)
    return agent


def everything(agent) -> dict[str, np.ndarray]:
    """All variables of a reference agent, its optimisers' among them."""
    return {name: variable.numpy() for name, variable in agent.all_variables().items()}


SLOTS = {"Adam": "exp_avg", "Adam_1": "exp_avg_sq", "RMSProp": "square_avg"}


def in_pytorch(name: str) -> str:
    """The name of a variable in PyTorch's checkpoint, derived from its name alone."""
    variable, _, slot = name.rpartition("/")
    if slot in SLOTS:
        return f"{in_pytorch(variable).replace('nets.', 'opt.', 1)}.{SLOTS[slot]}"
    return "nets." + name.replace("/net/", "/").replace("/kernel", "/weight").replace("/", ".")


def assert_holds(path, arrays: dict[str, np.ndarray]) -> None:
    """PyTorch's checkpoint holds these variables, to the bit, in PyTorch's layout: [out, in, height, width].

    It keeps the normaliser's sums as moments, from which they are computed again when they are converted back.
    """
    state = safetensors.numpy.load_file(path)
    for name, array in ((name, array) for name, array in arrays.items() if not re.search("normalizer.*/sum", name)):
        axes = {2: (1, 0), 4: (3, 2, 0, 1)}.get(array.ndim, range(array.ndim))
        np.testing.assert_array_equal(state[in_pytorch(name)], array.transpose(axes), err_msg=name)


def refuse(capfd, path, complaint: str, *flags: str, code: int = 2) -> str:
    """Check that the command ends with one line that matches `complaint`, and writes no file."""
    before = {file for file in Path().rglob("*") if not file.is_dir()}
    capfd.readouterr()
    assert main([str(path), *(flags or ["--alg=rrd", "--basis_alg=sac"]), "--out=out"]) == code
    out, errors = capfd.readouterr()
    assert out == ""
    assert errors.count("\n") == 1
    assert errors.startswith("tf_checkpoint: ")
    assert re.search(complaint, errors), errors
    assert {file for file in Path().rglob("*") if not file.is_dir()} == before
    return errors


def altered(original, without=(), **changes) -> str:
    """The prefix of a checkpoint that differs from the original's in some variables."""
    arrays = {name: array for name, array in original.items() if name not in without}
    write_checkpoint("altered.ckpt", arrays | changes)
    return "altered.ckpt"
