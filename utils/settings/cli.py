"""The command line of train.py, made from the settings: one flag for each, `--a_b` and `--a-b` alike."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from utils.errors import ConfigError
from utils.installed import as_called, called
from utils.settings.algorithms import ALGORITHMS, IRCR_BATCH, decompositions, defaults_of, names
from utils.settings.arena_flags import split
from utils.settings.completion import add_completion
from utils.settings.fields import FIELDS, Config, all_settings
from utils.settings.imports import add_import, import_modules, named_modules, search_here
from utils.settings.json_files import NO_FORM, read_json
from utils.settings.marinenav_form import AGENT_TYPES
from utils.settings.near import called_elsewhere
from utils.settings.resolve import choices_of, coerce, effective, resolve
from utils.settings.setting import Setting
from utils.text import did_you_mean, shown

WORDS = ("agent_type", "num_procs")     # flags of the published MarineNav trainer that are no settings
FLAGS = ("config", "resume", "import", "completion", "help", *WORDS)        # the flags that are no settings
CONFIG_FLAGS = ("--config", "--config_file", "--config-file", "-C")
EXAMPLES = """
examples:
  python train.py --tag='RRD Ant-v2' --alg=rrd --basis_alg=sac --env=Ant-v2
  python train.py --alg=rrd --basis_alg=td3 --env=HalfCheetah-v4 --total_timesteps=100000 --seed=1
  python train.py --config outputs/RUN/config.json        repeats a run
  python train.py --resume outputs/RUN                    resumes one that was stopped or killed
  python train.py --algo ppo_torch --style 2 --steps 1000000      the published Arena program's words, see docs/arena.md
  python train.py --config FILE.json --agent-type IQN -P 2        a file of MarineNav's trainer, see docs/marinenav.md
  python train.py --import=my_rewards --alg=my_decomposition      registered by my_rewards.py, see docs/extending
"""


class Usage(NamedTuple):
    """What the help of a program says of it: its name, a sentence, and examples."""

    prog: str
    description: str
    examples: str


TRAIN = Usage("train.py", "Train an agent on the return of whole episodes (Randomized Return Decomposition).", EXAMPLES)


class Parser(argparse.ArgumentParser):
    """The parser of every program: an error is a ConfigError, and help names the commands that the user can give."""

    def __init__(self, prog: str, **options: Any):
        super().__init__(prog=called(prog), **options)

    def format_help(self) -> str:
        return as_called(super().format_help())

    def error(self, message: str) -> NoReturn:
        raise ConfigError(re.sub(r"^argument (--\w+)\S*:", r"\1:", message).removeprefix("argument "))


def parse_args(argv: Sequence[str], usage: Usage = TRAIN) -> Config:
    """The settings that the command line asks for.

    Args:
        usage: of the program whose command line it is.
    Raises:
        ConfigError: a flag, a JSON key or a value is wrong.
        SystemExit: after `--help` or `--completion` was printed.
    """
    modules = named_modules(argv)
    import_modules(modules)                             # first: the parser has a flag for every setting of theirs
    published, argv = split(argv)
    flags = flags_of(argv, usage)
    flags = _published(published, flags) | flags
    path, directory = flags.pop("config", None), flags.pop("resume", None)
    words = given_words(flags)
    return combine({name: text for name, text in flags.items() if name not in WORDS}, path, directory, modules, words)


def combine(flags: dict[str, Any], path: str | None = None, directory: str | None = None,
            modules: Sequence[str] = (), words: Mapping[str, Any] | None = None) -> Config:
    """Return the settings of a run: those given by name, over those of a file.

    Args:
        flags: settings by name, as text or as Python values.
        path: a JSON file of settings.
        directory: the run to be resumed, instead of `path`.
        modules: the modules of `--import`.
        words: values by the published names of MarineNav's trainer, see `given_words`.
    Raises:
        ConfigError: a name, a JSON key or a value is wrong.
    """
    if directory is not None:
        path = _config_of(directory, path, flags)
    notes: list[str] = []
    if path is None and "agent_type" in (words or {}):
        raise ConfigError(NO_FORM)
    from_file = _from_file(path, flags, notes, words or {})
    config = _resolved(from_file, {name: coerce(name, text) for name, text in flags.items()}, path,
                       directory is not None)
    _check_run(config)
    return dataclasses.replace(config, resume=directory, imports=tuple(modules), notes=tuple(notes))


def _published(published: dict[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of published words, less those that have no effect beside the flags."""
    ours = {name: text for name, text in flags.items() if name in all_settings()}
    effects = effective(published | ours) if published else {}
    return {name: value for name, value in published.items() if name in effects}


