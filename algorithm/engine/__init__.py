"""How updates are computed: engines that do the same mathematics at different speeds."""

from __future__ import annotations

from typing import Any

from algorithm.engine.eager import Engine, Sums
from utils.errors import ConfigError
from utils.installed import room_of
from utils.settings.fields import Config
from utils.settings.kernels import AUTO, AUTOGRAD

__all__ = ["Engine", "Sums", "create_engine"]


def create_engine(config: Config, agent: Any, buffer: Any) -> tuple[Engine, str]:
    """Create the engine that `config.engine` names, for an agent and its replay; return it with a short reason for it.

    Raises:
        ConfigError: this engine cannot compute the updates of this agent on this machine.
    """
    import torch

    from algorithm.basis_alg.base_torch import Agent
    if not isinstance(agent, Agent):
        return _only_eager(config, agent, buffer)
    _check_optimizers(agent)
    if config.precision == "tf32" and agent.device.type != "cuda":
        raise ConfigError("precision: got 'tf32', which only CUDA devices have; expected fp32 or bf16 on "
                          f"{agent.device}")
    # of the whole process: an earlier run's tf32 must not reach this one
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    if agent.device.type == "mps":
        _check_mps(config)
    if (config.grad_accum_steps or 1) > 1 and config.engine not in ("auto", "eager"):
        raise ConfigError(f"engine: got {config.engine!r} with --grad_accum_steps={config.grad_accum_steps}, expected "
                          "eager or auto")
    name, why = (config.engine, "as asked") if config.engine != "auto" else _fastest(agent, buffer)
    if name == "manual" and config.precision == "bf16" and agent.device.type != "cpu":
        raise ConfigError(f"engine: got 'manual' with --precision=bf16 on {agent.device}, expected eager, compile or "
                          "auto (gradients by hand are float32 there)")
    if name == "manual":
        _check_by_hand(agent)
    if name == "manual" and agent.device.type == "cpu":
        return _with_kernels(config, agent, buffer, why)
    if config.kernels not in (AUTO, AUTOGRAD):
        raise ConfigError(f"kernels: got {config.kernels!r}, which only gradients by hand on a CPU read; expected auto "
                          f"with the engine {name} on {agent.device}")
    return _load(name, agent.on_policy)(agent, buffer), why


def _with_kernels(config: Config, agent: Any, buffer: Any, why: str) -> tuple[Engine, str]:
    """Create the engine by hand with the kernels that are asked for, or with the fastest ones."""
    from algorithm.engine.by_hand.kernels import parse
    from algorithm.engine.by_hand.timing import create, create_timed
    if config.kernels == AUTOGRAD and config.engine == "auto":
        return Engine(agent, buffer), "autograd, as its kernels say"
    if config.kernels == AUTOGRAD:
        raise ConfigError("kernels: got 'autograd' with --engine=manual, expected auto, or kernels such as mm-2x1")
    if config.kernels != AUTO:
        _check_products(config)
        return create(agent, buffer, parse(config.kernels)), f"{why}; kernels {config.kernels} as asked{_small(agent)}"
    engine, reason = create_timed(agent, buffer, config.engine == "auto")
    if engine.kernels == AUTOGRAD:
        return engine, f"gradients by hand are slower here: {reason}"
    return engine, f"{why}; kernels {engine.kernels}" + (f", {reason}" if reason else "") + _small(agent)


def _check_by_hand(agent: Any) -> None:
    """Raise a ConfigError if no gradients are written by hand for the agent, on its device and at its precision."""
    from algorithm.engine.by_hand.choice import refusal, why_not_by_hand
    if why_not_by_hand(agent) is not None:
        raise refusal(agent)


def _small(agent: Any) -> str:
    """Say that bf16 was asked for in vain, if no product is large."""
    from algorithm.engine.by_hand.kernels import is_rounded
    if agent.config.precision != "bf16" or is_rounded(agent):
        return ""
    return "; every product is small, so all are in fp32"


