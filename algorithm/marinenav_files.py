"""Models as the published MarineNav program saves them: a directory of `.pth` weights and JSON constructor arguments.

Nothing is unpickled but tensors. Weights have the names of the reference cases (`algorithm.replays.marinenav`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from algorithm.model_file import Model, check_tensor, file_bytes, read_tensors
from utils.errors import CheckpointError, ConfigError
from utils.files import write_file
from utils.settings.algorithms import is_discrete
from utils.settings.json_files import read_object
from utils.text import one_line

ACTOR = ("actor_network_params.pth", "actor_constructor_params.json")
ACTOR_CRITIC = {"policy": ACTOR, "critic": ("critic_network_params.pth", "critic_constructor_params.json")}
VALUE = {"value": ("network_params.pth", "constructor_params.json")}
# The files of each algorithm: our network -> (weights, constructor arguments).
FILES: dict[str, dict[str, tuple[str, str]]] = {
    "ac_iqn": ACTOR_CRITIC, "marinenav_ddpg": ACTOR_CRITIC, "iqn": VALUE, "marinenav_dqn": VALUE, "rainbow": VALUE,
    "marinenav_sac": {"policy": ACTOR} | {
        f"critic_{i}": (f"critic_{i}_params.pth", f"critic_{i}_constructor_params.json") for i in (1, 2)},
}
TRUNK = ("self_dimension", "object_dimension", "max_object_num", "self_feature_dimension", "object_feature_dimension",
         "concat_feature_dimension", "hidden_dimension")
SUPPORT = (-1.0, 1.0)           # of the published Rainbow, whose files do not say it
EPSILON = ("weight_epsilon", "bias_epsilon")            # the noise that a noisy layer has at the moment


def published(name: str) -> str:
    """Return the published name of a parameter of ours."""
    return name.removeprefix("encoder.").replace("cos_embedding.linear.", "cos_embedding.")


def ours(name: str) -> str:
    """Return our name of a published parameter."""
    if name.startswith(("self_encoder.", "object_encoder.")):
        return f"encoder.{name}"
    return name.replace("cos_embedding.", "cos_embedding.linear.")


# Reading ------------------------------------------------------------------------------------------------------------

def is_published(path: Path) -> bool:
    """Return whether a path is a directory of a published model's files."""
    return any((path / files[net][0]).is_file() for files in FILES.values() for net in ("policy", "value")
               if net in files)


def read_published(path: Path) -> Model:
    """Read a directory of a published model; targets are equal to the networks.

    Raises:
        CheckpointError: a file is missing, damaged, or of another network than its constructor arguments say.
    """
    alg = _algorithm(path)
    weights = {net: _weights(path / names[0]) for net, names in FILES[alg].items()}
    arguments = {net: _arguments(path / names[1]) for net, names in FILES[alg].items()}
    first = next(iter(arguments.values()))
    for net, values in arguments.items():
        if different := [name for name in TRUNK if values[name] != first[name]]:
            raise CheckpointError(f"{path / FILES[alg][net][1]}: {different[0]}: got {values[different[0]]}, expected "
                                  f"{first[different[0]]}, as the first network has")
    nets = {f"{part}.{net}.{ours(name)}": tensor for part in ("main", "target") for net, state in weights.items()
            for name, tensor in state.items() if not name.endswith(EPSILON)}
    settings, sizes = _settings(alg, first, weights, path)
    return Model(path, settings, sizes, nets, None)


def _algorithm(path: Path) -> str:
    """The algorithm whose files a directory holds; quantile networks have an embedding of cosines."""
    if (path / ACTOR[0]).is_file():
        if (path / FILES["marinenav_sac"]["critic_1"][0]).is_file():
            return "marinenav_sac"
        names = _weights(path / FILES["ac_iqn"]["critic"][0])
        return "ac_iqn" if "cos_embedding.weight" in names else "marinenav_ddpg"
    names = _weights(path / FILES["iqn"]["value"][0])
    noisy = "hidden_layer_v.weight_mu" in names
    return "rainbow" if noisy else "iqn" if "cos_embedding.weight" in names else "marinenav_dqn"


def _weights(path: Path) -> dict[str, Tensor]:
    found = read_tensors(file_bytes(path), str(path))
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"{path}: got {type(found).__name__}, expected weights by name")
    return {str(name): check_tensor(name, tensor) for name, tensor in found.items()}