def flags_of(argv: Sequence[str], usage: Usage = TRAIN) -> dict[str, Any]:
    """The text of each flag that is given."""
    given, unknown = _parser(usage).parse_known_args(argv)
    if unknown:
        raise _unknown(unknown[0].split("=")[0])
    return {name: text for name, text in vars(given).items() if name != "modules"}


def given_words(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What flags say by names of the published MarineNav trainer, whose files they win over.

    Raises:
        ConfigError: a value is wrong.
    """
    Setting("num_procs", int, low=1).checked(flags.get("num_procs", 1))
    words = {"agent_type": flags["agent_type"]} if "agent_type" in flags else {}
    return words | {name: coerce(name, flags[name]) for name in ("total_timesteps", "seed") if name in flags}


def _from_file(path: str | None, flags: dict[str, Any], notes: list[str], words: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the file that flags leave as they are; what it says and that is not used goes to `notes`."""
    from_file = read_json(path, notes.append, words) if path is not None else {}
    if ":" in flags.get("env", ""):
        search_here()
    if "env" not in flags:
        check_import(from_file.get("env") or "", path)
    if "epochs" in flags:
        if "total_timesteps" in flags:
            raise ConfigError("epochs: not read with --total_timesteps; give one of the two")
        from_file.pop("total_timesteps", None)          # the flag wins
    if "env_type" in flags:
        if str(flags.get("reward_every", 0)) != "0":
            raise ConfigError("env_type: not read with --reward_every; give one of the two")
        from_file.pop("reward_every", None)             # the flag wins
    _check_seeds(flags, from_file)
    return from_file


def _resolved(from_file: dict[str, Any], given: dict[str, Any], path: str | None, is_record: bool) -> Config:
    """The settings, resolved; an error about a setting of the file names the file.

    Args:
        is_record: whether the file is the record of the run that is resumed; an older one may hold settings that have
            no effect.
    """
    try:
        return resolve((effective(from_file) if is_record else from_file) | given)
    except ConfigError as error:
        name = str(error).partition(":")[0]
        hint = f" (set in {path})" if name in from_file and name not in given else ""
        raise ConfigError(f"{error}{hint}") from None


def _config_of(directory: str, path: str | None, flags: dict[str, Any]) -> str:
    """The file with the settings of the run that is resumed."""
    for name in ("config", "seeds", "on_existing"):
        if name in flags or (name == "config" and path is not None):
            raise ConfigError(f"{name}: not read with --resume, whose run has its settings"
                              + ("; --on_existing=resume resumes several seeds" if name == "seeds" else ""))
    if not os.path.isfile(os.path.join(directory, "config.json")):          # False also for a name that is too long
        raise ConfigError(f"resume: got {directory!r}, expected a run's directory, such as outputs/RUN")
    return str(Path(directory) / "config.json")


def check_import(env: str, path: str) -> None:
    """Raise a ConfigError if a file names a module to import: only the command line may, since files are shared."""
    if ":" in env:
        raise ConfigError(f"env: {env!r} in {path} names a module to import, which only a flag may: give "
                          f"--env={shlex.quote(env)}")


def _check_seeds(flags: dict[str, Any], from_file: dict[str, Any]) -> None:
    """Allow one of `seed` and `seeds`; a flag removes the other one from the file's settings."""
    for given in (flags, from_file):
        if given.get("seed") is not None and given.get("seeds") is not None:
            raise ConfigError("seed: not read with --seeds; give one of the two")
    for flag, other in (("seed", "seeds"), ("seeds", "seed")):
        if flag in flags:
            from_file.pop(other, None)


def _unknown(word: str) -> ConfigError:
    if not word.startswith("-"):
        return ConfigError(f"{word!r}: expected a --flag before it")
    name = word.lstrip("-")
    near = did_you_mean(name, [*all_settings(), *FLAGS]).replace("mean ", "mean --")
    hint = called_elsewhere(name, all_settings(), "--") or near
    return ConfigError(f"{shown(word)}: unknown flag"
                       + (hint or "; the settings of an algorithm of your own need --import=MODULE"))


def _check_run(config: Config) -> None:
    """Raise a ConfigError if a run cannot work with these settings, though an agent by itself can."""
    # Over images, which only algorithms of discrete actions take, the batch may be smaller; the replay checks it.
    if config.batch_size < ALGORITHMS[config.alg].smallest_batch and not config.discrete:
        raise ConfigError(IRCR_BATCH)
    if config.on_policy and config.alg not in decompositions():         # it keeps no replay
        return
    if config.buffer_size < config.test_timesteps:
        raise ConfigError(f"buffer_size: got {config.buffer_size}, expected at least test_timesteps "
                          f"({config.test_timesteps}): an episode must fit")


def _parser(usage: Usage = TRAIN) -> argparse.ArgumentParser:
    parser = Parser(prog=usage.prog, allow_abbrev=False, argument_default=argparse.SUPPRESS,
                    formatter_class=argparse.RawDescriptionHelpFormatter, description=usage.description,
                    epilog=usage.examples + _algorithm_table())
    parser.add_argument("--config", *CONFIG_FLAGS[1:], metavar="FILE", help="JSON file of settings; flags win over it")
    parser.add_argument("--resume", metavar="DIR", help="resume the run in this directory, with the numbers of a run "
                        "that was never stopped; flags may change its length and what is written")
    parser.add_argument("--agent_type", "--agent-type", metavar="|".join(AGENT_TYPES), help="with a file of the form "
                        "of MarineNav's trainer: the agent, instead of the file's")
    parser.add_argument("--num_procs", "--num-procs", "-P", metavar="N", help="with such a file that is a grid of "
                        "trials: how many run at a time (default: 1)")
    add_import(parser)
    add_completion(parser)
    groups: dict[str, Any] = {}
    for setting in all_settings().values():
        heading = setting.group.heading + setting.group.note
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        _add_flag(groups[heading], setting)
    return parser


def _add_flag(group: Any, setting: Setting) -> None:
    flags = dict.fromkeys([f"--{setting.name}", f"--{setting.name.replace('_', '-')}"])
    flags |= {"-D": None} if setting.name == "device" else {}
    alone = dict(nargs="?", const="True") if setting.type is bool else {}
    group.add_argument(*flags, dest=setting.name, help=_help(setting), metavar=_metavar(setting), **alone)


def _help(setting: Setting) -> str:
    default = setting.default
    if setting.name not in FIELDS:                      # of a registered algorithm
        default = ", ".join(f"{alg} {value}" for alg, value in defaults_of(setting.name).items() if value is not None)
    text = setting.help if default in (None, "") else f"{setting.help} (default: {default})"
    return text.replace("%", "%%")


def _metavar(setting: Setting) -> str:
    choices = choices_of(setting.name)
    by_type = {int: "N", float: "X", bool: "True|False", str: "TEXT", tuple[int, ...]: "N,N,...", dict: "JSON"}
    return "|".join(choices) if choices else "LIST" if setting.form == "seeds" else by_type[setting.type]


def _algorithm_table() -> str:
    lines = ["\ndefaults by algorithm:"]
    for alg in names():
        text = _settings_text(ALGORITHMS[alg].defaults) or "those of its basis"
        lines += textwrap.wrap(f"{alg}: {text}", 100, initial_indent="  ", subsequent_indent="        ")
    for alg in names():
        lines += [f"  On {one.task}, {alg} over {one.basis} takes {_settings_text(one.defaults)}."
                  for one in ALGORITHMS[alg].overrides]
    return "\n".join(lines)


def _settings_text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items() if value is not None)
