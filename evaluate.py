"""Evaluate a trained agent; `python evaluate.py --help`."""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from program import complain, leave_early, run_program

if TYPE_CHECKING:
    from learner.evaluation import Evaluation
    from utils.stop import Stop

EXAMPLES = """
examples:
  python evaluate.py outputs/RUN                                    its best checkpoint, ten greedy episodes
  python evaluate.py outputs/RUN --checkpoint last --episodes 100
  python evaluate.py outputs/RUN/checkpoints/best.safetensors --explore --seed 1
  python evaluate.py outputs/RUN --diagnose --video                 is the learned reward right?
  python evaluate.py outputs/RUN --import=my_rewards                the algorithm is registered by my_rewards.py
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns: 0; 1 if a disk fails or a number is not finite; 2 for a wrong argument or a damaged checkpoint; 75 after
        SIGTERM, SIGUSR1 or SIGHUP, 130 after Ctrl-C.
    """
    def work() -> int:
        return evaluate(parse_args(sys.argv[1:] if argv is None else argv))
    return run_program("evaluate.py", work, "try --device=cpu")


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parse the command line; `settings` holds the changed settings of the run, as text by name.

    Raises:
        ConfigError: an argument is wrong.
        SystemExit: after `--help` was printed.
    """
    from utils.settings.cli import Parser
    from utils.settings.completion import add_completion
    from utils.settings.imports import add_import
    parser = Parser(prog="evaluate.py", allow_abbrev=False, epilog=EXAMPLES,
                    formatter_class=argparse.RawDescriptionHelpFormatter,
                    description="Evaluate a trained agent: its true returns with intervals, and its learned reward.")
    add = parser.add_argument
    add("place", metavar="RUN_OR_CHECKPOINT", help="a run's directory, a .safetensors file in one, a "
        "model's file, MODEL.pt, or a directory of the published MarineNav program's files")
    add("--checkpoint", default="", metavar="last|best|FILE", help="of a run's directory (default: best, or "
        "last if the run was never evaluated)")
    add("--episodes", default="10", metavar="N", help="number of episodes (default: 10)")
    add("--seed", default="0", metavar="N", help="the same seed gives the same numbers (default: 0)")
    add("--explore", action="store_true", help="actions as in training; greedy without it")
    add("--env", metavar="ID", help="another environment of the same sizes; a module:id is read only from here")
    add("--env_kwargs", "--env-kwargs", metavar="JSON", help="arguments that the environment is made with (default: "
        "those with which the run evaluated)")
    add("--env_type", "--env-type", metavar="ep_rews|normal", help="as for train.py")
    add("--test_timesteps", "--test-timesteps", metavar="N", help="longest episode (default: the run's)")
    add("--curriculum", metavar="none|default|FILE.json", help="the last stage of this curriculum is played; none: the "
        "task as --env_kwargs makes it (default: the run's)")
    add("--greedy", metavar="mean|sample", help="of marinenav_sac: what a greedy action is (default: the run's)")
    add("--device", default="auto", metavar="TEXT", help="cpu, cuda, cuda:1, ..., mps or auto (default)")
    add("--json", default="", metavar="FILE", help="file of the results (default: RUN/evaluations/<time>.json)")
    add("--video", nargs="?", const="", metavar="FILE.mp4", help="record the first episode (default: beside the JSON)")
    add("--diagnose", action="store_true", help="compare the learned reward with the true one, on as "
        "many episodes of the other kind (exploring, or greedy) as well; draws the first episode's rewards as a PNG")
    add_import(parser)
    add_completion(parser)
    return checked(parser.parse_args(argv))


def checked(args: argparse.Namespace) -> argparse.Namespace:
    """Import the modules, convert the numbers, and check the paths.

    Raises:
        ConfigError: an argument is wrong.
    """
    from utils.errors import ConfigError
    from utils.settings.imports import import_modules, search_here
    from utils.settings.resolve import coerce
    import_modules(args.modules)
    if ":" in (args.env or ""):
        search_here()
    for name in ("episodes", "seed"):
        try:
            setattr(args, name, int(getattr(args, name)))
        except ValueError:
            raise ConfigError(f"{name}: got {getattr(args, name)!r}, expected an integer") from None
    if not 1 <= args.episodes <= 1_000_000:
        raise ConfigError(f"episodes: got {args.episodes}, expected an integer from 1 to 1000000")
    coerce("seed", args.seed)
    for name, path, ending in (("json", args.json, ".json"), ("video", args.video, ".mp4")):
        if path and not Path(path).absolute().parent.is_dir():
            raise ConfigError(f"{name}: got {path!r}, whose directory does not exist")
        if path and (not path.endswith(ending) or Path(path).is_dir()):
            raise ConfigError(f"{name}: got {path!r}, expected a file's name that ends in {ending}")
    names = ("env", "env_kwargs", "env_type", "test_timesteps", "curriculum", "greedy", "device")
    args.settings = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return args


def evaluate(args: argparse.Namespace) -> int:
    """Play, print, and write the results; return the exit code."""
    from results.video import choose_gl
    from utils.stop import Stop, Stopped
    note = choose_gl() if args.video is not None else None       # before anything imports MuJoCo
    if note:
        complain("evaluate.py", f"note: {note}")
    with Stop() as stop:
        try:
            write_results(args, *played(args, stop))
        except Stopped:
            return complain("evaluate.py", stop.told(), stop.exit_code)
    return 0


def played(args: argparse.Namespace, stop: "Stop") -> "tuple[Evaluation, dict[str, dict] | None]":
    """Return the evaluation, and the diagnosis or None."""
    from envs import close_env
    from learner.evaluation import diagnose_episodes, load_trained, play_episodes, prepare_diagnosis
    from learner.loading import find_run
    run, checkpoint = find_run(args.place, args.checkpoint)
    say = partial(complain, "evaluate.py")
    if checkpoint.stem == "last" and not args.checkpoint and run == Path(args.place):
        say("note: the run has no evaluations, so no best checkpoint; evaluating the last one")
    evaluation = load_trained(run, checkpoint, args.settings, stop)
    try:
        if args.diagnose:
            prepare_diagnosis(evaluation, say)
        play_episodes(evaluation, args.episodes, args.seed, args.explore, args.diagnose)
    finally:                                            # before a video makes another one
        close_env(evaluation.env, say)
    return evaluation, diagnose_episodes(evaluation) if args.diagnose else None


def write_results(args: argparse.Namespace, evaluation: "Evaluation", diagnosis: dict[str, dict] | None) -> None:
    """Print the results, and write their files.

    Raises:
        SaveError: a file could not be written.
    """
    from results.played import summarise
    from results.statistics import summary
    from utils.display import say
    from utils.files import saving, write_file
    returns = summary([one.true_return for one in evaluation.episodes], args.seed)
    path = Path(args.json) if args.json else new_path(evaluation.run / "evaluations")
    with saving(path.parent, 0):
        path.parent.mkdir(exist_ok=True)
    metrics = summarise([{"length": len(one.true), **one.metrics} for one in evaluation.episodes])
    facts = facts_of(args, evaluation, returns, metrics, diagnosis)
    write_file(path, (json.dumps(facts, indent=2, allow_nan=False) + "\n").encode())
    say(returns_table(args, evaluation, returns, metrics))
    if diagnosis:
        say(diagnosis_table(diagnosis))
    say(f"written to {path}")
    if diagnosis and evaluation.judge:
        draw_rewards(evaluation, path.with_suffix(".png"))
    if args.video is not None:
        film(evaluation, Path(args.video) if args.video else path.with_suffix(".mp4"), args.diagnose)


def returns_table(args: argparse.Namespace, evaluation: "Evaluation", returns: dict[str, dict],
                  metrics: dict[str, dict]) -> str:
    """Return the true returns and the lengths as a table, and a line for each of the task's metrics."""
    lengths = [len(one.true) for one in evaluation.episodes]
    own = {name for one in evaluation.episodes for name in one.metrics}
    kind, count = kind_of(args, evaluation), len(evaluation.episodes)
    lines = [f"{evaluation.checkpoint}: {count} {kind} episode{'s' * (count > 1)} of "
             f"{evaluation.config.env}, seed {args.seed}", f"{'return':8}{'':>12}   95 % interval"]
    for name, one in returns.items():
        interval = "{:.6g} to {:.6g}".format(*one["interval"]) if one["interval"] else "(none for one episode)"
        lines.append(f"{name:8}{one['value']:>12.6g}   {interval}")
    lines.append(f"{'length':8}{sum(lengths) / len(lengths):>12.6g}   {min(lengths)} to {max(lengths)}, the shortest "
                 "and the longest")
    return "\n".join([*lines, *(f"{name}: mean {one['mean']:.6g}, {one['min']:g} to {one['max']:g}"
                                for name, one in metrics.items() if name in own and one["mean"] is not None)])


