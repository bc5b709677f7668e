"""Reads a case of tests/reference, computed by the original TensorFlow 1.12 program (see the README there)."""

from __future__ import annotations

import json
import zlib
from argparse import Namespace
from pathlib import Path

import numpy as np

from algorithm import create_agent, tf_names
from algorithm.basis_alg.base_torch import Agent

FOLDER = Path(__file__).parent / "reference"


def is_agents(path: Path) -> bool:
    """Whether a file holds the calls of an agent; others hold episodes of environments."""
    with np.load(path) as data:
        return "step/action" in data


NAMES = sorted(path.stem for path in FOLDER.glob("*.npz") if is_agents(path))


class Case:
    """One reference case, and an agent with its starting weights."""

    def __init__(self, name: str):
        self.name, self.data = name, np.load(FOLDER / f"{name}.npz")
        meta = json.loads(str(self.data["meta"]))
        self.args, self.seed, self.shapes, self.calls = meta["args"], meta["seed"], meta["shapes"], meta["calls"]

    def agent(self, backend: str = "pytorch", **changes):
        changes |= {"use_pytorch": backend == "pytorch", "obs_scale": 255}      # the original's, for vectors too
        agent = create_agent(Namespace(**self.args | {"cuda": False, **changes}))
        agent.load_tf_variables({name: self.initial(name) for name in self.shapes if not name.startswith("normalizer")})
        for batch in self.normalizer_batches():
            agent.normalizer_update(batch)
        return agent

    def initial(self, name: str) -> np.ndarray:
        """The starting weights follow from name, shape and seed; targets start equal to the main networks."""
        name, shape = name.replace("target/", "main/", 1), self.shapes[name]
        if name == "main/alpha/log_alpha":
            return np.log(np.float32(self.args["alpha_init"]))
        random = np.random.RandomState((zlib.crc32(name.encode()) + self.seed) % 2**32)
        limit = np.sqrt(6 / ((shape[-2] + shape[-1]) * np.prod(shape[:-2]))) if len(shape) >= 2 else 0.1
        value = random.uniform(-limit, limit, size=shape).astype(np.float32)
        if self.name == "sac_std_limits" and name == "main/policy/net/pi/bias":
            half = len(value) // 2
            value[half:] = np.where(np.arange(half) % 2 == 0, -6, 2.5)
        return value

    def normalizer_batches(self) -> list[dict]:
        if "normalizer_batch/obs" not in self.data:
            return []
        fields = {name: self.data[f"normalizer_batch/{name}"] for name in ("obs", "obs_next")}
        return [{name: value[i] for name, value in fields.items()} for i in range(2)]

    def batch(self, step: int) -> dict[str, np.ndarray]:
        keys = [key for key in self.data.files if key.startswith(("batch/", "noise/"))]
        batch = {key.split("/")[1]: self.data[key][step] for key in keys}
        return {name: value.astype(np.float32) / 255 if value.dtype == np.uint8 else value
                for name, value in batch.items()}

    def metric(self, name: str, step: int) -> float:
        rows = self.data[f"info/{name}"]
        return float(rows[rows[:, 0] == step][0, 1])

    def sample(self, stage: str, name: str) -> np.ndarray:
        return self.data[f"{stage}/sample/{name}"]

    def norms(self, stage: str, name: str) -> np.ndarray:
        return self.data[f"{stage}/norms/{name}"]


def thin(array: np.ndarray) -> np.ndarray:
    """The elements of a variable that a case stores."""
    return array.reshape(-1)[::max(1, -(-array.size // 2048))]


def call_with_gradients(agent, call: str, batch: dict) -> tuple[dict, dict[str, np.ndarray]]:
    """Make a call; the metrics it returned, and the gradients that it descended by TensorFlow's names and layout."""
    if isinstance(agent, Agent):
        info = getattr(agent, call)(batch)
        return info, {name: tensor.grad.permute(axes).numpy().copy()
                      for name, (tensor, axes) in tf_names.entries(agent).items() if tensor.grad is not None}
    critic, policy = call != "train_pi", call == "train_pi" or (call == "train" and agent.pi_delay_freq == 1)
    gradients, _ = agent.gradients(agent.feed(batch, critic, policy), critic, policy)
    named = {name: gradient.numpy() for optimizer, values in gradients.items()
             for name, gradient in zip(agent.optimizers[optimizer].trained, values, strict=True)}
    return getattr(agent, call)(batch), named
