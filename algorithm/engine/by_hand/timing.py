"""Choose the kernels of an agent by timing them on its own shapes, once on a machine."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from algorithm.basis_alg.base_torch import Agent
from algorithm.batch import Indices, Spec
from algorithm.engine.by_hand.engine import ManualEngine
from algorithm.engine.by_hand.kernels import Kernels, candidates, large_layers, parse
from algorithm.engine.by_hand.products import onednn
from algorithm.engine.by_hand.rollouts import RolloutEngine
from algorithm.engine.eager import Engine
from utils.cache import OFF, VARIABLE, is_off, remembered
from utils.cores import count_cores, load, processor
from utils.errors import ConfigError
from utils.settings.kernels import AUTOGRAD
from utils.threads import threads

BUDGET, ROUNDS = 0.15, 7                # seconds of each of two measurements, and rounds, at most; at least two rounds
GAIN = 1.1                              # times as fast as the usual choice another one has to be
METHOD = 2                              # raised when calls are timed in another way: earlier choices are forgotten
SETTLE = 0.005                          # seconds before a call: OpenMP's threads spin for some ms after their work
FAR = 3.0                               # times the usual choice's time after which another one is out
Call = Callable[[], object]


def create_timed(agent: Agent, buffer: Any, eager: bool) -> tuple[Engine, str]:
    """Create the engine by hand with the fastest kernels; return it with the reason for them.

    Args:
        eager: create the eager engine where that is faster.
    """
    possible, made = candidates(agent), []
    if len(possible) == 1:
        return create(agent, buffer, possible[0]), ""
    if is_off():
        return create(agent, buffer, possible[0]), f"not timed: {VARIABLE}={OFF}"
    measure = partial(_measured, agent, buffer, possible, made)
    found, known = remembered("kernels", key_of(agent), measure, is_choice)
    if found is None:
        return create(agent, buffer, possible[0]), "not timed: other programs use the cores"
    why = "timed by an earlier run" if known else "the fastest here"
    if found == AUTOGRAD and eager:
        engine = Engine(agent, buffer)
        engine.kernels = AUTOGRAD
        return engine, why
    return create(agent, buffer, possible[0] if found == AUTOGRAD else parse(found), made), why


def create(agent: Agent, buffer: Any, kernels: Kernels, made: Sequence[ManualEngine] = ()) -> Engine:
    """Return the engine by hand with these kernels: one that was made with the same products, or a new one."""
    for engine in made:
        if engine.kernels.products == kernels.products:
            engine.kernels = kernels
            return engine
    return (RolloutEngine if agent.on_policy else ManualEngine)(agent, buffer, kernels)


def _measured(agent: Agent, buffer: Any, possible: Sequence[Kernels], made: list[ManualEngine]) -> str | None:
    """Return the fastest of the kernels: first the library, by products alone; then the threads, by whole updates.

    None while other programs use the cores: then a time says little. The engine that was timed is put into `made`.
    """
    if is_busy():
        return None
    products = fastest(product_calls(agent, possible), possible[0].products)
    same = [one for one in possible if one.products == products]
    if agent.on_policy:
        return str(same[0])
    made.append(ManualEngine(agent, buffer, same[0]))
    return fastest(update_calls(made[0], same), str(same[0]))


def fastest(calls: dict[str, Call], usual: str) -> str:
    """Time functions by turns; return the name of the fastest by its best time, or the usual one if that is near.

    What disturbs a call only adds to its time, and a median of so few would hold it.
    One that takes far longer than the usual one is timed no more: on cores that others use, threads that share a
    product may wait for seconds.
    """
    if len(calls) == 1:
        return usual
    found: dict[str, list[float]] = {usual: [seconds(calls[usual])]}
    others = {name: call for name, call in calls.items() if name != usual}
    begin = time.perf_counter()
    while len(found[usual]) < 3 or (len(found[usual]) < ROUNDS and time.perf_counter() - begin < BUDGET):
        for name, call in list(others.items()):
            found.setdefault(name, []).append(seconds(call))
            if found[name][-1] > FAR * max(found[usual]):
                others.pop(name)
        found[usual].append(seconds(calls[usual]))
    least = {name: min(found[name]) for name in (usual, *others)}
    best = min(least, key=least.get)
    return best if GAIN * least[best] < least[usual] else usual


def seconds(call: Call) -> float:
    """Return how long the second of two calls takes, while no thread of another candidate spins.

    The first makes graphs and buffers, and outlasts what still spins: a thread that spins beside two halves of an
    update doubles their time.
    """
    time.sleep(SETTLE)
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# What is timed ------------------------------------------------------------------------------------------------------

def product_calls(agent: Agent, possible: Sequence[Kernels]) -> dict[str, Call]:
    """Return, for each library, a function that makes the products of the large layers: z, dL/dW and dL/dx."""
    makers = {"mm": _mm, "onednn": onednn, "bf16": _mm}         # bf16 is alone, so that nothing is timed
    operands = [pair for shape in large_layers(agent) for pair in _operands(*shape)]
    return {name: partial(_make, makers[name], operands) for name in dict.fromkeys(one.products for one in possible)}


def _operands(rows: int, inner: int, columns: int) -> list[tuple[Tensor, Tensor]]:
    """The x and y of the three products x y^T of a layer."""
    x, weight, grad = torch.ones(rows, inner), torch.ones(columns, inner), torch.ones(rows, columns)
    return [(x, weight), (grad.t(), x.t()), (grad, weight.t())]


def _mm(x: Tensor, y: Tensor) -> Tensor:
    return torch.mm(x, y.t())


@torch.inference_mode()
def _make(product: Callable[[Tensor, Tensor], Tensor], operands: Sequence[tuple[Tensor, Tensor]]) -> None:
    with threads(1):
        for x, y in operands:
            product(x, y)


def update_calls(engine: ManualEngine, kernels: Sequence[Kernels]) -> dict[str, Call]:
    """Return functions that compute the gradients of an update with each of the kernels, and by autograd.

    It is one in which the policy learns. They step nothing, and draw nothing from the agent's generator.
    """
    fields = blank(engine.agent)
    calls = {str(one): partial(_by_hand, engine, one, fields) for one in kernels}
    return calls | {AUTOGRAD: partial(_by_autograd, engine.agent, fields)}


def _by_hand(engine: ManualEngine, kernels: Kernels, fields: dict[str, Tensor]) -> None:
    engine.kernels = kernels
    noise = engine.agent.noise_spec()
    with engine.paired() as engine.pair, torch.inference_mode():
        for verb in engine.verbs_of(engine.agent.pi_delay_freq):
            batch = {name: value for name, value in fields.items() if name not in noise or name in verb.noise}
            engine.losses(verb, batch, engine.graphs)


def _by_autograd(agent: Agent, fields: dict[str, Tensor]) -> None:
    with agent.autocast():
        loss, _ = agent.losses(fields, math.isfinite(agent.pi_delay_freq))
    trained = [parameter for _, group in agent.groups() for parameter in group["params"]]
    torch.autograd.grad(loss, trained, allow_unused=True)


def blank(agent: Agent) -> dict[str, Tensor]:
    """Return a batch of the agent's sizes with its noise, as the losses read it; all numbers are the same."""
    config = agent.config
    fields = filled(agent.spec() | agent.noise_spec(), {
        "B": config.batch_size, "K": config.rrd_sample_size or 1,
        "N": max((config.rrd_batch_size or 0) // (config.rrd_sample_size or 1), 1)}, agent.device)
    return {name: agent.prepare(name, value) for name, value in fields.items()}


def filled(spec: Spec, sizes: dict[str, int], device: torch.device) -> dict[str, Tensor]:
    """Return fields of a spec whose letters have these sizes, full of one half; indices of 0."""
    def full(shape: tuple[int | str, ...]) -> Tensor:
        lengths = [sizes[size] if isinstance(size, str) else size for size in shape]
        value, dtype = (0, torch.int64) if isinstance(shape, Indices) else (0.5, torch.float32)
        return torch.full(lengths, value, dtype=dtype, device=device)
    return {name: full(shape) for name, shape in spec.items()}


# When ---------------------------------------------------------------------------------------------------------------

def key_of(agent: Agent) -> str:
    """Return what a choice depends on, as text: how it is timed, machine, PyTorch, threads, algorithm and shapes."""
    config = agent.config
    layers = [[name, *parameter.shape] for name, parameter in agent.nets.named_parameters() if parameter.dim() == 2]
    rows = [config.batch_size, config.rrd_batch_size, config.rrd_sample_size]
    rows += [config.quantiles] if config.quantiles else []
    return json.dumps([METHOD, processor(), torch.__version__, torch.get_num_threads(), config.alg, config.basis_alg,
                       rows, layers, *([config.precision] if config.precision != "fp32" else [])])


def is_choice(text: str) -> bool:
    """Whether a text is one that a measurement here may return."""
    try:
        return text == AUTOGRAD or bool(parse(text))
    except (ConfigError, AttributeError):               # AttributeError: it is of another form
        return False


def is_busy() -> bool:
    """Whether other programs use the cores that this one would: all of them, or one."""
    cores, alone = count_cores(), torch.get_num_threads() == 1
    return load() > (cores + 0.5 if alone else 0.75 * cores)