def kind_of(args: argparse.Namespace, evaluation: "Evaluation") -> str:
    """Return the word for the actions: exploring, greedy, or samples of the policy."""
    if args.explore:
        return "exploring"
    return "sampled" if getattr(evaluation.config, "greedy", None) == "sample" else "greedy"


def diagnosis_table(diagnosis: dict[str, dict]) -> str:
    """Return the numbers of docs/diagnosis.md as a table; a dash if a number is not defined."""
    lines = [f"{'learned reward':18}" + "".join(f"{kind:>12}" for kind in diagnosis)]
    for name in diagnosis["both"]:
        values = [numbers[name] for numbers in diagnosis.values()]
        lines.append(f"{name:18}" + "".join(f"{'-' if value is None else f'{value:.4g}':>12}" for value in values))
    return "\n".join(lines)


def new_path(folder: Path) -> Path:
    """Return a new file name that says the time."""
    stem = time.strftime("%Y%m%d-%H%M%S")
    names = (folder / f"{stem}{suffix}.json" for suffix in ("", *(f"-{i}" for i in range(2, 1000))))
    return next(path for path in names if not path.exists())


def facts_of(args: argparse.Namespace, evaluation: "Evaluation", returns: dict, metrics: dict,
             diagnosis: dict | None) -> dict[str, Any]:
    """Return the content of the JSON file."""
    from record.system import describe_system
    episodes, config = evaluation.episodes, evaluation.config
    facts = {"checkpoint": {"path": str(evaluation.checkpoint), "sha256": evaluation.sha256,
                            "updates": evaluation.agent.updates},
             "episodes": len(episodes), "seed": args.seed, "explore": args.explore, "summary": returns,
             "returns": [one.true_return for one in episodes], "lengths": [len(one.true) for one in episodes],
             "metrics": metrics, "seeds": [one.seed for one in episodes], "settings": config.settings(),
             "system": describe_system(config.device)}
    return facts | ({"diagnosis": diagnosis} | credit_of(evaluation) if diagnosis else {})


