"""The types of floats that a device has."""

from __future__ import annotations

import torch
from torch import Tensor


def widest(device: torch.device, dtype: torch.dtype = torch.float64) -> torch.dtype:
    """The type itself; float32 instead of float64 on MPS, which has none."""
    return torch.float32 if device.type == "mps" and dtype == torch.float64 else dtype


def widened(tensor: Tensor) -> Tensor:
    """The tensor in the widest type of floats that its device has."""
    return tensor.to(widest(tensor.device))