def _check_products(config: Config) -> None:
    """Raise a ConfigError if the kernels that are asked for have another precision than the one asked for."""
    if config.kernels.startswith("bf16") == (config.precision == "bf16"):
        return
    shares = config.kernels.partition("-")[2]
    wanted = f"bf16-{shares}" if config.precision == "bf16" else f"mm-{shares}"
    raise ConfigError(f"kernels: got {config.kernels!r} with --precision={config.precision}, expected auto or {wanted}")


def _check_mps(config: Config) -> None:
    """Raise a ConfigError for an engine or a precision that is not made for Apple's GPUs."""
    for name, wanted in (("engine", ("eager", "auto")), ("precision", ("fp32",))):
        if (got := getattr(config, name)) not in wanted:
            raise ConfigError(f"{name}: got {got!r} with --device=mps, expected {' or '.join(wanted)}")


def _check_optimizers(agent: Any) -> None:
    """Raise a ConfigError if a user's agent trains parameters that it does not save."""
    from utils.optimizers import TFOptimizer
    whose = f"alg: {agent.config.alg!r}: its optimisers"
    for opt in (opt for opt in agent.opts if not isinstance(opt, TFOptimizer)):
        raise ConfigError(f"{whose} are a {type(opt).__name__}, expected utils.optimizers.TFAdam or TFRMSProp")
    held = set(agent.nets.parameters())
    if not all(parameter in held for _, group in agent.groups() for parameter in group["params"]):
        raise ConfigError(f"{whose} step parameters that are not in its nets, so they would not be saved; expected "
                          "them in both")


def _only_eager(config: Config, agent: Any, buffer: Any) -> tuple[Engine, str]:
    if not hasattr(agent, "update"):
        raise ConfigError(f"alg: {config.alg!r} builds a {type(agent).__name__}, "
                          "expected a subclass of algorithm.basis_alg.base_torch.Agent")
    if config.engine not in ("auto", "eager"):
        raise ConfigError(f"engine: got {config.engine!r}, but a {type(agent).__name__} belongs to another backend, "
                          "which computes its updates itself; expected eager or auto")
    return Engine(agent, buffer), "the backend's own"


def _fastest(agent: Any, buffer: Any) -> tuple[str, str]:
    from algorithm.engine.by_hand.choice import why_not_by_hand
    missing = why_not_by_hand(agent)
    if (agent.config.grad_accum_steps or 1) > 1:
        return "eager", "it adds up the gradients of parts of a batch"
    if agent.device.type == "mps":
        return "eager", "the engine for MPS"
    on_one_gpu = agent.device.type == "cuda" and buffer.device == agent.device
    if on_one_gpu and _is_ours(agent, buffer) and _is_captured(agent, missing):
        return "cudagraph", "the agent and its replay are on one CUDA device"
    if missing is None:
        return "manual", "gradients by hand are the fastest on CPUs"
    return "eager", f"no gradients are written by hand for {missing}"


def _is_captured(agent: Any, missing: str | None) -> bool:
    """Whether a graph of an update stays right: `missing` is what no gradients are written by hand for."""
    if not agent.on_policy:
        return missing is None or not (agent.policy_batch or agent.critic_first)
    config = agent.config
    return not agent.recurrent and config.target_kl is None and config.timesteps % config.batch_size == 0


def _is_ours(agent: Any, buffer: Any) -> bool:
    """Whether every part is of this package: others may do what no graph can record, such as wait for the GPU."""
    from algorithm.engine.by_hand.choice import replaced_methods
    agents = (agent, getattr(agent, "basis", agent), getattr(agent, "decomposition", agent))
    parts = (*agents, buffer, *agent.nets.modules())
    ours = {room_of(type(part).__module__) for part in parts} <= {"algorithm", "utils", "torch"}
    return ours and not any(map(replaced_methods, agents))


def _load(name: str, on_policy: bool) -> type[Engine]:
    if name == "manual" and on_policy:
        from algorithm.engine.by_hand.rollouts import RolloutEngine
        return RolloutEngine
    if name == "manual":
        from algorithm.engine.by_hand.engine import ManualEngine
        return ManualEngine
    if name == "compile":
        from algorithm.engine.compiled import CompiledEngine
        return CompiledEngine
    if name == "cudagraph":
        from algorithm.engine.captured import CapturedEngine
        return CapturedEngine
    return Engine
