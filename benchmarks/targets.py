"""The targets of the project on CPUs, and which of them a run of the speed benchmark reaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MANY = 100_000                  # steps from which on the memory of a replay stands out from that of the process
Results = dict[str, Any]        # of `speed.measure`


@dataclass(frozen=True)
class Target:
    """A figure, and what it has to be."""

    name: str
    sign: str
    wanted: float
    value: Callable[[Results], float | None]    # KeyError, or None: it was not measured
    needs: str                                  # to be measured


def targets(results: Results) -> list[dict[str, Any]]:
    """Return the rows of all targets; `value` and `reached` are None if they were not measured, for want of `needs`."""
    return [_row(target, results) for target in TARGETS]


def _row(target: Target, results: Results) -> dict[str, Any]:
    try:
        value = target.value(results)
    except KeyError:
        value = None
    reached = None if value is None else value >= target.wanted if target.sign == ">=" else value < target.wanted
    return dict(name=target.name, value=value, target=f"{target.sign} {target.wanted:g}", reached=reached,
                needs=target.needs if value is None else None)


# Values --------------------------------------------------------------------------------------------------------------

def default(name: str, what: str) -> Callable[[Results], float]:
    """A figure of the default engine's updates."""
    def value(results: Results) -> float:
        found = results["updates"][name]
        return found[what][found["default_engine"]]
    return value


def bf16(results: Results) -> float | None:
    """The rate of RRD-SAC in bf16 over that in fp32, on a processor with AMX."""
    return results["updates"]["rrd-sac"]["to_fp32"]["bf16"] if results["machine"]["bf16"] == "AMX" else None


def games(results: Results) -> float:
    """The share of its convolutions' rate that the default engine reaches."""
    return results["games"]["share"][results["games"]["default_engine"]]


def a_million(results: Results) -> float | None:
    """The megabytes of a million steps."""
    found = results["memory"]
    known = found["steps"] >= MANY and found["replay_bytes"] is not None
    return found["replay_bytes"] / found["steps"] if known else None


def ms(what: str) -> Callable[[Results], float]:
    """The time of RRD-SAC's sample or step."""
    return lambda results: results["updates"]["rrd-sac"][what]["ms"]["ours"]


SHARE, CEILING = "updates of {}", "{}, of the ceiling"
TARGETS = (
    *(Target(CEILING.format(name), ">=", wanted, default(name, "share"), SHARE.format(name))
      for name, wanted in (("rrd-sac", 0.6), ("rrd-td3", 0.5), ("rrd-ddpg", 0.5))),
    Target("sac, times SBX's rate", ">=", 1.5, default("sac", "to_sbx"), "updates of sac, and SBX"),
    Target("sac, times SB3's rate", ">=", 2.5, default("sac", "to_sb3"), "updates of sac, and SB3"),
    Target("td3, times eager", ">=", 1.5, default("td3", "to_eager"), SHARE.format("td3")),
    Target("rrd-sac in bf16, times fp32", ">=", 1.8, bf16, "updates of rrd-sac, and AMX"),
    Target("a run of rrd-sac, times SB3's sac", ">=", 2.0, lambda results: results["environment"]["to_sb3"]["rrd-sac"],
           "the section environment, and SB3"),
    Target("rrd-dqn, of its convolutions", ">=", 0.7, games, "the section games"),
    Target("rrd-sac, sample, ms", "<", 0.3, ms("sample"), SHARE.format("rrd-sac")),
    Target("rrd-sac, one exploring step, ms", "<", 0.12, ms("step"), SHARE.format("rrd-sac")),
    Target("replay of a million steps, MB", "<", 300.0, a_million, f"the section memory, and {MANY} steps"),
)
