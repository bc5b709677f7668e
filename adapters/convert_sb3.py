"""Convert a model of Stable-Baselines3 to this package.

    python -m adapters.convert_sb3 MODEL.zip [--vecnormalize STATS.pkl] --out MODEL.pt

writes MODEL.pt and, with the statistics of a VecNormalize, MODEL_normalization.json. `return_decomposition.load` and
`evaluate.py` take MODEL.pt. PPO, A2C, RecurrentPPO, SAC, TD3, DDPG and DQN with dense layers are converted: networks
and statistics, not optimisers. Nothing in the files is run. Exit code 0; 2 for a wrong argument or file; 1 if a file
cannot be written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from adapters.sb3_files import Saved, read_vecnormalize, read_zip
from adapters.sb3_networks import convert
from algorithm.create import create_agent
from algorithm.model_file import SUFFIX, Model, settings_with, stats_path, write_model
from utils.errors import CheckpointError, ConfigError
from utils.settings.cli import Parser
from utils.settings.sizes import with_sizes
from utils.text import one_line
from utils.torch_state import apart

PROGRAM = "python -m adapters.convert_sb3"


class Result(NamedTuple):
    """A converted model: the agent, its statistics, and the file that it was read from."""

    agent: Any
    stats: Mapping[str, Any]
    saved: Saved


@apart
def convert_files(model: str | Path, vecnormalize: str | Path | None = None) -> Result:
    """Convert the zip of a model and, if there is one, the pickle of a VecNormalize.

    Raises:
        CheckpointError: a file is missing, damaged, or of another kind.
    """
    saved = read_zip(model)
    found = convert(saved)
    settings: dict[str, Any] = {**found.settings, "device": "cpu", "obs_normalization": False}
    stats: Mapping[str, Any] = {}
    if vecnormalize is not None:
        held = read_vecnormalize(vecnormalize, saved.parts)
        stats = held.stats
        if held.clip is not None:
            settings |= {"obs_normalization": True, "obs_clip": held.clip, "obs_eps": held.eps}
    try:
        config = with_sizes(settings_with(settings), found.obs_dim, found.act_dim,
                            acts_discrete=saved.actions is not None)
        agent = create_agent(config)
    except (ConfigError, RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{model}: {one_line(error)}") from None
    Model(Path(model), {}, {}, found.nets, stats or None).load_into(agent)
    return Result(agent, stats, saved)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    try:
        args = _parse(sys.argv[1:] if argv is None else argv)
        out = Path(args.out)
        agent, stats, _ = convert_files(args.model, args.vecnormalize)
        write_model(out, agent, stats)
    except (ConfigError, CheckpointError) as error:
        return _complain(error, 2)
    except OSError as error:
        return _complain(error, 1)
    config = agent.config
    print(f"{args.model}: {config.alg}, {config.obs_dims[0]} observations, {config.acts_dims[0]} "
          f"{'actions' if config.discrete else 'continuous actions'}; written to {out}"
          + (f" and {stats_path(out)}" if stats else ""))
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog=PROGRAM, allow_abbrev=False, description=__doc__.partition("\n")[0])
    parser.add_argument("model", metavar="MODEL.zip", help="what `model.save` of Stable-Baselines3 wrote")
    parser.add_argument("--vecnormalize", metavar="STATS.pkl", help="what `env.save` of a VecNormalize wrote")
    parser.add_argument("--out", required=True, metavar="MODEL.pt", help="the file to write")
    args = parser.parse_args(argv)
    if Path(args.out).suffix != SUFFIX or not Path(args.out).absolute().parent.is_dir():
        raise ConfigError(f"out: got {args.out!r}, expected a file's name that ends in {SUFFIX}, in a directory that "
                          "exists")
    return args


def _complain(error: Exception, code: int) -> int:
    print(f"{PROGRAM}: {one_line(error)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
