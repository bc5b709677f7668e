"""Which agents have gradients written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from algorithm.basis_alg.a2c_torch import A2C
from algorithm.basis_alg.ac_iqn_torch import ACIQN, QuantileCritic
from algorithm.basis_alg.base_torch import Agent
from algorithm.basis_alg.ddpg_torch import DDPG, MLPPolicy, MLPQValue
from algorithm.basis_alg.iqn_torch import IQN, QuantileNetwork
from algorithm.basis_alg.ppo_torch import PPO
from algorithm.basis_alg.sac_torch import SAC, MLPQValueSAC, MLPStochasticPolicy, Temperature
from algorithm.basis_alg.td3_torch import TD3
from algorithm.decomposition.agent import Decomposed
from algorithm.decomposition.base import Decomposition
from algorithm.decomposition.networks import MLPRewardNet
from algorithm.decomposition.on_policy import DecomposedOnPolicy
from algorithm.decomposition.rrd import RRD
from algorithm.encoders import DenseEncoder, EncodedPolicy, ObjectsEncoder
from algorithm.engine.by_hand.a2c import A2CGradients
from algorithm.engine.by_hand.ac_iqn import ACIQNGradients
from algorithm.engine.by_hand.ddpg import DDPGGradients
from algorithm.engine.by_hand.gradients import Gradients
from algorithm.engine.by_hand.iqn import IQNGradients
from algorithm.engine.by_hand.nets import Nets
from algorithm.engine.by_hand.on_policy import OnPolicyGradients
from algorithm.engine.by_hand.ppo import PPOGradients
from algorithm.engine.by_hand.reward import RewardGradients
from algorithm.engine.by_hand.sac import SACGradients
from algorithm.engine.by_hand.td3 import TD3Gradients
from algorithm.policy.actor_critic import ActorCritic
from algorithm.policy.base import Policy
from algorithm.policy.layers import MODULES
from algorithm.quantiles import CosineEmbedding
from utils.errors import ConfigError
from utils.torch_utils import Normalizer


def create_gradients(agents: Sequence[Agent], nets: Callable[[Sequence[Agent]], Nets] = Nets) -> Gradients | None:
    """The gradients by hand of one agent, or with `StackedNets` of several that differ in their seeds; None without.

    They are not written for images, for users' agents and for their reward networks. With S agents, every field of a
    batch and every metric has S in front, and the agents' parameters become views of what is computed with.
    """
    if _unknown_part(agents[0]) or (len(agents) > 1 and type(_basis(agents[0])) in ENCODED):
        return None
    made = nets(agents)
    if agents[0].on_policy:
        return ON_POLICY[type(_basis(agents[0]))](made)
    decomposition = getattr(agents[0], "decomposition", None)
    drawn = isinstance(decomposition, RRD) and not _pays_by_the_replay(decomposition)
    reward = RewardGradients(made) if drawn else None
    return (GRADIENTS | ENCODED)[type(_basis(agents[0]))](made, reward)


def by_hand(agent: Agent) -> bool:
    """Whether gradients are written for the agent, at its precision."""
    return why_not_by_hand(agent) is None


def why_not_by_hand(agent: Agent) -> str | None:
    """The part of the agent that no gradients are written for, in a few words; None where they are."""
    on_gpu, encoded = agent.device.type != "cpu", type(_basis(agent)) in ENCODED
    if (on_gpu or encoded) and agent.config.precision == "bf16":        # on GPUs autocast's products are faster
        return "bf16"
    return f"{type(_basis(agent)).__name__} on {agent.device}" if on_gpu and encoded else _unknown_part(agent)


def refusal(agent: Agent) -> ConfigError:
    """The error of an agent for which --engine=manual was asked, but no gradients are written by hand."""
    return ConfigError("engine: got 'manual', but gradients are written by hand only for ddpg, td3, sac and ac_iqn, "
                       "with the paper's reward network or none, for iqn without one, and for ppo and a2c with "
                       f"--policy=actor_critic, unchanged, and not for {why_not_by_hand(agent)}; expected "
                       "eager, compile or auto")


def _unknown_part(agent: Agent) -> str | None:
    if agent.on_policy:
        return _unknown_on_policy(_basis(agent))
    parts = (agent.basis, agent.decomposition) if type(agent) is Decomposed else (agent,)
    for part in parts:
        # A subclass may compute anything.
        if type(part) not in (RRD, *GRADIENTS, *ENCODED) and not _pays_by_the_replay(part):
            return type(part).__name__
        if type(part) is RRD and (part.whole or not part.joint) and not _pays_by_the_replay(part):
            return "RRD of whole episodes" if part.whole else "RRD in bursts"
        if type(part) is RRD and agent.config.discrete:
            return "rewards of discrete actions"
        if changed := replaced_methods(part):
            return f"{type(part).__name__} with another {changed[0]}"
    silent = agent.decomposition.parts() if type(agent) is Decomposed and _pays_by_the_replay(parts[1]) else ()
    modules = (module for name, part in agent.nets.items() if name not in silent for module in part.modules())
    known = NETWORKS + (OVER_ENCODERS if type(parts[0]) in ENCODED else ())
    strange = [type(module).__name__ for module in modules if type(module) not in known]
    return f"networks such as {strange[0]}" if strange else None


def _unknown_on_policy(agent: Agent) -> str | None:
    """A decomposition over the agent does not take part in its updates."""
    policy = agent.policy
    for part, known in ((agent, ON_POLICY), (policy, (ActorCritic,))):
        if type(part) not in known:
            return type(part).__name__
        if changed := replaced_methods(part):
            return f"{type(part).__name__} with another {changed[0]}"
    strange = [type(module).__name__ for module in policy.modules() if type(module) not in LAYERS]
    if agent.config.last_activation:
        return "--last_activation"
    return f"networks such as {strange[0]}" if strange else None


def _pays_by_the_replay(part: Agent | Decomposition) -> bool:
    """Return whether this is a decomposition that takes no part in an update: the batch holds its rewards."""
    return (isinstance(part, Decomposition) and not part.joint and not part.markov
            and type(part).pay is Decomposition.pay and type(part).pay_spec is Decomposition.pay_spec)


def replaced_methods(agent: Agent | Decomposition | Policy) -> list[str]:
    """Return the methods that one object has been given instead of its class'.

    `CompiledEngine` gives an agent its `losses`, and an agent gives its decomposition its `prepare`.
    """
    return [name for name in vars(agent) if name not in ("losses", "prepare")
            and callable(getattr(type(agent), name, None))]


def _basis(agent: Agent) -> Agent:
    return agent.basis if isinstance(agent, (Decomposed, DecomposedOnPolicy)) else agent


GRADIENTS: dict[type[Agent], type[Gradients]] = {SAC: SACGradients, TD3: TD3Gradients, DDPG: DDPGGradients}
# Over encoders: one agent at a time, on a CPU.
ENCODED: dict[type[Agent], type[Gradients]] = {ACIQN: ACIQNGradients, IQN: IQNGradients}
ON_POLICY: dict[type[Agent], type[OnPolicyGradients]] = {PPO: PPOGradients, A2C: A2CGradients}
# The modules that an agent's networks consist of there.
NETWORKS = (nn.ModuleDict, nn.Linear, Normalizer, Temperature, MLPStochasticPolicy, MLPPolicy, MLPQValueSAC, MLPQValue,
            MLPRewardNet)
OVER_ENCODERS = (DenseEncoder, ObjectsEncoder, EncodedPolicy, QuantileCritic, QuantileNetwork, CosineEmbedding,
                 nn.Sequential, nn.ReLU)
LAYERS = (ActorCritic, nn.Sequential, nn.Linear, *MODULES.values())         # and those of an on-policy agent's policy
