"""Write a run's model in another program's form, or in one for all: `rrd export RUN --format arena|safetensors`."""

from __future__ import annotations

import argparse
import io
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from algorithm.marinenav_files import write_published
from algorithm.model_file import stats_of
from envs.marinenav.evaluations import published_evaluations
from learner.loading import find_run, load_found
from program import run_program
from results.metrics import STEPS, read_metrics
from utils.errors import ConfigError
from utils.files import saving, write_file
from utils.settings.algorithms import any_of
from utils.settings.cli import Parser
from utils.settings.completion import add_completion
from utils.settings.json_files import read_json

PROGRAMS = ("arena", "marinenav")                       # whose form is written; the others load without any
FORMATS = (*PROGRAMS, "safetensors", "exported", "onnx")
WHATS = ("reward", "policy")
NAMES = {"shared": "shared_net", "actor": "actor", "critic": "critic"}          # ours -> the published program's


def main(argv: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    def work() -> int:
        args = _parse(argv)
        paths = export_run(args)
        if args.evaluations:
            paths.append(export_evaluations(args.run, args.out))
        for path in paths:
            print(f"written to {path}")
        return 0
    return run_program("export", work)


def export_run(args: argparse.Namespace) -> list[Path]:
    """Write the model in the form that the options name; return the paths of its files."""
    if args.format in PROGRAMS:
        export = {"arena": export_arena, "marinenav": export_marinenav}[args.format]
        return export(args.run, args.checkpoint or "last", args.out)
    from return_decomposition.models import export_model
    return export_model(args.run, args.what or "reward", args.format, args.checkpoint, args.out)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="export", allow_abbrev=False, description="Write a run's model in another program's form.")
    parser.add_argument("run", metavar="RUN", help="the directory of a run, such as outputs/RUN")
    parser.add_argument("--format", required=True, metavar="|".join(FORMATS), help="arena: checkpoint, metadata and "
                        "statistics under the names of the published PyTorch program of Arena; marinenav: weights and "
                        "constructor arguments under those of the published MarineNav program; safetensors (of dense "
                        "layers), exported (a program of torch.export) and onnx: with a card and a script that loads "
                        "it without this package")
    parser.add_argument("--what", metavar="|".join(WHATS), help="of the last three: the learned reward, or the policy "
                        "(default: reward)")
    parser.add_argument("--checkpoint", default="", metavar="last|best", help="default: last for arena and marinenav, "
                        "else best")
    parser.add_argument("--out", default="", metavar="DIR", help="directory to write to (default: RUN/export; of the "
                        "last three RUN/export/WHAT-FORMAT)")
    parser.add_argument("--evaluations", action="store_true", help="of marinenav: also evaluations.npz as the "
                        "published viewer reads it, with pickled lists")
    add_completion(parser)
    args = parser.parse_args(argv)
    if args.evaluations and args.format != "marinenav":
        raise ConfigError(f"evaluations: read with --format=marinenav alone, got {args.format!r}")
    for name, value, known in (("format", args.format, FORMATS), ("checkpoint", args.checkpoint, ("last", "best")),
                               ("what", args.what, WHATS)):
        if value and value not in known:
            raise ConfigError(f"{name}: got {value!r}, expected {any_of(list(known))}")
    if args.what and args.format in PROGRAMS:
        raise ConfigError(f"what: not read with --format={args.format}, which is of policies; expected one of "
                          f"{', '.join(FORMATS[len(PROGRAMS):])}")
    return args


