"""Train an agent of MarineNav in TorchRL; `python -m torchrl_gpu.train_torchrl_gpu -C config.json -D cuda`."""

import sys
from collections.abc import Sequence

from program import complain, leave_early, run_program

NAME = f"python -m {__package__}.train_torchrl_gpu"
EXAMPLES = f"""
examples:
  {NAME} -C configs/marinenav/config_AC_IQN.json -D cuda
  {NAME} --env=MarineNav-v0 --alg=iqn --total_timesteps=100000
  {NAME} --resume outputs/RUN         resumes one that was stopped or killed
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: that of train.py, with a file of MarineNav's trainer or of this package's settings.

    Returns: the codes of train.py.
    """
    def work() -> int:
        check_installed()
        from utils.settings.cli import Usage, parse_args
        usage = Usage(NAME, "Train an agent of MarineNav in TorchRL.", EXAMPLES)
        config = parse_args(sys.argv[1:] if argv is None else argv, usage)
        from torchrl_gpu.torchrl_trainer import train
        from utils.stop import Stop, Stopped
        with Stop() as stop:
            try:
                train(config, stop)
            except Stopped:
                return complain(NAME, stop.told(), stop.exit_code)
        return 0
    return run_program(NAME, work, "try a smaller env_batch_size, or grad_accum_steps")


def check_installed() -> None:
    """Raise a ConfigError if TorchRL is not installed; quieten what it logs."""
    import importlib.util
    import logging

    from utils.errors import ConfigError
    from utils.installed import pip_install
    if importlib.util.find_spec("torchrl") is None:
        raise ConfigError(f"torchrl is not installed; `{pip_install('torchrl')}` installs it")
    import torchrl  # noqa: F401 (it sets up its log)
    logging.getLogger("torchrl").setLevel(logging.WARNING)


if __name__ == "__main__":
    leave_early()
    sys.exit(main())
