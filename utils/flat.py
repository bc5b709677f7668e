"""Many tensors in one memory: what reads or writes all of them then does so at once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def gather(tensors: Iterable[Tensor]) -> Tensor:
    """Move tensors into one memory, of which they become views, and return all of it, flat.

    Each begins at a cache line, as memory of its own would; what lies between them is 0.
    """
    tensors = list(tensors)
    lengths = [-(-tensor.numel() // 16) * 16 for tensor in tensors]
    whole = torch.zeros(sum(lengths), device=tensors[0].device, dtype=tensors[0].dtype)
    for tensor, part in zip(tensors, whole.split(lengths), strict=True):
        view = part[:tensor.numel()].view(tensor.shape)
        view.copy_(tensor.detach())
        tensor.data = view
    return whole
