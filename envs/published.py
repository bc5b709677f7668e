"""Environments as EmbodiChain's trainer makes them: by an id and an object of settings, resetting themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.build import build_env as build_for_run
from envs.names import check_registered, resolve_env
from envs.registration import registered_settings, tensor_class
from utils.autoreset import AutoReset
from utils.settings.resolve import resolve


def build_env(env_id: str, base_env_cfg: Any = None) -> AutoReset:
    """Return a batch of environments that begins new episodes inside `step`; `info["final_obs"]` holds the last ones.

    Args:
        env_id: as `--env` takes it.
        base_env_cfg: a mapping, or an object with attributes: `num_envs` (1), `device` (cpu), `seed` (0), and the
            task's settings, also those in `extensions`.
    Raises:
        ConfigError: the id or a setting is unknown.
    """
    cfg = dict(base_env_cfg if isinstance(base_env_cfg, Mapping) else vars(base_env_cfg) if base_env_cfg else {})
    cfg |= cfg.pop("extensions", None) or {}
    num_envs, device, seed = cfg.pop("num_envs", 1), str(cfg.pop("device", "cpu")), cfg.pop("seed", 0)
    check_registered(env_id)
    if task := tensor_class(name := resolve_env(env_id).id):
        return AutoReset(task(num_envs, device, seed, **registered_settings(name) | cfg))
    return AutoReset(build_for_run(resolve({
        "alg": "ppo", "env": env_id, "num_envs": num_envs, "device": device, "seed": seed, "env_type": "normal",
        **({"env_kwargs": cfg} if cfg else {})})))
