"""The command line of train.py, made from the settings: one flag a field, `--a_b` and `--a-b` alike."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from utils.errors import ConfigError
from utils.settings.completion import add_completion
from utils.settings.fields import ALGORITHMS, DECOMPOSITIONS, FIELDS, IRCR_BATCH, Config
from utils.settings.imports import add_import, import_modules, named_modules, search_here
from utils.settings.json_files import read_json
from utils.settings.resolve import choices_of, coerce, field_type, resolve
from utils.text import did_you_mean, shown

EXAMPLES = """
examples:
  python train.py --tag='RRD Ant-v2' --alg=rrd --basis_alg=sac --env=Ant-v2
  python train.py --alg=rrd --basis_alg=td3 --env=HalfCheetah-v4 --total_timesteps=100000 --seed=1
  python train.py --config outputs/RUN/config.json        repeats a run
  python train.py --resume outputs/RUN                    goes on with one that was stopped or killed
  python train.py --import=my_rewards --alg=my_decomposition      what my_rewards.py registers, see docs/extending
"""


class Parser(argparse.ArgumentParser):
    """One that complains by a ConfigError: every program's."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(re.sub(r"^argument (--\w+)\S*:", r"\1:", message).removeprefix("argument "))


def parse_args(argv: Sequence[str]) -> Config:
    """The settings that the command line asks for.

    Raises:
        ConfigError: a flag, a JSON key or a value is wrong; nothing was built yet.
        SystemExit: `--help` or `--completion` was asked for, and is printed.
    """
    modules = named_modules(argv)
    import_modules(modules)                             # before the parser is made, which knows what they register
    given, unknown = _parser().parse_known_args(argv)
    if unknown:
        raise _unknown(unknown[0].split("=")[0])
    flags = vars(given)
    del flags["modules"]
    path, directory = flags.pop("config", None), flags.pop("resume", None)
    if directory is not None:
        path = _config_of(directory, path, flags)
    from_file = read_json(path) if path is not None else {}
    if ":" in flags.get("env", ""):
        search_here()
    if "env" not in flags:
        check_import(from_file.get("env") or "", path)
    if "epochs" in flags:
        if "total_timesteps" in flags:
            raise ConfigError("epochs: not read with --total_timesteps; give one of the two")
        from_file.pop("total_timesteps", None)          # the flag wins
    _check_seeds(flags, from_file)
    given = {name: coerce(name, text) for name, text in flags.items()}
    try:
        config = resolve(from_file | given)
    except ConfigError as error:
        name = str(error).partition(":")[0]
        hint = f" (it stands in {path})" if name in from_file and name not in given else ""
        raise ConfigError(f"{error}{hint}") from None
    _check_run(config)
    config.resume, config.imports = directory, tuple(modules)
    return config


def _config_of(directory: str, path: str | None, flags: dict[str, Any]) -> str:
    """The settings of a run that is gone on with."""
    for name in ("config", "seeds", "on_existing"):
        if name in flags or (name == "config" and path is not None):
            raise ConfigError(f"{name}: not read with --resume, whose run has its settings"
                              + ("; --on_existing=resume goes on with several seeds" if name == "seeds" else ""))
    if not os.path.isfile(os.path.join(directory, "config.json")):          # False for a name that is too long, too
        raise ConfigError(f"resume: got {directory!r}, expected a run's directory, such as outputs/RUN")
    return str(Path(directory) / "config.json")


def check_import(env: str, path: str) -> None:
    """A file from somebody else must not choose which module is imported; only the command line may."""
    if ":" in env:
        raise ConfigError(f"env: {env!r} in {path} names a module to import, which only a flag may: give "
                          f"--env={shlex.quote(env)}")


def _check_seeds(flags: dict[str, Any], from_file: dict[str, Any]) -> None:
    """One of `seed` and `seeds`; a flag takes the other one out of the file's settings."""
    for given in (flags, from_file):
        if given.get("seed") is not None and given.get("seeds") is not None:
            raise ConfigError("seed: not read with --seeds; give one of the two")
    for flag, other in (("seed", "seeds"), ("seeds", "seed")):
        if flag in flags:
            from_file.pop(other, None)


def _unknown(word: str) -> ConfigError:
    if not word.startswith("-"):
        return ConfigError(f"{word!r}: expected a --flag before it")
    hint = did_you_mean(word.lstrip("-"), [*FIELDS, "config", "resume", "import", "completion"])
    return ConfigError(f"{shown(word)}: unknown flag{hint.replace('mean ', 'mean --')}")


def _check_run(config: Config) -> None:
    """What only a run needs, not an agent by itself."""
    # With discrete actions there may be images, of which no best episodes are kept; their replay knows.
    if config.alg == "ircr" and config.batch_size < 2 and not config.discrete:
        raise ConfigError(IRCR_BATCH)
    if config.buffer_size < config.test_timesteps:
        raise ConfigError(f"buffer_size: got {config.buffer_size}, expected at least test_timesteps "
                          f"({config.test_timesteps}): an episode must fit")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="train.py", allow_abbrev=False, argument_default=argparse.SUPPRESS,
                    formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES + _algorithm_table(),
                    description="Train an agent on the return of whole episodes (Randomized Return Decomposition).")
    parser.add_argument("--config", metavar="FILE", help="JSON file of settings; flags win over it")
    parser.add_argument("--resume", metavar="DIR", help="go on with the run in this directory, to the bit; flags may "
                        "change its length and what is written")
    add_import(parser)
    add_completion(parser)
    groups: dict[str, Any] = {}
    for name, field in FIELDS.items():
        section = field.metadata["section"]
        if section not in groups:
            groups[section] = parser.add_argument_group(section)
        flags = dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"])
        is_bool = field_type(name) is bool
        groups[section].add_argument(*flags, dest=name, help=_help(field), metavar=_metavar(name),
                                     **(dict(nargs="?", const="True") if is_bool else {}))
    return parser


def _help(field) -> str:
    text = field.metadata["help"].replace("%", "%%")
    return text if field.default in (None, "") else f"{text} (default: {field.default})"


def _metavar(name: str) -> str:
    choices = choices_of(name)
    by_type = {int: "N", float: "X", bool: "True|False", str: "TEXT", tuple[int, ...]: "LIST"}
    return "|".join(choices) if choices else by_type[field_type(name)]


def _algorithm_table() -> str:
    lines = ["\ndefaults by algorithm:"]
    for alg, defaults in (ALGORITHMS | DECOMPOSITIONS).items():
        text = ", ".join(f"{name}={value}" for name, value in defaults.items()) or "those of its basis"
        lines += textwrap.wrap(f"{alg}: {text}", 100, initial_indent="  ", subsequent_indent="        ")
    lines.append("  On Humanoid, ircr over sac takes alpha_lr=0, alpha_init=0.1.")
    return "\n".join(lines)
