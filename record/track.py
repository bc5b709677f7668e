"""Log the metrics of a run to Weights & Biases as well (`--track`).

After the start, an error there is only a warning.
"""

from __future__ import annotations

import contextlib
import inspect
import netrc
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from utils.errors import ConfigError
from utils.installed import pip_install
from utils.settings.fields import Config
from utils.text import one_line

PROJECT = "return-decomposition"
LONGEST_TAG = 64                # the limit of the service


def import_wandb() -> Any:
    """Import the package.

    Raises:
        ConfigError: it is not installed, or importing it raised an error.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        import wandb
    except Exception as error:                          # such as protobuf's, if versions are incompatible
        if not isinstance(error, ModuleNotFoundError) or error.name != "wandb":
            raise ConfigError(f"track: wandb cannot be imported: {type(error).__name__}: {one_line(error)[:300]}; "
                              "reinstall it, or leave out --track") from None
        wandb = None
    if not hasattr(wandb, "init"):      # offline runs leave a folder of that name, an empty package
        raise ConfigError(f"track: wandb is not installed; {pip_install('track')} installs it")
    return wandb


def new_id() -> str:
    """Return an id for a run of Weights & Biases."""
    return secrets.token_hex(4)         # independent of the run's generators


class Tracker:
    """A run of Weights & Biases; several may be open in a process, each in its own thread."""

    def __init__(self, config: Config, directory: Path, run_id: str, warn: Callable[[str], None]):
        """Begin the run of this id, or resume it.

        Args:
            warn: called once with a line if tracking fails; nothing is tracked afterwards.
        """
        self.run, self.warn = None, warn
        with self._harmless():
            self.run = _begin(config, directory, run_id)

    def log(self, means: Mapping[str, float | None], steps: int) -> None:
        """Log the metrics of a cycle that have a value."""
        if self.run is not None:
            with self._harmless():
                self.run.log({name: value for name, value in means.items() if value is not None}, step=steps)

    def close(self, exit_code: int) -> None:
        """End the run."""
        if self.run is not None:
            with self._harmless():
                self.run.finish(exit_code=exit_code)
            self.run = None

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        """Turn an error into a warning; nothing is tracked afterwards."""
        try:
            yield
        except Exception as error:
            self.run = None
            self.warn("note: Weights & Biases failed, the run continues without it: "
                      f"{type(error).__name__}: {one_line(error)[:200]}")


def _begin(config: Config, directory: Path, run_id: str) -> Any:
    wandb = import_wandb()
    # Capturing the output would break the progress bar; without a limit it would wait minutes for an answer.
    settings = wandb.Settings(silent=True, console="off", init_timeout=30)
    return wandb.init(project=os.environ.get("WANDB_PROJECT") or PROJECT, id=run_id, name=directory.name,
                      dir=str(directory), config=config.settings(), tags=_tags(config), mode=_mode(wandb),
                      resume="allow", allow_val_change=True, reinit="create_new", settings=settings)


def _tags(config: Config) -> list[str]:
    tags = (config.tag, config.alg, config.basis_alg, config.env)
    return list(dict.fromkeys(tag[:LONGEST_TAG] for tag in tags if tag))


def _mode(wandb: Any) -> str:
    """Return WANDB_MODE, or offline if the user has not logged in, because it would ask for a login."""
    return os.environ.get("WANDB_MODE") or ("online" if _logged_in(wandb) else "offline")


def _logged_in(wandb: Any) -> bool:
    """Return whether the user has logged in: by wandb since 0.30, else by a variable or ~/.netrc."""
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
