"""One update of each algorithm with its gradients written by hand; `tests/test_engines.py` holds them against autograd.

A program gives the update as phases, each of two tasks that may run at the same time: by two threads, or on two CUDA
streams. All gradients of an update are taken at the parameters before it, as in `Agent.train`, so the critics' half
(learned reward, next action, targets, critic loss) and the policy's half (policy loss, reward training) need nothing of
each other, and are almost equal work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.basis_alg.ddpg_torch import DDPG, MLPPolicy, MLPQValue
from algorithm.basis_alg.sac_torch import SAC, MLPQValueSAC, MLPStochasticPolicy, Temperature
from algorithm.basis_alg.td3_torch import TD3
from algorithm.engine.kernels import MLP, Pad, Stacks, sizes
from algorithm.rrd_torch import RRD, MLPRewardNet
from utils.torch_utils import Normalizer

Fields = dict[str, Tensor]
Task = Callable[[Fields], Info]
Phase = tuple[Task, Task | None]


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
    return f"networks such as {strange[0]}" if strange else None


def replaced_methods(agent: Agent) -> list[str]:
    """Methods that an agent has been given instead of its class'; `losses` is what `CompiledEngine` replaces."""
    return [name for name in vars(agent) if name != "losses" and callable(getattr(type(agent), name, None))]


def _kind(agent: Agent) -> type[Program] | None:
    return None if _unknown_part(agent) else PROGRAMS[type(_basis(agent))]


def _basis(agent: Agent) -> Agent:
    return agent.basis if isinstance(agent, RRD) else agent


def mean(x: Tensor) -> Tensor:
    """(B, 1) -> (), (S, B, 1) -> (S,)."""
    return x.mean(dim=(-2, -1))


class Program:
    """What the programs share: the reward's part, and the list of all gradients."""

    def __init__(self, agents: Sequence[Agent], bases: list[Agent]):
        self.basis, self.config = bases[0], bases[0].config
        self.lead = (len(agents),) if len(agents) > 1 else ()
        self.stacks = Stacks()
        self.critic_pad, self.policy_pad = Pad(self.basis.device), Pad(self.basis.device)
        self.reward = RewardProgram(agents, self) if bases[0] is not agents[0] else None
        self.trained: list[MLP] = [self.reward.trained] if self.reward else []

    def phases(self) -> list[Phase]:
        """All gradients: what `Agent.train` takes."""
        return [(self.critics, self.policy_and_reward)]

    def q_phases(self) -> list[Phase]:
        """Those of the critics and of the reward network: `Agent.train_q`."""
        return [(self.critics, self.train_reward)]

    def pi_phases(self) -> list[Phase]:
        """Those of the policy and of the temperature: `Agent.train_pi`."""
        return [(self.policy, None)]

    def critics(self, batch: Fields) -> Info:
        raise NotImplementedError

    def policy(self, batch: Fields) -> Info:
        raise NotImplementedError

    def policy_and_reward(self, batch: Fields) -> Info:
        return self.policy(batch) | self.train_reward(batch)

    def train_reward(self, batch: Fields) -> Info:
        return self.reward.train(batch) if self.reward else {}

    def rewards(self, batch: Fields) -> Tensor:
        """The batch's, or the learned ones, (B, 1)."""
        return self.reward.predict(batch) if self.reward else batch["rews"]

    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        """Each trained tensor and its gradient's buffer."""
        return [pair for net in self.trained for pair in zip(net.weights + net.biases,
                                                              net.weight_grads + net.bias_grads, strict=True)]

    def state(self) -> list[Tensor]:
        """Every tensor that the tasks read or write, but for the batch."""
        grads = [grad for net in self.stacks.networks for grad in net.weight_grads + net.bias_grads]
        return [*self.stacks.stacked.values(), *grads, *self.critic_pad.buffers.values(),
                *self.policy_pad.buffers.values()]

    def of_parameters(self) -> dict[Tensor, Tensor]:
        """The same by the first agent's parameters."""
        names = {id(tensor): parameter for parameter, tensor in self.stacks.stacked.items()}
        return {names[id(tensor)]: grad for tensor, grad in self.gradients()}

    def target(self, batch: Fields, q_next: Tensor) -> Tensor:
        """y = r + gamma (1 - done) q', (B, 1)."""
        return self.rewards(batch).addcmul(1 - batch["done"], q_next, value=self.config.gamma)


