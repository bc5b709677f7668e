"""What happens in few games at once is computed for them alone, if that needs no waiting.

On the CPU the games in question are found first. On another device, and in a compiled step, counting them would wait
for the device, or change shapes: all games are computed, and a function has to leave alone those that it is not about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Change = Callable[..., None]


def on_rows(rows: Tensor, change: Change, changed: Sequence[Tensor], read: Sequence[Tensor] = ()) -> None:
    """Call `change(index, *changed, *read)`, which changes tensors in place, for the games in `rows`, (N,) bool.

    Args:
        changed, read: tensors (..., N); `change` gets those columns of them. They are contiguous, or the views that
            are written to.
    `change` gets the numbers of the games as `index`, None if it gets all games; it need not be called for none.
    """
    if is_dense(rows):
        change(None, *changed, *read)
        return
    index = rows.nonzero()[:, 0]
    if len(index):
        parts = [tensor.index_select(-1, index) for tensor in changed]
        change(index, *parts, *(tensor.index_select(-1, index) for tensor in read))
        for tensor, part in zip(changed, parts, strict=True):
            tensor.index_copy_(-1, index, part)


def pairs(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return (place, game) of each true element of a mask (K, N); of all elements where they cannot be counted."""
    if not is_dense(mask):
        return mask.nonzero(as_tuple=True)
    places, games = (torch.arange(size, device=mask.device) for size in mask.shape)
    return places.repeat_interleave(len(games)), games.repeat(len(places))


def is_dense(tensor: Tensor) -> bool:
    """Whether all games are computed."""
    return tensor.device.type != "cpu" or torch.compiler.is_compiling()
