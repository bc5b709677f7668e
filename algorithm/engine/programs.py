"""One update of each algorithm with its gradients written by hand; `tests/test_engines.py` holds them against autograd.

A program gives the update as phases, each of two tasks that may run at the same time: by two threads, or on two CUDA
streams. All gradients of an update are taken at the parameters before it, as in `Agent.train`, so the critics' half
(learned reward, next action, targets, critic loss) and the policy's half (policy loss, reward training) need nothing of
each other, and are almost equal work.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Agent, Info
from algorithm.basis_alg.ddpg_torch import DDPG
from algorithm.basis_alg.sac_torch import SAC, squash
from algorithm.basis_alg.td3_torch import TD3
from algorithm.engine.kernels import MLP, Pad
from algorithm.rrd_torch import RRD, MLPRewardNet
from utils.torch_utils import RandomNormal

Fields = dict[str, Tensor]
Task = Callable[[Fields], Info]
Phase = tuple[Task, Task | None]


def create_program(agent: Agent) -> Program | None:
    """The program of an agent; None where there is none: of images, of users' agents and reward networks."""
    basis = agent.basis if isinstance(agent, RRD) else agent
    kind = {SAC: SACProgram, TD3: TD3Program, DDPG: DDPGProgram}.get(type(basis))
    if kind is None or (basis is not agent and type(agent.reward) is not MLPRewardNet):
        return None
    return kind(agent, basis)


class Program:
    """What the programs share: the reward's part, and the list of all gradients."""

    def __init__(self, agent: Agent, basis: Agent):
        self.agent, self.basis, self.config = agent, basis, basis.config
        self.critic_pad, self.policy_pad = Pad(basis.device), Pad(basis.device)
        self.reward = RewardProgram(agent, self.critic_pad, self.policy_pad) if basis is not agent else None
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

    def grads(self) -> dict[Tensor, Tensor]:
        """Each trained parameter and its gradient's buffer."""
        return {parameter: grad for network in self.trained for parameter, grad in network.grads.items()}

    def target(self, batch: Fields, q_next: Tensor) -> Tensor:
        """y = r + gamma (1 - done) q', (B, 1)."""
        return self.rewards(batch).addcmul(1 - batch["done"], q_next, value=self.config.gamma)


def fit(critic: MLP, y: Tensor, *inputs: Tensor) -> Tensor:
    """The gradients of mean (Q - y)^2, and its value, ()."""
    error = critic.forward(*inputs) - y
    critic.backward(error * (2 / len(error)))
    return error.square().mean()