def export_arena(run: str, checkpoint: str = "last", out: str = "") -> list[Path]:
    """Write `<name>_<n>_steps.pt`, `..._metadata.json` and `..._normalization.json`; return their paths.

    Args:
        out: the directory; RUN/export by default.
    Raises:
        ConfigError: the run is none of PPO with dense layers on Arena-v0.
        CheckpointError: the checkpoint is missing or damaged.
        SaveError: a file could not be written.
    """
    directory, path = find_run(run, checkpoint)
    style = _style(directory)
    agent, steps = load_found(directory, path), int(read_metrics(directory)[STEPS][-1])
    folder = Path(out) if out else directory / "export"
    with saving(folder, 0):
        folder.mkdir(parents=True, exist_ok=True)
    name = "_".join(["ppo_torch", f"style{style}", *_time(directory)])
    stem = folder / f"{name}_{steps}_steps"
    data = io.BytesIO()
    torch.save({"policy_state_dict": policy_state(agent), "optimizer_state_dict": optimizer_state(agent),
                "num_timesteps": steps}, data)
    texts = {"metadata": {"step": steps, "algorithm": "ppo_torch", "style": style,
                          "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S")}}
    texts |= {"normalization": stats} if (stats := stats_of(agent)) else {}
    written = {stem.with_name(f"{stem.name}.pt"): data.getvalue()}
    written |= {stem.with_name(f"{stem.name}_{what}.json"): (json.dumps(value, indent=2) + "\n").encode()
                for what, value in texts.items()}
    for target, content in written.items():
        write_file(target, content)
    return list(written)


def export_marinenav(run: str, checkpoint: str = "last", out: str = "") -> list[Path]:
    """Write the `.pth` weights and the JSON constructor arguments of each network; return their paths.

    Args:
        out: the directory; RUN/export by default.
    Raises:
        ConfigError: the run is of none of the published program's agents, or over another encoder.
        CheckpointError: the checkpoint is missing or damaged.
        SaveError: a file could not be written.
    """
    directory, path = find_run(run, checkpoint)
    agent = load_found(directory, path)
    folder = Path(out) if out else directory / "export"
    with saving(folder, 0):
        folder.mkdir(parents=True, exist_ok=True)
    return write_published(folder, agent)


def export_evaluations(run: str, out: str = "") -> Path:
    """Write `evaluations.npz` as the published program does, with pickled lists; return its path.

    Args:
        out: the directory; RUN/export by default.
    Raises:
        CheckpointError: a file of the evaluations is missing or damaged.
        SaveError: the file could not be written.
    """
    path, data = Path(out or Path(run) / "export") / "evaluations.npz", io.BytesIO()
    if path.parent.resolve() == Path(run).resolve():
        raise ConfigError(f"out: got {out!r}, the run's own directory, whose evaluations.npz would be lost; expected "
                          "another one")
    np.savez(data, **published_evaluations(Path(run)))
    write_file(path, data.getvalue())
    return path


def _style(run: Path) -> int:
    """The style of a run of Arena that the published program can read."""
    settings = read_json(run / "config.json")
    for name, expected in (("env", "Arena-v0"), ("alg", "ppo"), ("policy", "actor_critic"), ("optimizer", "adam")):
        if settings.get(name) != expected:
            raise ConfigError(f"export: {str(run)!r} has {name} {settings.get(name)!r}, expected {expected!r}: the "
                              "published program has no other")
    return (settings.get("env_kwargs") or {}).get("style", 1)


def _time(run: Path) -> list[str]:
    """The time in the name of a run's directory, as the published program writes it."""
    found = re.search(r"_(\d{8})-(\d{6})", run.absolute().name)
    return [found[1], found[2]] if found else []


def policy_state(agent: Any) -> dict[str, torch.Tensor]:
    """Return the policy's parameters by the published names: `shared_net.0.weight` and so on."""
    return {_published(name): tensor.detach().clone() for name, tensor in agent.policy.named_parameters()}


def _published(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{NAMES[first]}.{rest}"


def optimizer_state(agent: Any) -> dict[str, Any]:
    """Return what `torch.optim.Adam` over these parameters, in their order, would return of its state."""
    (opt, group), = agent.groups()
    copies = [parameter.detach().clone() for parameter in group["params"]]
    adam = torch.optim.Adam(copies, lr=group["lr"], betas=tuple(group["betas"]), eps=group["eps"])
    for copy, parameter in zip(copies, group["params"], strict=True):
        held = opt.state[parameter]
        adam.state[copy] = {name: held[name].detach().clone() for name in ("step", "exp_avg", "exp_avg_sq")}
    return adam.state_dict()
