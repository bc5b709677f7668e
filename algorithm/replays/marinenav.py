"""Cases of the published MarineNav agents: what they compute at given weights, batches and draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Agent
from algorithm.learning_rates import apply_settings
from algorithm.marinenav_files import published
from algorithm.registry import load
from algorithm.replay_buffer.prioritized import PrioritizedReplay
from algorithm.replays.case import Case, CaseError, Refused, drawn_weights, summary
from algorithm.replays.training import settings_of
from utils.settings.marinenav_form import AGENT_TYPES
from utils.settings.resolve import resolve
from utils.settings.sizes import with_sizes

SAMPLED = 512                   # elements of a variable that a case stores, at most
ACT_ROWS = 8
SMALL = {"_sigma": 0.1, "output_layer_log_std": 0.05, "output_layer_v": 0.02, "output_layer_a.": 0.02}
# By `agent_type`: the networks of the case and ours; the batch's draws, ours and the case's; the losses.
KINDS: dict[str, dict[str, Any]] = {
    "AC-IQN": dict(nets={"actor": "policy", "critic": "critic"},
                   draws={"next_taus": "taus/target", "taus": "taus/local", "pi_taus": "taus/actor"},
                   losses={"critic_loss": "Q_loss", "actor_loss": "Pi_loss"}),
    "DDPG": dict(nets={"actor": "policy", "critic": "critic"}, draws={},
                 losses={"critic_loss": "Q_loss", "actor_loss": "Pi_loss"}),
    "SAC": dict(nets={"actor": "policy", "critic_1": "critic_1", "critic_2": "critic_2"},
                draws={"pi_next_noise": "noise/next", "pi_noise": "noise/new"},
                losses={"critic_1_loss": "Q1_loss", "critic_2_loss": "Q2_loss", "actor_loss": "Pi_loss"}),
    "IQN": dict(nets={"q": "value"}, draws={"next_taus": "taus/target", "taus": "taus/local"},
                losses={"loss": "Q_loss"}),
    "Rainbow": dict(nets={"q": "value"}, draws={}, losses={"loss": "Q_loss"}),
    "DQN": dict(nets={"q": "value"}, draws={}, losses={"loss": "Q_loss"}),
}


def agent_case(case: Case) -> dict[str, Any]:
    """`forward_0/*`, `info/*`, `grad_1/*`, `after_1/*`, `after_<steps>/*` and `act/*`.

    Raises:
        CaseError: the agent is unknown, or the case does not fit it.
        Refused: SAC with the original's log-density, which is that of a tanh.
    """
    kind = KINDS.get(case.value("agent_type"))
    if kind is None:
        raise CaseError(f"{case.path}: meta.agent_type: got {case.meta['agent_type']!r}, expected one of "
                        f"{', '.join(KINDS)}")
    if case.dtype != torch.float32:
        raise CaseError(f"dtype: got {str(case.dtype).removeprefix('torch.')}, expected float32, in which these agents "
                        "compute")
    if case.value("config").get("log_prob") == "original":
        raise Refused(f"{case.path}: meta.config.log_prob: got original, expected exact: the density of atan's actions "
                      "is computed, not that of tanh's")
    return Played(case, kind).play()


class Played:
    """One case, played."""

    def __init__(self, case: Case, kind: Mapping[str, Any]):
        self.case, self.kind, self.nets = case, kind, kind["nets"]
        self.alg = AGENT_TYPES[case.value("agent_type")]
        self.agent = self._build()
        self.infos: list[dict[str, float]] = []
        self.norms: list[dict[str, float]] = []
        self.first: dict[str, Tensor] = {}
        self.samples: list[Tensor] = []                 # the loss of each transition
        self.agent.inspect = self._see

    def _build(self) -> Agent:
        config = self.case.value("config")
        own, each, most = (config[name] for name in ("self_dimension", "object_dimension", "max_object_num"))
        hidden = (config["hidden_dimension"],) * 2
        given = {"q_lr": config["LR"], "gamma": config["GAMMA"], "max_grad_norm": config["grad_clip"],
                 "batch_size": config["BATCH_SIZE"], "encoder": "objects", "object_dims": (own, each),
                 "object_sizes": (config["self_feature_dimension"], config["object_feature_dimension"]),
                 "hidden_sizes": hidden}
        given |= {"pi_lr": config["LR"]} if "actor" in self.nets else {}
        if "atoms" in config:
            given |= {"n_step": config["multi_steps"]} | {name: config[name] for name in ("atoms", "v_min", "v_max")}
        given |= {"alpha_init": config["alpha"]} if "alpha" in config else {}
        if "num_quantiles" in config and "taus" in self.kind["draws"]:
            given |= {"quantiles": config["num_quantiles"], "act_quantiles": config["K"],
                      "cosines": config["num_cosines"]}
        discrete = "q" in self.nets
        acts = config["action_size"] if discrete else self.case.array("batch/action").shape[-1]
        settings = settings_of(self.case, self.alg, given, own + most * (each + 1), acts, discrete)
        agent = load("alg", self.alg, "pytorch")(settings)
        apply_settings(agent, settings)
        load_weights(agent, self.nets, {name: tuple(shape) for name, shape in self.case.value("shapes").items()},
                     self.case.value("seed"))
        return agent

    def play(self) -> dict[str, Any]:
        """Make the calls, and return all that is compared."""
        found, calls = self._forward(), self.case.value("calls")
        for t, verbs in enumerate(calls):
            for verb in verbs:
                if verb == "train":
                    self._train(t)
                else:
                    self.agent.target_update()
            if t in (0, len(calls) - 1):
                found |= summary(f"after_{t + 1}", self._parameters(), SAMPLED)
        found |= summary("grad_1", self.first, SAMPLED)
        found |= {f"info/{name}": np.array([info[ours] for info in self.infos])
                  for name, ours in self.kind["losses"].items()}
        found |= {f"info/grad_norm_{net}": np.array([norms[net] for norms in self.norms]) for net in self.nets}
        found |= {"info/per_sample_loss": torch.stack(self.samples)} if self.samples else {}
        return found | self._act()

    def _train(self, t: int) -> None:
        self.infos.append({})
        self.norms.append({})
        batch = self.batch(t)
        info = self.agent.train(batch)
        self.infos[-1] |= {name: float(value) for name, value in info.items()}
        if "weight" in batch:
            self.samples.append(self.agent.last_losses)

    def _see(self, info: Mapping[str, Tensor]) -> None:
        """Note the gradients of the networks whose step is next."""
        main = self.agent.nets["main"]
        for theirs, ours in self.nets.items():
            gradients = {f"{theirs}/{published(name)}": parameter.grad
                         for name, parameter in main[ours].named_parameters() if parameter.grad is not None}
            if not gradients:
                continue
            if len(self.norms) == 1:
                self.first |= {name: value.clone() for name, value in gradients.items()}
            norms = torch.stack([gradient.norm() for gradient in gradients.values()])
            self.norms[-1][theirs] = float(torch.linalg.vector_norm(norms))

    def obs(self, t: int, prefix: str = "") -> Tensor:
        """Return the observations of a batch as the agent reads them, (B, S + M (D + 1))."""
        own, objects, mask = (self.case.tensor(f"batch/{prefix}{name}")[t] for name in ("self", "objects", "mask"))
        return torch.cat([own, objects.flatten(1), mask.to(own.dtype)], 1)

    def batch(self, t: int) -> dict[str, Tensor]:
        """Return the batch of a step with its draws."""
        if "batch/return" in self.case:
            return self._windows(t)
        reward, done = (self.case.tensor(f"batch/{name}")[t].float()[:, None] for name in ("reward", "done"))
        fields = {"obs": self.obs(t), "obs_next": self.obs(t, "next_"), "acts": self.case.tensor("batch/action")[t],
                  "rews": reward, "done": done}
        return fields | {ours: self.case.tensor(theirs)[t] for ours, theirs in self.kind["draws"].items()}

    def _windows(self, t: int) -> dict[str, Tensor]:
        """Return a batch of returns over n steps."""
        returns, open_ones, weights = (self.case.tensor(f"batch/{name}")[t].float()[:, None]
                                       for name in ("return", "nonterminal", "weight"))
        config = self.agent.config
        return {"obs": self.obs(t), "obs_next": self.obs(t, "next_"), "acts": self.case.tensor("batch/action")[t],
                "rews": returns, "done": 1 - open_ones, "discount": open_ones * config.gamma ** config.n_step,
                "weight": weights, "noise": self._noise("local", t), "next_noise": self._noise("target", t)}

    def _noise(self, net: str, t: int) -> Tensor:
        return torch.cat([self.case.tensor(f"noise/{net}/{layer}/{end}")[t] for layer in self.agent.value.noise_sizes
                          for end in ("in", "out")])

    def _parameters(self) -> dict[str, Tensor]:
        main = self.agent.nets["main"]
        return {f"{theirs}/{published(name)}": parameter for theirs, ours in self.nets.items()
                for name, parameter in main[ours].named_parameters()}

    # Outputs ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _forward(self) -> dict[str, Any]:
        obs, agent, case = self.obs(0), self.agent, self.case
        acts = case.tensor("batch/action")[0]
        if "batch/return" in case:
            logits = agent.value(obs)
            return {"forward_0/probs_noiseless": logits[:ACT_ROWS].softmax(-1),
                    "forward_0/q_noiseless": agent.expected(logits)}
        if "q" in self.nets:
            if "forward_0/taus" not in case:
                return {"forward_0/q": agent.value(obs)}
            found = {"forward_0/q": agent.value(obs, case.tensor("forward_0/taus"))}
            cvar = {"forward_0/cvar_q_mean": agent.values(obs, case.tensor("forward_0/cvar_taus"))} \
                if "forward_0/cvar_taus" in case else {}
            return found | cvar
        extra = (case.tensor("forward_0/taus"),) if "forward_0/taus" in case else ()
        found = {f"forward_0/{theirs}": agent.critics[ours](obs, acts, *extra)
                 for theirs, ours in self.nets.items() if theirs != "actor"}
        if "forward_0/noise" not in case:
            return found | {"forward_0/actor": agent.policy(obs)}
        mean, log_std = agent.policy(obs)
        drawn, log_p = agent.policy.act(obs, case.tensor("forward_0/noise"))
        return found | {"forward_0/actor": drawn, "forward_0/log_prob": log_p, "forward_0/mean": mean,
                        "forward_0/log_std": log_std}

    @torch.no_grad()
    def _act(self) -> dict[str, Any]:
        obs, agent, case = self.obs(self.case.value("steps") - 1)[:ACT_ROWS], self.agent, self.case
        if "q" in self.nets:
            q = (agent.values(obs, case.tensor("act/taus")) if "act/taus" in case else
                 agent.expected(agent.value(obs)) if "batch/return" in case else agent.value(obs))
            return {"act/q": q, "act/action": q.argmax(1)}
        found = {"act/action": agent.act(obs, explore=False)}
        if "act/noise" in case:
            found = {"act/action": agent.policy.act(obs, case.tensor("act/noise"))[0],
                     "act/mean_action": found["act/action"]}
        return found


def memory_case(case: Case) -> dict[str, Any]:
    """`nstep/*`, `per/index` and `per/weight` of one robot's stream, whose last episode is still open."""
    rewards, ends = case.tensor("stream/reward"), case.tensor("stream/done").bool()
    count, fields = len(rewards), {"obs_dims": (1,), "acts_dims": (int(case.array("stream/action").max()) + 1,)}
    given = {"alg": "rainbow", "device": "cpu", "n_step": case.value("n"), "gamma": case.value("gamma"),
             "buffer_size": case.value("capacity"), "batch_size": case.value("batch"),
             "priority_exponent": case.value("priority_exponent"), "priority_beta": case.value("beta")}
    replay = PrioritizedReplay(with_sizes(resolve(given), **fields))
    replay.run_length = math.inf                        # beta is given
    numbers = torch.arange(count, dtype=torch.float32)[:, None]         # an observation is its index
    borders = [*(ends.nonzero()[:, 0] + 1).tolist(), *([] if ends[-1] else [count])]
    for first, end in itertools.pairwise([0, *borders]):
        replay.store_episode({"obs": numbers[first:end], "obs_next": numbers[first:end],
                              "acts": case.tensor("stream/action")[first:end], "rews": rewards[first:end, None],
                              "done": ends[first:end, None].float()})
    windows = replay.windows(torch.arange(count))
    last, done = windows["obs_next"][:, 0].long(), windows["done"][:, 0]
    complete = (done > 0) | (last - torch.arange(count) == replay.n_step - 1)       # or the stream ends first
    found: dict[str, Any] = {"nstep/return": windows["rews"][:, 0], "nstep/nonterminal": (1 - done) * complete,
                             "nstep/last_index": last, "nstep/complete": complete}
    drawn_by: list[tuple[Tensor, Tensor]] = []
    for losses, fractions in zip(case.tensor("per/loss"), case.array("per/uniform"), strict=True):
        replay.feed_back(torch.arange(count), losses)
        drawn_by.append(replay.draw_by(torch.from_numpy(fractions)))
    return found | {f"per/{name}": torch.stack(parts)
                    for name, parts in zip(("index", "weight"), zip(*drawn_by, strict=True), strict=True)}


def load_weights(agent: Agent, nets: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], seed: int) -> None:
    """Set the first weights of networks and targets, drawn by their published names."""
    for prefix, part in (("", "main"), ("target/", "target")):
        for theirs, ours in nets.items():
            if ours not in agent.nets[part]:
                continue
            module = agent.nets[part][ours]
            for name, parameter in module.named_parameters():
                key = f"{prefix}{theirs}/{published(name)}"
                if shapes[key] != tuple(parameter.shape):
                    raise CaseError(f"meta.shapes: {key}: got {shapes[key]}, expected {tuple(parameter.shape)}")
                scale = math.prod(factor for part, factor in SMALL.items() if part in key)
                parameter.data.copy_(torch.from_numpy(drawn_weights(key, shapes[key], seed, scale)))
