"""Weights & Biases: what a run writes to `metrics.csv`, there as well (`--track`).

Nothing that goes wrong there, after the start, is more than a warning.
"""

from __future__ import annotations

import contextlib
import inspect
import netrc
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from utils.errors import ConfigError
from utils.installed import pip_install
from utils.settings.fields import Config
from utils.text import one_line

PROJECT = "return-decomposition"
LONGEST_TAG = 64                # the service takes no longer ones


def import_wandb() -> Any:
    """The package, if it is there and works.

    Raises:
        ConfigError: it is not; names the extra, or what importing it has raised.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        import wandb
    except Exception as error:                          # such as protobuf's, where versions do not go together
        if not isinstance(error, ModuleNotFoundError) or error.name != "wandb":
            told = one_line(error)[:300]
            raise ConfigError(f"track: wandb cannot be imported: {type(error).__name__}: {told}; expected one that "
                              "can, or no --track") from None
        wandb = None
    if not hasattr(wandb, "init"):      # a folder of that name, which offline runs leave, is a package without it
        raise ConfigError(f"track: wandb is not installed; {pip_install('track')} installs it")
    return wandb


def new_id() -> str:
    return secrets.token_hex(4)         # from no generator that a run draws from


class Tracker:
    """One run of Weights & Biases; several may be open in a process, each in a thread of its own."""

    def __init__(self, config: Config, directory: Path, run_id: str, warn: Callable[[str], None]):
        """Begin it, or go on with the one of that id.

        Args:
            warn: is told, once, what does not work; from then on nothing is tracked.
        """
        self.run, self.warn = None, warn
        with self._harmless():
            self.run = _begin(config, directory, run_id)

    def log(self, means: Mapping[str, float | None], steps: int) -> None:
        """The metrics of a cycle; those that have no value are left out."""
        if self.run is not None:
            with self._harmless():
                self.run.log({name: value for name, value in means.items() if value is not None}, step=steps)

    def close(self, exit_code: int) -> None:
        if self.run is not None:
            with self._harmless():
                self.run.finish(exit_code=exit_code)
            self.run = None

    @contextlib.contextmanager
    def _harmless(self):
        try:
            yield
        except Exception as error:
            self.run = None
            told = one_line(error)[:200]
            self.warn(f"note: Weights & Biases failed, the run goes on without: {type(error).__name__}: {told}")


def _begin(config: Config, directory: Path, run_id: str) -> Any:
    wandb = import_wandb()
    # Its output's capture would take the progress bar apart; without an answer it would wait for minutes.
    settings = wandb.Settings(silent=True, console="off", init_timeout=30)
    return wandb.init(project=os.environ.get("WANDB_PROJECT") or PROJECT, id=run_id, name=directory.name,
                      dir=str(directory), config=config.settings(), tags=_tags(config), mode=_mode(wandb),
                      resume="allow", allow_val_change=True, reinit="create_new", settings=settings)


def _tags(config: Config) -> list[str]:
    tags = (config.tag, config.alg, config.basis_alg, config.env)
    return list(dict.fromkeys(tag[:LONGEST_TAG] for tag in tags if tag))


def _mode(wandb: Any) -> str:
    """What the user's WANDB_MODE says; else offline where nobody has logged in, for there it would ask."""
    return os.environ.get("WANDB_MODE") or ("online" if _logged_in(wandb) else "offline")


def _logged_in(wandb: Any) -> bool:
    """By wandb's own look, since 0.30; else a variable, or the server's entry in ~/.netrc, by `wandb login`."""
    if "prompt" in inspect.signature(wandb.login).parameters:
        return bool(wandb.login(prompt=False, verify=False))
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").netloc
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        found = netrc.netrc(path).authenticators(host)
        return found is not None and bool(found[2])
    except (OSError, netrc.NetrcParseError):
        return False