def credit_of(evaluation: "Evaluation") -> dict[str, Any]:
    """Return the payments of the first episode, and those of all episodes by position in the episode."""
    if evaluation.judge is None:
        return {}
    from algorithm.decomposition.diagnosis import by_step
    first, played = evaluation.episodes[0], evaluation.episodes + evaluation.others
    return {"credit": {"unit": evaluation.judge.unit, "explored": first.explored,
                       "predicted": [float(x) for x in first.predicted], "true": [float(x) for x in first.true],
                       "by_step": by_step([one.predicted for one in played], [one.true for one in played])}}


def draw_rewards(evaluation: "Evaluation", path: Path) -> None:
    """Draw the rewards of the first episode as a PNG."""
    from results.reward_plots import draw_png
    from utils.display import say
    from utils.files import write_file
    from utils.installed import pip_install
    first = evaluation.episodes[0]
    title = f"{evaluation.config.env}: {'an exploring' if first.explored else 'a greedy'} episode"
    try:
        data = draw_png(first.predicted, first.true, evaluation.judge.unit == "reward", title)
    except ImportError:
        complain("evaluate.py", f"no picture: matplotlib is not installed; {pip_install('plot')} installs it")
        return
    write_file(path, data)
    say(f"written to {path}")


def film(evaluation: "Evaluation", path: Path, diagnose: bool) -> None:
    """Record the first episode as an mp4; an error is only reported, because the results are written already."""
    from results.video import missing_extra, undisturbed
    from utils.display import say
    from utils.text import one_line, printable
    missing = missing_extra()
    if missing:
        complain("evaluate.py", f"no video: {missing}")
        return
    with undisturbed():
        try:
            shoot(evaluation, path, diagnose and evaluation.judge is not None)
            say(f"written to {path}")
        except Exception as error:                      # drivers and encoders raise anything
            message = printable(one_line(error))[:300]
            complain("evaluate.py", f"no video: {type(error).__name__}: {message}")


def shoot(evaluation: "Evaluation", path: Path, diagnose: bool) -> None:
    """Play the first episode again, and record it."""
    from envs import close_env, make_env
    from learner.episodes import Stoppable
    from results.reward_plots import Strip
    from results.video import record as record_video
    first = evaluation.episodes[0]

    def strip(width: int) -> Strip:
        return Strip(first.predicted, first.true, evaluation.judge.unit == "reward", width)
    env = evaluation.film or Stoppable(make_env(evaluation.config, "rgb_array"), evaluation.env.stop)
    try:
        record_video(path, env, evaluation.config.env, first.seed, first.acts, strip if diagnose else None)
    finally:
        close_env(env, partial(complain, "evaluate.py"))


if __name__ == "__main__":
    leave_early()
    sys.exit(main())
