"""What lies beside an exported model: a card in JSON, a page for a hub, its learning curve, and a script that loads it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from results.metrics import STEPS, read_metrics
from return_decomposition import __version__

FORM = 1                    # of the card; another number where its names change
HEAD = '''"""This model without the package that trained it: `from load import model`; `python load.py` checks it."""
import json
from pathlib import Path

import torch
'''
HERE = '''
HERE = Path(__file__).resolve().parent
CARD = json.loads((HERE / "card.json").read_text())
'''
CHECK = '''

if __name__ == "__main__":
    example = CARD["example"]
    inputs = [torch.tensor(example[name], dtype=getattr(torch, one["dtype"])) for name, one in CARD["inputs"].items()]
    print("largest difference:", float((model(*inputs) - torch.tensor(example["output"])).abs().max()))
'''
SCRIPTS = {
    "safetensors": HEAD + '''import torch.nn.functional as F
from safetensors.torch import load_file
''' + HERE + '''W, NET = load_file(HERE / "model.safetensors"), CARD["network"]
ACTIVATIONS = {"none": lambda x: x, "tanh": torch.tanh, "relu": F.relu, "silu": F.silu, "elu": F.elu, "gelu": F.gelu,
               "clip": lambda x: x.clamp(-1, 1), "argmax": lambda x: x.argmax(-1)}


def model(obs, acts=None, obs_next=None):
    def scaled(obs):
        return ((obs - W["mean"]) / W["std"]).clamp(-float(NET["clip"]), float(NET["clip"])).float()

    x = scaled(obs)
    if acts is not None:
        acts = acts if acts.is_floating_point() else F.one_hot(acts, NET["actions"]).float()
        x = torch.cat([x, acts, x - scaled(obs_next)], -1)
    for i, name in enumerate(NET["activations"]):
        x = ACTIVATIONS[name](F.linear(x, W[f"{i}.weight"], W[f"{i}.bias"]))
    return ACTIVATIONS[NET["output"]](x[..., :NET["size"]])
''' + CHECK,
    "exported": HEAD + HERE + '''PROGRAM = torch.export.load(HERE / "model.pt2").module()


def model(*inputs):
    return PROGRAM(*inputs)
''' + CHECK,
    "onnx": HEAD + '''import onnxruntime
''' + HERE + '''SESSION = onnxruntime.InferenceSession(HERE / "model.onnx")


def model(*inputs):
    names = [one.name for one in SESSION.get_inputs()]
    return torch.from_numpy(SESSION.run(None, {name: x.numpy() for name, x in zip(names, inputs)})[0])
''' + CHECK,
}


def card(agent: Any, what: str, form: str, checkpoint: Path, inputs: dict[str, torch.Tensor],
         output: torch.Tensor) -> dict[str, Any]:
    """Return what is known of a model, as JSON values.

    Args:
        inputs: example inputs by name; output: what the model makes of them.
    """
    config = agent.config
    return {
        "form": FORM, "what": what, "format": form, "algorithm": config.alg, "basis": config.basis_alg,
        "environment": config.env,
        "inputs": {name: {"shape": ["N", *value.shape[1:]], "dtype": str(value.dtype).removeprefix("torch.")}
                   for name, value in inputs.items()},
        "output": {"shape": ["N", *output.shape[1:]], "dtype": str(output.dtype).removeprefix("torch."),
                   "unit": unit_of(agent, what)},
        "settings": {name: list(value) if isinstance(value, tuple) else value
                     for name, value in config.settings().items()},
        "checkpoint": checkpoint.stem,
        "versions": {"return_decomposition": __version__, "python": platform.python_version(), "numpy": np.__version__,
                     "torch": torch.__version__, "safetensors": importlib.metadata.version("safetensors")},
        "example": {**{name: value.tolist() for name, value in inputs.items()}, "output": output.tolist()},
    }


def unit_of(agent: Any, what: str) -> str:
    """Return what the numbers of the output are."""
    if what == "policy":
        return "index of an action" if agent.config.discrete else "action in [-1, 1]"
    return agent.decomposition.unit


def hashes(files: dict[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


# The page -----------------------------------------------------------------------------------------------------------

def curve_of(run: Path) -> list[tuple[int, float]]:
    """Return environment steps and evaluation return of a run, where they are known."""
    metrics = read_metrics(run)
    rows = zip(metrics.get(STEPS, ()), metrics.get("Rewards", ()), strict=False)
    return [(int(steps), float(value)) for steps, value in rows if np.isfinite(steps) and np.isfinite(value)]


def picture_of(curve: list[tuple[int, float]]) -> bytes | None:
    """Return the curve as a PNG; None if matplotlib is not installed or there is nothing to draw."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return None
    if len(curve) < 2:
        return None
    import io
    figure, data = Figure(figsize=(5, 3), layout="constrained"), io.BytesIO()
    axes = figure.add_subplot()
    axes.plot(*zip(*curve, strict=True))
    axes.set(xlabel="environment steps", ylabel="return of greedy episodes")
    figure.savefig(data, dpi=120, metadata={"Software": None})
    return data.getvalue()


def page(found: dict[str, Any], curve: list[tuple[int, float]], picture: bool) -> str:
    """Return README.md, which a hub shows as the model's page."""
    what = "Learned reward" if found["what"] == "reward" else "Policy"
    made = f"{found['algorithm']} over {found['basis']}" if found["basis"] else found["algorithm"]
    inputs = ", ".join(f"`{name}` {shown(one['shape'])} {one['dtype']}" for name, one in found["inputs"].items())
    last = f"\nLast evaluation: return {curve[-1][1]:.4g} after {curve[-1][0]} environment steps.\n" if curve else ""
    drawn = "\n![Return against environment steps](curve.png)\n" if picture else ""
    return (f"---\nlicense: mit\ntags: [reinforcement-learning, return-decomposition, {found['algorithm']}]\n---\n\n"
            f"# {what} of {made} on {found['environment']}\n\n"
            f"Input: {inputs}, raw. Output: {shown(found['output']['shape'])}, {found['output']['unit']}. The "
            "normaliser of observations is inside.\n"
            f"{last}{drawn}\n    python load.py\n\nchecks the model with PyTorch, without the package that trained it; "
            "`from load import model` uses it. `card.json` has sizes, settings, versions and the hashes of the files"
            f"{'; `curve.csv` the learning curve' * bool(curve)}.\n")


def shown(shape: list[str | int]) -> str:
    """Return a shape as text, (N, 3)."""
    return f"({', '.join(map(str, shape))})"


def as_json(value: dict[str, Any]) -> bytes:
    """Return JSON text, one setting a line."""
    return (json.dumps(value, indent=2) + "\n").encode()
