"""PyTorch's state that belongs to the caller's program: default dtype and device, inference mode, gradients, autocast.

A notebook may begin with `torch.set_default_dtype(torch.float64)`, for models of its own. Agents are float32, on the
device of their settings, all the same: `apart` computes a function as if nothing had been set.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

FLOAT = torch.float32           # of agents, replays and batches; tests that compare mathematics widen it
DEVICES = ("cpu", "cuda")       # on which a caller may have switched autocast on


class _Calls(threading.local):
    inside = False              # a function that is apart: what it sets itself, such as inference mode, holds below it


_calls = _Calls()


def apart(function: Callable) -> Callable:
    """Decorator: compute with the state in which PyTorch starts, whatever the caller has set, and restore that."""
    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        if _calls.inside:
            return function(*args, **named)
        _calls.inside = True
        try:
            if _is_plain():
                return function(*args, **named)
            with plain():
                return function(*args, **named)
        finally:
            _calls.inside = False
    call.is_apart = True
    return call


def methods_apart(*names: str) -> Callable[[type], type]:
    """Decorator of a class: these methods are `apart`, also where a subclass overrides them."""
    def decorate(kind: type) -> type:
        def wrap(one: type) -> None:
            for name in names:
                method = vars(one).get(name)
                if callable(method) and not getattr(method, "is_apart", False):
                    setattr(one, name, apart(method))

        def of_subclass(cls: type, **given: Any) -> None:
            super(kind, cls).__init_subclass__(**given)
            wrap(cls)
        wrap(kind)
        kind.__init_subclass__ = classmethod(of_subclass)
        return kind
    return decorate


def _is_plain() -> bool:
    return (torch.get_default_dtype() is FLOAT and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            and not torch._C._len_torch_function_stack()            # a default device is one of those
            and not any(map(torch.is_autocast_enabled, DEVICES)))


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """The state in which PyTorch starts, inside the block."""
    before = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_default_dtype, before)
        torch.set_default_dtype(FLOAT)
        for context in (torch.inference_mode(False), torch.enable_grad(), torch.device("cpu"),
                        *(torch.autocast(device, enabled=False) for device in DEVICES)):
            stack.enter_context(context)
        yield
