"""Which agents have gradients written by hand."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from algorithm.basis_alg.base_torch import Agent
from algorithm.basis_alg.ddpg_torch import DDPG, MLPPolicy, MLPQValue
from algorithm.basis_alg.sac_torch import SAC, MLPQValueSAC, MLPStochasticPolicy, Temperature
from algorithm.basis_alg.td3_torch import TD3
from algorithm.decomposition.networks import MLPRewardNet
from algorithm.decomposition.rrd import RRD
from algorithm.engine.by_hand.ddpg import DDPGProgram
from algorithm.engine.by_hand.program import Program
from algorithm.engine.by_hand.sac import SACProgram
from algorithm.engine.by_hand.td3 import TD3Program
from algorithm.networks import MLP
from utils.torch_utils import Normalizer


def create_program(agents: Sequence[Agent]) -> Program | None:
    """The program of one agent, or of several that differ in their seeds; None where there is none.

    There is none of images, of users' agents and of their reward networks. With S agents, every field of a batch and
    every metric has S in front, and the agents' parameters become views of the program's.
    """
    kind = _kind(agents[0])
    return kind(agents, [_basis(agent) for agent in agents]) if kind else None


def by_hand(agent: Agent) -> bool:
    """Whether there is a program for the agent, at its precision."""
    return why_not_by_hand(agent) is None


def why_not_by_hand(agent: Agent) -> str | None:
    """What of the agent no gradients are written for, in a few words; None where they are."""
    return "bf16" if agent.config.precision == "bf16" else _unknown_part(agent)


def _unknown_part(agent: Agent) -> str | None:
    for part in {id(part): part for part in (agent, _basis(agent))}.values():
        if type(part) not in (RRD, *PROGRAMS):          # a subclass may compute anything
            return type(part).__name__
        if changed := replaced_methods(part):
            return f"{type(part).__name__} with another {changed[0]}"
    strange = [type(module).__name__ for module in agent.nets.modules() if type(module) not in NETWORKS]
    if strange:
        return f"networks such as {strange[0]}"
    networks = [module for module in agent.nets.modules() if isinstance(module, MLP)]
    if any(len(network.layers) != 3 or network.activation != "relu" for network in networks):
        return "hidden_sizes other than two layers, or an activation other than relu"
    return None


def replaced_methods(agent: Agent) -> list[str]:
    """Methods that an agent has been given instead of its class'; `losses` is what `CompiledEngine` replaces."""
    return [name for name in vars(agent) if name != "losses" and callable(getattr(type(agent), name, None))]


def _kind(agent: Agent) -> type[Program] | None:
    return None if _unknown_part(agent) else PROGRAMS[type(_basis(agent))]


def _basis(agent: Agent) -> Agent:
    return agent.basis if isinstance(agent, RRD) else agent


PROGRAMS: dict[type[Agent], type[Program]] = {SAC: SACProgram, TD3: TD3Program, DDPG: DDPGProgram}
# What a program takes an agent's networks to be made of.
NETWORKS = (nn.ModuleDict, nn.Linear, Normalizer, Temperature, MLPStochasticPolicy, MLPPolicy, MLPQValueSAC, MLPQValue,
            MLPRewardNet)