def _arguments(path: Path) -> dict[str, Any]:
    try:
        found = read_object(path)
    except ConfigError as error:
        raise CheckpointError(f"{path}: expected the constructor arguments beside the weights: {one_line(error)}"
                              ) from None
    for name in TRUNK:
        if type(found.get(name)) is not int or not 0 < found[name] < 2**20:
            raise CheckpointError(f"{path}: {name}: got {found.get(name)!r}, expected an integer above 0")
    for bounds in found.get("value_ranges_of_action", ()):
        if bounds != [-1, 1]:
            raise CheckpointError(f"{path}: value_ranges_of_action: got {bounds!r}, expected [-1, 1]")
    return found


def _settings(alg: str, arguments: Mapping[str, Any], weights: Mapping[str, Mapping[str, Tensor]], path: Path,
              ) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return our settings and sizes."""
    own, each, most, own_size, each_size, _, hidden = (arguments[name] for name in TRUNK)
    settings = {"alg": alg, "encoder": "objects", "object_dims": [own, each], "object_sizes": [own_size, each_size],
                "hidden_sizes": [hidden, hidden]}
    cosines = [state["cos_embedding.weight"] for state in weights.values() if "cos_embedding.weight" in state]
    settings |= {"cosines": cosines[0].shape[-1]} if cosines else {}
    if alg == "rainbow":
        settings |= {"atoms": arguments.get("atoms"), "v_min": SUPPORT[0], "v_max": SUPPORT[1]}
    acts = arguments.get("action_size") if is_discrete(alg) else len(arguments.get("value_ranges_of_action", ()))
    if type(acts) is not int or acts < 1:
        raise CheckpointError(f"{path}: got {acts!r} actions, expected action_size or value_ranges_of_action in the "
                              "constructor arguments")
    return settings, {"obs_dims": [own + most * (each + 1)], "acts_dims": [acts]}


# Writing ------------------------------------------------------------------------------------------------------------

def write_published(folder: Path, agent: Any) -> list[Path]:
    """Write an agent's networks as the published program saves them; return the paths.

    Args:
        folder: an existing directory.
    Raises:
        ConfigError: the published program has no such agent.
        SaveError: a file could not be written.
    """
    config = agent.config
    for name, expected in (("alg", FILES), ("encoder", ("objects",))):
        if getattr(config, name, None) not in expected:
            raise ConfigError(f"export: got {name} {getattr(config, name, None)!r}, expected {' or '.join(expected)}: "
                              "the published program has no other")
    sizes = config.hidden_sizes or agent.default_sizes
    if len(set(sizes)) != 1 or len(sizes) != 2 or config.critic_hidden_sizes not in (None, tuple(sizes)):
        raise ConfigError(f"export: got hidden_sizes {sizes}, expected two of the same width: the published program "
                          "has no other")
    written = []
    for number, (net, (weights, arguments)) in enumerate(FILES[config.alg].items()):
        data = io.BytesIO()
        torch.save(_state(agent.nets["main"][net]), data)
        text = json.dumps(_constructor(agent, net, sizes[0], config.seed + 100 + number))
        for name, content in ((weights, data.getvalue()), (arguments, text.encode())):
            write_file(folder / name, content)
            written.append(folder / name)
    return written


def _constructor(agent: Any, net: str, hidden: int, seed: int) -> dict[str, Any]:
    """The constructor arguments of one network."""
    config = agent.config
    (own, each), (own_size, each_size) = config.object_dims, config.object_sizes
    most = (config.obs_dims[0] - own) // (each + 1)
    values = (own, each, most, own_size, each_size, own_size + most * each_size, hidden)
    found: dict[str, Any] = dict(zip(TRUNK, values, strict=True))
    if net == "policy":
        found["value_ranges_of_action"] = [[-1.0, 1.0]] * agent.act_dim
    elif net == "value":
        found |= {"action_size": agent.act_dim} | ({"atoms": config.atoms} if config.alg == "rainbow" else {})
    else:
        found["action_dimension"] = agent.act_dim
    return found | {"seed": seed}


def _state(module: torch.nn.Module) -> dict[str, Tensor]:
    """The weights of a network by their published names; noisy layers have noise, which they draw anew when trained."""
    state = {published(name): tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for name in [name for name in state if name.endswith("weight_mu")]:
        rows, columns = (torch.randn(size, generator=generator) for size in state[name].shape)
        rows, columns = (x.sign() * x.abs().sqrt() for x in (rows, columns))
        layer = name.removesuffix("weight_mu")
        state |= {f"{layer}weight_epsilon": torch.outer(rows, columns), f"{layer}bias_epsilon": rows}
    return state
