"""The tables of the speed benchmark, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import peers
from utils.text import human_bytes

PEERS = {who: peer.name for who, peer in peers.PEERS.items()} | {"tensorflow": "TensorFlow"}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, the first to the left."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    cells = [[cell.ljust(width) if i == 0 else cell.rjust(width)
              for i, (cell, width) in enumerate(zip(row, widths, strict=True))] for row in [head, *rows]]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in [cells[0], rule, *cells[1:]])


def updates_table(updates: dict[str, Any]) -> str:
    """The table of whole updates: a row for each program."""
    rows = []
    for name, found in updates.items():
        for who, rate in found["per_second"].items():
            mark = " (default)" if who == found["default_engine"] else ""
            rows.append([name, PEERS.get(who, who) + mark, f"{rate:.1f}", f"{found['mflop']:.1f}",
                         f"{found['share'][who]:.1%}", _times(found.get("to_fp32"), who),
                         *(_times(found.get(f"to_{peer}"), who) for peer in ("eager", *PEERS))])
    head = ["updates", "by", "/s", "MFLOP", "of ceiling", "x fp32", "x eager",
            *(f"x {peer}" for peer in PEERS.values())]
    return f"{_dropped(head, rows)}\n\n{_ceiling(updates)}"


def _ceiling(updates: dict[str, Any]) -> str:
    """The median of the best library of all rounds, and that of each one."""
    rates: dict[str, list[float]] = {"ceiling": []}
    for found in updates.values():
        for name, values in {"ceiling": found["ceiling_gflops"], **found["products_gflops"]}.items():
            rates.setdefault(name, []).extend(values)
    best, *others = (f"{name}: {statistics.median(values):.1f} GFLOP/s" for name, values in rates.items())
    return f"{best}, the better library of each round; {', '.join(others)}; medians of all rounds"


def small_table(updates: dict[str, Any]) -> str:
    """The table of sampling and acting, with their times relative to the floor and to the peers'."""
    rows = []
    for name, found in updates.items():
        cells = [[f"{found[what]['ms']['ours']:.3f}", f"{found[what]['to_floor']:.1f}",
                  *(f"{found[what][f'to_{peer}']:.2f}" if f"to_{peer}" in found[what] else "" for peer in peers.PEERS)]
                 for what in ("sample", "step")]
        rows.append([name, *cells[0], *cells[1]])
    theirs = [f"x {peer.name}'s" for peer in peers.PEERS.values()]
    return _dropped(["", "sample, ms", "x bare gather", *theirs, "one step, ms", "x bare products", *theirs], rows)


def environment_table(found: dict[str, Any]) -> str:
    """The table of environment steps in whole runs."""
    names = {"environment": "environment alone"} | {f"{who} sac": f"{peer.name}'s sac"
                                                    for who, peer in peers.PEERS.items()}
    rows = [[names.get(name, name), f"{rate:.1f}", *(_times(found.get(f"to_{who}"), name) for who in peers.PEERS),
             f"{found['to_environment'][name]:.1%}"] for name, rate in found["per_second"].items()]
    return _dropped([found["env"], "steps/s", *(f"x {peer.name}" for peer in peers.PEERS.values()),
                     "of the environment's"], rows)


def games_table(found: dict[str, Any]) -> str:
    """The table of updates from images: a row for each engine."""
    rows = [[found["algorithm"], who + " (default)" * (who == found["default_engine"]), f"{rate:.1f}",
             f"{found['share'][who]:.1%}"] for who, rate in found["per_second"].items()]
    rates = ", ".join(f"{1 / statistics.median(values):.1f} /s {layout}"
                      for layout, values in found["convolutions"].items())
    return f"{table(['updates', 'by', '/s', 'of convolutions'], rows)}\n\nthe convolutions alone: {rates}"


def scaling_table(found: dict[str, Any]) -> str:
    """The table of times by batch size, sample size and other settings."""
    rows = [[row["varies"] or "default", str(row["value"]) if row["varies"] else "",
             f"{1e3 * statistics.median(row['seconds']):.2f}", f"{row['time_to_default']:.2f}",
             f"{row['flops_to_default']:.2f}", f"{row['share']:.1%}"] for row in found["rows"].values()]
    return table([found["algorithm"], "value", "update, ms", "x default", "FLOPs x default", "of ceiling"], rows)


def memory_table(found: dict[str, Any]) -> str:
    """The table of the memory of replay and agent."""
    def cell(count: int | None) -> str:
        return "unknown" if count is None else human_bytes(count)
    rows = [[f"replay of {found['steps']} steps", cell(found["replay_bytes"]), cell(found["replay_least_bytes"])],
            ["the agent, with what an update needs", cell(found["agent_bytes"]), cell(found["agent_state_bytes"])]]
    if found["replay_sb3_bytes"] is not None:
        rows.insert(1, ["SB3's replay, its arrays", cell(found["replay_sb3_bytes"]), ""])
    return table(["memory", "taken", "its numbers alone"], rows)


def targets_table(found: list[dict[str, Any]]) -> str:
    """The table of targets: what is wanted, what was measured, and what a figure that is missing needs."""
    words = {True: "reached", False: "not reached"}
    rows = [[row["name"], row["target"], "" if row["value"] is None else f"{row['value']:.3g}",
             words.get(row["reached"]) or "not measured" + (f": needs {row['needs']}" if row.get("needs") else "")]
            for row in found]
    return table(["figure", "target", "measured", ""], rows)


def _times(ratios: dict[str, float] | None, who: str) -> str:
    return f"{ratios[who]:.2f}" if ratios and who in ratios else ""


def _dropped(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """`table`, without empty columns."""
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    return table([head[i] for i in kept], [[row[i] for i in kept] for row in rows])