def fit(critic: MLP, y: Tensor, *inputs: Tensor) -> Tensor:
    """The gradients of mean (Q - y)^2, and its value, ()."""
    return regress(critic, critic.forward(*inputs), y)


def regress(critic: MLP, q: Tensor, y: Tensor) -> Tensor:
    """The same, given Q, what the critic has put out last."""
    error = q - y
    critic.backward(error * (2 / sizes(error)[-2]))
    return mean(error.square())


class Squashed(NamedTuple):
    """A sample of SAC's policy, and what its gradient needs; all (B, A) but for the likelihood."""

    acts: Tensor
    log_p: Tensor           # (B, 1)
    w: Tensor               # 1 - a^2
    raw: Tensor             # the network's log std
    scale: Tensor           # exp of it, clamped; the std without its floor


def sample_squashed(out: Tensor, noise: Tensor) -> Squashed:
    """What `sac_torch.squash` computes, (B, 2 A), (B, A), where (x - m) / s is known to be the noise."""
    mu, raw = out.chunk(2, dim=-1)
    logstd = raw.clamp(-20.0, 2.0)
    scale = logstd.exp()
    acts = torch.addcmul(mu, scale.clamp_min(1e-2), noise).tanh_()
    w = (1 - acts).mul_(1 + acts)
    terms = torch.log(w + 1e-6).add_(logstd).addcmul_(noise, noise, value=0.5)
    constant = 0.5 * math.log(2 * math.pi) * sizes(acts)[-1]
    return Squashed(acts, terms.sum(-1, keepdim=True).add_(constant).neg_(), w, raw, scale)


