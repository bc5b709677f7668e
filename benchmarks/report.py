"""The tables of the speed benchmark, in Markdown, and its targets."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from utils.text import human_bytes

PEERS = {"sb3": "SB3", "tensorflow": "TensorFlow"}
MANY = 100_000                  # steps from which on the memory of a replay stands out from that of the process


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
                         f"{found['share'][who]:.1%}", *(_times(found.get(f"to_{peer}"), who)
                                                         for peer in ("eager", *PEERS))])
    ceiling = statistics.median(value for found in updates.values() for value in found["ceiling_gflops"])
    head = ["updates", "by", "/s", "MFLOP", "of ceiling", "x eager", *(f"x {peer}" for peer in PEERS.values())]
    return f"{_dropped(head, rows)}\n\nceiling: {ceiling:.1f} GFLOP/s, the median of all rounds"


def small_table(updates: dict[str, Any]) -> str:
    """The table of sampling and acting, with their times relative to the floor and to SB3."""
    rows = []
    for name, found in updates.items():
        cells = [[f"{found[what]['ms']['ours']:.3f}", f"{found[what]['to_floor']:.1f}",
                  f"{found[what]['to_sb3']:.2f}" if "to_sb3" in found[what] else ""] for what in ("sample", "step")]
        rows.append([name, *cells[0], *cells[1]])
    return _dropped(["", "sample, ms", "x bare gather", "x SB3's", "one step, ms", "x bare products", "x SB3's"], rows)


def environment_table(found: dict[str, Any]) -> str:
    """The table of environment steps in whole runs."""
    rows = [["environment alone" if name == "environment" else name.replace("sb3 sac", "SB3's sac"), f"{rate:.1f}",
             _times(found.get("to_sb3"), name), f"{found['to_environment'][name]:.1%}"]
            for name, rate in found["per_second"].items()]
    return _dropped([found["env"], "steps/s", "x SB3", "of the environment's"], rows)


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


def targets(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The targets of the project on CPUs; `value` and `reached` are None if they were not measured.

    Updates are those of the default engine.
    """
    updates, memory = results.get("updates", {}), results.get("memory", {})

    def default(name: str, what: str) -> float | None:
        found = updates.get(name, {})
        return found.get(what, {}).get(found.get("default_engine"))

    def ms(what: str) -> float | None:
        return updates["rrd-sac"][what]["ms"]["ours"] if "rrd-sac" in updates else None
    steps, taken = memory.get("steps", 0), memory.get("replay_bytes")
    a_million = taken / steps if steps >= MANY and taken is not None else None                      # MB
    rows = [("rrd-sac, of the ceiling", default("rrd-sac", "share"), ">=", 0.6),
            ("sac, times SB3's rate", default("sac", "to_sb3"), ">=", 2.0),
            ("rrd-td3, of the ceiling", default("rrd-td3", "share"), ">=", 0.5),
            ("rrd-ddpg, of the ceiling", default("rrd-ddpg", "share"), ">=", 0.5),
            ("rrd-sac, sample, ms", ms("sample"), "<", 0.3), ("rrd-sac, one exploring step, ms", ms("step"), "<", 0.12),
            ("replay of a million steps, MB", a_million, "<", 300.0)]
    return [dict(name=name, value=value, target=f"{sign} {wanted:g}",
                 reached=None if value is None else value >= wanted if sign == ">=" else value < wanted)
            for name, value, sign, wanted in rows]


def targets_table(found: list[dict[str, Any]]) -> str:
    words = {None: "not measured", True: "reached", False: "not reached"}
    rows = [[row["name"], row["target"], "" if row["value"] is None else f"{row['value']:.3g}", words[row["reached"]]]
            for row in found]
    return table(["figure", "target", "measured", ""], rows)


def _times(ratios: dict[str, float] | None, who: str) -> str:
    return f"{ratios[who]:.2f}" if ratios else ""


def _dropped(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """`table`, without empty columns."""
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    return table([head[i] for i in kept], [[row[i] for i in kept] for row in rows])
