"""Return decomposition: learn a reward for every step from the return of whole episodes.

    import return_decomposition as rd

    agent = rd.create_agent(args)

Importing this package imports neither PyTorch nor TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algorithm import create_agent

__all__ = ["create_agent"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "create_agent":
        from algorithm import create_agent
        return create_agent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