class RewardProgram:
    """`RRD.predict` on the batch and `RRD.reward_loss` on the sub-sequences."""

    def __init__(self, agents: Sequence[RRD], program: Program):
        self.bias_correction, self.width = agents[0].config.rrd_bias_correction, agents[0].obs_dims[0]
        networks, mlp = [agent.reward for agent in agents], program.stacks.mlp
        self.frozen = mlp(networks, program.critic_pad, "reward")
        self.trained = mlp(networks, program.policy_pad, "reward", trained=True)

    def predict(self, batch: Fields) -> Tensor:
        return self.frozen.forward(self._inputs(self.frozen.pad, batch["obs"], batch["acts"], batch["obs_next"]))

    def _inputs(self, pad: Pad, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """[s, a, s - s'] of steps: (B, 2 O + A)."""
        x = pad("reward.x", *sizes(obs)[:-1], 2 * self.width + sizes(acts)[-1])
        x[..., :self.width] = obs
        x[..., self.width:-self.width] = acts
        torch.sub(obs, obs_next, out=x[..., -self.width:])
        return x

    def train(self, batch: Fields) -> Info:
        """dL/dr_k = 2 (mean r - R/T) / (N K), and with bias correction - 2 c (r_k - mean r) / (N K (K - 1))."""
        *lead, count, steps, _ = sizes(batch["rrd_obs"])
        x = self._inputs(self.trained.pad, *(batch[name].flatten(-3, -2) for name in
                                             ("rrd_obs", "rrd_acts", "rrd_obs_next")))              # (N K, ...)
        pred = self.trained.forward(x).view(*lead, count, steps)
        average = pred.mean(-1, keepdim=True)
        error = average - batch["rrd_rews"]                                                         # (N, 1)
        info = {"R_loss": mean(error.square())}
        grad = (error * (2 / (count * steps))).expand_as(pred)
        if self.bias_correction:
            coef, centred = batch["rrd_var_coef"] / (steps * (steps - 1)), pred - average
            info["R_var"] = mean(coef * centred.square().sum(-1, keepdim=True))
            grad = grad - centred * coef * (2 / count)
        self.trained.backward(grad.reshape(*sizes(x)[:-1], 1))
        return info


class SACProgram(Program):
    """`SAC.q_loss` and `SAC.pi_loss`."""

    def __init__(self, agents: Sequence[Agent], bases: list[SAC]):
        super().__init__(agents, bases)
        q, pi, mlp = self.critic_pad, self.policy_pad, self.stacks.mlp
        policies = [basis.policy for basis in bases]
        self.next_policy, self.own_policy = mlp(policies, q, "policy"), mlp(policies, pi, "policy", trained=True)
        self.targets, self.fitted, self.climbed = [], [], []
        for name in self.basis.critics:
            critics = [basis.critics[name] for basis in bases]
            self.targets.append(mlp([basis.critics_target[name] for basis in bases], q, f"target_{name}"))
            self.fitted.append(mlp(critics, q, "critic", trained=True))
            self.climbed.append(mlp(critics, pi, name))
        self.trained += [self.own_policy, *self.fitted]
        self.log_alpha = self.stacks([basis.alpha.log_alpha for basis in bases])
        self.log_alpha_grad = torch.zeros_like(self.log_alpha)

    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        return super().gradients() + ([(self.log_alpha, self.log_alpha_grad)] if self.config.alpha_lr else [])

    def state(self) -> list[Tensor]:
        return [*super().state(), self.log_alpha_grad]

    def alpha(self) -> Tensor:
        """() or (S, 1, 1)."""
        alpha = self.log_alpha.exp()
        return alpha[:, None, None] if self.lead else alpha

    def critics(self, batch: Fields) -> Info:
        following = sample_squashed(self.next_policy.forward(batch["obs_next"]), batch["pi_next_noise"])
        x = torch.cat([batch["obs_next"], following.acts], dim=-1)
        q_next = torch.minimum(*(target.forward(x) for target in self.targets))
        y = self.target(batch, q_next - self.alpha() * following.log_p)
        x = torch.cat([batch["obs"], batch["acts"]], dim=-1)
        return {"Q_loss": sum(fit(critic, y, x) for critic in self.fitted)}

    def policy(self, batch: Fields) -> Info:
        """With x = m + s e, s = max(exp(l), 1e-2), a = tanh(x), and w = 1 - a^2: dx/dm = 1, dx/ds = e, da/dx = w.

        log pi = sum -0.5 e^2 - l - log(w + 1e-6) + const has dl = -1 and da = 2 a / (w + 1e-6); e does not move.
        """
        (rows, width), alpha = sizes(batch["obs"])[-2:], self.alpha()
        own = sample_squashed(self.own_policy.forward(batch["obs"]), batch["pi_noise"])
        x = torch.cat([batch["obs"], own.acts], dim=-1)
        q_1, q_2 = (critic.forward(x) for critic in self.climbed)
        share = (q_1 <= q_2) / -rows                            # the lesser critic's; (B, 1)
        by_q = self.climbed[0].input_grad(share, width) + self.climbed[1].input_grad(-1 / rows - share, width)
        grad_x = (by_q + own.acts / (own.w + 1e-6) * (2 / rows * alpha)) * own.w                    # (B, A)
        grad_l = grad_x * batch["pi_noise"] * own.scale * (own.scale >= 1e-2) - alpha / rows
        inside = (own.raw >= -20.0) & (own.raw <= 2.0)
        self.own_policy.backward(torch.cat([grad_x, grad_l * inside], dim=-1))
        self.log_alpha_grad.copy_(self.basis.act_dim - mean(own.log_p))
        return {"Pi_loss": mean(alpha * own.log_p - torch.minimum(q_1, q_2))}


class TD3Program(Program):
    """`TD3.q_loss` and `TD3.pi_loss`: the critics look at the batch beside the targets, and are fitted side by side."""

    def __init__(self, agents: Sequence[Agent], bases: list[TD3]):
        super().__init__(agents, bases)
        q, pi, mlp = self.critic_pad, self.policy_pad, self.stacks.mlp
        self.next_policy = mlp([basis.policy_target for basis in bases], q)
        self.own_policy = mlp([basis.policy for basis in bases], pi, "policy", trained=True)
        self.targets = [mlp([basis.critics_target[name] for basis in bases], q, f"target_{name}")
                        for name in self.basis.critics]
        first, second = ([basis.critics[name] for basis in bases] for name in self.basis.critics)
        self.fitted = [mlp(first, q, "critic", trained=True), mlp(second, pi, "critic", trained=True)]
        self.climbed = mlp(first, pi, "critic")
        self.trained += [self.own_policy, *self.fitted]

    def phases(self) -> list[Phase]:
        return self.q_phases() + self.pi_phases()

    def q_phases(self) -> list[Phase]:
        return [(self._set_target, self._score), (self._fit_first, self._fit_second)]

    def _set_target(self, batch: Fields) -> Info:
        acts = (self.next_policy.forward(batch["obs_next"]).tanh() + batch["target_noise"]).clamp(-1, 1)
        x = torch.cat([batch["obs_next"], acts], dim=-1)
        batch["y"] = self.target(batch, torch.minimum(*(target.forward(x) for target in self.targets)))
        return {}

    def _score(self, batch: Fields) -> Info:
        x = torch.cat([batch["obs"], batch["acts"]], dim=-1)
        for name, critic in zip(("q_1", "q_2"), self.fitted, strict=True):
            batch |= {name: critic.forward(x)} | critic.save(name)
        return self.train_reward(batch)

    def _fit_first(self, batch: Fields) -> Info:
        return self._fit("q_1", self.fitted[0], batch)

    def _fit_second(self, batch: Fields) -> Info:
        return self._fit("q_2", self.fitted[1], batch)

    def _fit(self, name: str, critic: MLP, batch: Fields) -> Info:
        critic.load(name, batch)
        return {"Q_loss": regress(critic, batch[name], batch["y"])}

    def policy(self, batch: Fields) -> Info:
        obs = batch["obs"]
        acts = self.own_policy.forward(obs).tanh()
        q = self.climbed.forward(torch.cat([obs, acts], dim=-1))
        by_q = self.climbed.input_grad(torch.full_like(q, -1 / sizes(q)[-2]), sizes(obs)[-1])
        self.own_policy.backward(torch.ops.aten.tanh_backward(by_q, acts))
        return {"Pi_loss": -mean(q)}


class DDPGProgram(Program):
    """`DDPG.q_loss` and `DDPG.pi_loss`."""

    def __init__(self, agents: Sequence[Agent], bases: list[DDPG]):
        super().__init__(agents, bases)
        q, pi, mlp, late = self.critic_pad, self.policy_pad, self.stacks.mlp, self.basis.act_dim
        critics = [basis.critic for basis in bases]
        self.next_policy = mlp([basis.nets["target"]["policy"] for basis in bases], q)
        self.own_policy = mlp([basis.policy for basis in bases], pi, "policy", trained=True)
        self.next_critic = mlp([basis.nets["target"]["value"] for basis in bases], q, late=late)
        self.fitted, self.climbed = mlp(critics, q, trained=True, late=late), mlp(critics, pi, late=late)
        self.trained += [self.own_policy, self.fitted]

    def critics(self, batch: Fields) -> Info:
        acts = self.next_policy.forward(batch["obs_next"]).tanh()
        y = self.target(batch, self.next_critic.forward(batch["obs_next"], acts))
        loss = fit(self.fitted, y, batch["obs"], batch["acts"])
        return {"Q_loss": loss, "Q_reg_loss": self._regularise()}

    def _regularise(self) -> Tensor:
        """The mean over tensors of q_reg |w|^2 / 2, and its gradients."""
        weights, grads = self.fitted.weights + self.fitted.biases, self.fitted.weight_grads + self.fitted.bias_grads
        share = self.config.q_reg / len(weights)
        torch._foreach_add_(grads, weights, alpha=share)
        squares = torch.stack([w.flatten(len(self.lead)).square().sum(-1) for w in weights])
        return 0.5 * share * squares.sum(0)

    def policy(self, batch: Fields) -> Info:
        acts = self.own_policy.forward(batch["obs"]).tanh()
        q = self.climbed.forward(batch["obs"], acts)
        by_q = self.climbed.late_grad(torch.full_like(q, -1 / sizes(q)[-2]))
        self.own_policy.backward(torch.ops.aten.tanh_backward(by_q, acts))
        return {"Pi_loss": -mean(q)}


PROGRAMS: dict[type[Agent], type[Program]] = {SAC: SACProgram, TD3: TD3Program, DDPG: DDPGProgram}
# What a program takes an agent's networks to be made of.
NETWORKS = (nn.ModuleDict, nn.Linear, Normalizer, Temperature, MLPStochasticPolicy, MLPPolicy, MLPQValueSAC, MLPQValue,
            MLPRewardNet)
