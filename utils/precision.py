"""What `--precision=bf16` means on a processor: products in bfloat16 where it has them, else float32."""

from __future__ import annotations

import dataclasses

import torch

from utils.settings.fields import Config
from utils.torch_utils import resolve_device

UNITS = {"AMX": "_is_amx_tile_supported", "AVX512-BF16": "_is_avx512_bf16_supported"}      # functions of torch.cpu
LACK = "this processor has neither AMX nor AVX512-BF16"


def bf16_unit() -> str:
    """Name the instructions by which oneDNN multiplies matrices of bfloat16 on this processor; "" without any."""
    if not torch.backends.mkldnn.is_available():
        return ""
    return next((unit for unit, name in UNITS.items() if getattr(torch.cpu, name, lambda: False)()), "")


def possible(config: Config, repeats: bool) -> Config:
    """Return the settings with the precision that a run has, and a note about bf16 on a processor.

    Without instructions for it, bf16 is emulated several times slower than float32. So a new run is one in fp32, unless
    its `kernels` say bf16.

    Args:
        repeats: the run is one that is resumed: it has the precision that it had.
    """
    if config.precision != "bf16" or resolve_device(config.device).type != "cpu":
        return config
    if unit := bf16_unit():
        return _noted(config, f"products in bf16 ({unit}), weights in fp32")
    if repeats or config.kernels.startswith("bf16"):
        return _noted(config, f"emulated, several times slower than fp32: {LACK}")
    return _noted(dataclasses.replace(config, precision="fp32"), f"not used: {LACK}, so it would be emulated, several "
                  "times slower than fp32; the run computes in fp32 and records that")


def _noted(config: Config, text: str) -> Config:
    return dataclasses.replace(config, notes=(*config.notes, f"note: --precision=bf16: {text}"))