class RewardProgram:
    """`RRD.predict` on the batch and `RRD.reward_loss` on the sub-sequences."""

    def __init__(self, agent: RRD, predict_pad: Pad, train_pad: Pad):
        self.bias_correction = agent.config.rrd_bias_correction
        self.width = agent.obs_dims[0]
        self.frozen = MLP(agent.reward, predict_pad, "reward")
        self.trained = MLP(agent.reward, train_pad, "reward", trained=True)

    def predict(self, batch: Fields) -> Tensor:
        return self.frozen.forward(self._inputs(self.frozen.pad, batch["obs"], batch["acts"], batch["obs_next"]))

    def _inputs(self, pad: Pad, obs: Tensor, acts: Tensor, obs_next: Tensor) -> Tensor:
        """[s, a, s - s'] of steps with any leading dimensions: (B, 2 O + A)."""
        obs, acts, obs_next = obs.flatten(0, -2), acts.flatten(0, -2), obs_next.flatten(0, -2)
        x = pad("reward.x", len(obs), 2 * self.width + acts.shape[1])
        x[:, :self.width] = obs
        x[:, self.width:-self.width] = acts
        torch.sub(obs, obs_next, out=x[:, -self.width:])
        return x

    def train(self, batch: Fields) -> Info:
        """dL/dr_k = 2 (mean r - R/T) / (N K), and with bias correction - 2 c (r_k - mean r) / (N K (K - 1))."""
        count, steps = batch["rrd_obs"].shape[:2]
        x = self._inputs(self.trained.pad, batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"])
        pred = self.trained.forward(x).view(count, steps)                                           # (N, K)
        mean = pred.mean(1, keepdim=True)
        error = mean - batch["rrd_rews"]                                                            # (N, 1)
        info = {"R_loss": error.square().mean()}
        grad = (error * (2 / (count * steps))).expand(count, steps)
        if self.bias_correction:
            coef, centred = batch["rrd_var_coef"] / (steps * (steps - 1)), pred - mean
            info["R_var"] = (coef * centred.square().sum(1, keepdim=True)).mean()
            grad = grad - centred * coef * (2 / count)
        self.trained.backward(grad.reshape(-1, 1))
        return info


class SACProgram(Program):
    """`SAC.q_loss` and `SAC.pi_loss`."""

    def __init__(self, agent: Agent, basis: SAC):
        super().__init__(agent, basis)
        q, pi = self.critic_pad, self.policy_pad
        self.next_policy = MLP(basis.policy, q, "policy")
        self.own_policy = MLP(basis.policy, pi, "policy", trained=True)
        self.targets = [MLP(critic, q, f"target_{name}") for name, critic in basis.critics_target.items()]
        self.fitted = [MLP(critic, q, "critic", trained=True) for critic in basis.critics.values()]
        self.climbed = [MLP(critic, pi, name) for name, critic in basis.critics.items()]
        self.trained += [self.own_policy, *self.fitted]
        self.log_alpha = basis.alpha.log_alpha
        self.log_alpha_grad = torch.zeros_like(self.log_alpha)

    def grads(self) -> dict[Tensor, Tensor]:
        return super().grads() | ({self.log_alpha: self.log_alpha_grad} if self.config.alpha_lr else {})

    def critics(self, batch: Fields) -> Info:
        mean, logstd = self.next_policy.forward(batch["obs_next"]).chunk(2, dim=-1)
        acts, log_p = squash(RandomNormal(mean, logstd.clamp(-20.0, 2.0)), batch["pi_next_noise"])
        x = torch.cat([batch["obs_next"], acts], dim=-1)
        q_next = torch.minimum(*(target.forward(x) for target in self.targets))
        y = self.target(batch, q_next - self.basis.alpha() * log_p)
        x = torch.cat([batch["obs"], batch["acts"]], dim=-1)
        return {"Q_loss": sum(fit(critic, y, x) for critic in self.fitted)}

    def policy(self, batch: Fields) -> Info:
        """With x = m + s e, s = max(exp(l), 1e-2), a = tanh(x), and w = 1 - a^2: dx/dm = 1, dx/ds = e, da/dx = w.

        log pi = sum -0.5 e^2 - l - log(w + 1e-6) + const has dl = -1 and da = 2 a / (w + 1e-6); e does not move.
        """
        rows, alpha, noise = len(batch["obs"]), self.basis.alpha(), batch["pi_noise"]
        out = self.own_policy.forward(batch["obs"])
        mean, raw = out.chunk(2, dim=-1)
        pi = RandomNormal(mean, raw.clamp(-20.0, 2.0))
        acts, log_p = squash(pi, noise)
        q_1, q_2 = (critic.forward(torch.cat([batch["obs"], acts], dim=-1)) for critic in self.climbed)
        # Where both critics agree, autograd's amin shares the gradient; so here.
        share = ((q_1 < q_2).float() + 0.5 * (q_1 == q_2).float()) / -rows                          # (B, 1)
        width = self.basis.obs_dims[0]
        by_q = self.climbed[0].input_grad(share, width) + self.climbed[1].input_grad(-1 / rows - share, width)
        w = (1 - acts) * (1 + acts)
        grad_x = (by_q + (alpha / rows) * 2 * acts / (w + 1e-6)) * w                                # (B, A)
        std = pi.logstd.exp()
        grad_l = grad_x * noise * std * (std >= 1e-2) - alpha / rows
        self.own_policy.backward(torch.cat([grad_x, grad_l * ((raw >= -20.0) & (raw <= 2.0))], dim=-1))
        self.log_alpha_grad.copy_(self.basis.act_dim - log_p.mean())
        return {"Pi_loss": (alpha * log_p - torch.minimum(q_1, q_2)).mean()}


class TD3Program(Program):
    """`TD3.q_loss` and `TD3.pi_loss`; the critics are fitted side by side, the reward beside the targets."""

    def __init__(self, agent: Agent, basis: TD3):
        super().__init__(agent, basis)
        q, pi = self.critic_pad, self.policy_pad
        self.next_policy, self.own_policy = MLP(basis.policy_target, q), MLP(basis.policy, pi, "policy", trained=True)
        self.targets = [MLP(critic, q, f"target_{name}") for name, critic in basis.critics_target.items()]
        first, second = basis.critics.values()
        self.fitted = [MLP(first, q, "critic", trained=True), MLP(second, pi, "critic", trained=True)]
        self.climbed = MLP(first, pi, "critic")
        self.trained += [self.own_policy, *self.fitted]

    def phases(self) -> list[Phase]:
        return self.q_phases() + self.pi_phases()

    def q_phases(self) -> list[Phase]:
        return [(self._set_target, self.train_reward), (self._fit_first, self._fit_second)]

    def _set_target(self, batch: Fields) -> Info:
        acts = (self.next_policy.forward(batch["obs_next"]).tanh() + batch["target_noise"]).clamp(-1, 1)
        x = torch.cat([batch["obs_next"], acts], dim=-1)
        batch["y"] = self.target(batch, torch.minimum(*(target.forward(x) for target in self.targets)))
        batch["x"] = torch.cat([batch["obs"], batch["acts"]], dim=-1)
        return {}

    def _fit_first(self, batch: Fields) -> Info:
        return {"Q_loss": fit(self.fitted[0], batch["y"], batch["x"])}

    def _fit_second(self, batch: Fields) -> Info:
        return {"Q_loss": fit(self.fitted[1], batch["y"], batch["x"])}

    def policy(self, batch: Fields) -> Info:
        obs = batch["obs"]
        acts = self.own_policy.forward(obs).tanh()
        q = self.climbed.forward(torch.cat([obs, acts], dim=-1))
        by_q = self.climbed.input_grad(torch.full_like(q, -1 / len(q)), obs.shape[1])
        self.own_policy.backward(torch.ops.aten.tanh_backward(by_q, acts))
        return {"Pi_loss": -q.mean()}


class DDPGProgram(Program):
    """`DDPG.q_loss` and `DDPG.pi_loss`."""

    def __init__(self, agent: Agent, basis: DDPG):
        super().__init__(agent, basis)
        q, pi, late = self.critic_pad, self.policy_pad, basis.act_dim
        target = basis.nets["target"]
        self.next_policy, self.own_policy = MLP(target["policy"], q), MLP(basis.policy, pi, "policy", trained=True)
        self.next_critic = MLP(target["value"], q, late=late)
        self.fitted, self.climbed = MLP(basis.critic, q, trained=True, late=late), MLP(basis.critic, pi, late=late)
        self.trained += [self.own_policy, self.fitted]

    def critics(self, batch: Fields) -> Info:
        acts = self.next_policy.forward(batch["obs_next"]).tanh()
        y = self.target(batch, self.next_critic.forward(batch["obs_next"], acts))
        loss = fit(self.fitted, y, batch["obs"], batch["acts"])
        weights, grads = list(self.fitted.grads), list(self.fitted.grads.values())
        share = self.config.q_reg / len(weights)
        torch._foreach_add_(grads, [w.detach() for w in weights], alpha=share)
        norms = torch.stack(torch._foreach_norm([w.detach() for w in weights]))
        return {"Q_loss": loss, "Q_reg_loss": 0.5 * share * norms.square().sum()}

    def policy(self, batch: Fields) -> Info:
        acts = self.own_policy.forward(batch["obs"]).tanh()
        q = self.climbed.forward(batch["obs"], acts)
        by_q = self.climbed.late_grad(torch.full_like(q, -1 / len(q)))
        self.own_policy.backward(torch.ops.aten.tanh_backward(by_q, acts))
        return {"Pi_loss": -q.mean()}
