"""A reader of pickles that executes nothing.

It follows the instructions of a pickle (`pickletools` lists them) and builds plain values. A class or function that the
pickle names is not imported but becomes a `Named`; an object or a call becomes an `Inert`, which holds what it was made
from. Only names in a list are accepted. So nothing of the file's choice runs, whatever the file says.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from utils.errors import CheckpointError

MOST_STEPS = 100_000                                    # instructions; a VecNormalize has five hundred
NUMPY = frozenset({
    "numpy.dtype", "numpy.ndarray", "_codecs.encode", "builtins.bytes", "__builtin__.bytes",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
})
RECONSTRUCT = tuple(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core"))
SCALAR = tuple(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core"))
FROM_BUFFER = tuple(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core"))


class Named(NamedTuple):
    """A class or function by its name."""

    name: str


@dataclass(eq=False)
class Inert:
    """An object that was not made: the name of what would make it, its arguments, and its state."""

    name: str
    args: Any
    state: Any = None

    def field(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the state, or the default."""
        return self.state.get(name, default) if isinstance(self.state, dict) else default


class _Mark:
    """The place on the stack that a list or tuple is collected from."""


MARK = _Mark()


def read_pickle(data: bytes, names: Collection[str], what: str) -> Any:
    """Return the value in a pickle, with every object in it as an `Inert`.

    Args:
        names: the classes and functions that may be named, beside NumPy's for arrays and numbers.
        what: the file, for the message.
    Raises:
        CheckpointError: it is damaged, names something else, or has an instruction that no array or number needs.
    """
    try:
        return _Machine(NUMPY | set(names)).run(data)
    except CheckpointError as error:
        raise CheckpointError(f"{what}: {error}") from None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, MemoryError, OverflowError) as error:
        raise CheckpointError(f"{what}: not a whole pickle ({type(error).__name__})") from None


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, names: Collection[str]):
        self.names, self.stack, self.memo = names, [], {}

    def run(self, data: bytes) -> Any:
        for count, (opcode, arg, _) in enumerate(pickletools.genops(data)):
            if count > MOST_STEPS:
                raise CheckpointError(f"got more than {MOST_STEPS} instructions, expected arrays and numbers")
            if opcode.name == "STOP":
                return self.pop()
            self.step(opcode.name, arg)
        raise ValueError("no end")

    def step(self, name: str, arg: Any) -> None:
        """Follow one instruction."""
        if name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in PUSHED:
            self.stack.append(arg)
        elif name in ACTIONS:
            ACTIONS[name](self, arg)
        elif name not in ("PROTO", "FRAME"):
            raise CheckpointError(f"got the instruction {name}, expected arrays and numbers alone")

    # The stack ------------------------------------------------------------------------------------------------

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise ValueError("a mark")
        return value

    def top(self, kind: type) -> Any:
        """Return the last value, which is to be of this kind."""
        if not isinstance(self.stack[-1], kind):
            raise ValueError("another kind")
        return self.stack[-1]

    def since_mark(self) -> list:
        """Return the values after the last mark, and remove them."""
        found = []
        while (value := self.stack.pop()) is not MARK:
            found.append(value)
        return found[::-1]

    def last(self, count: int) -> list:
        """Return so many last values, and remove them."""
        return [self.pop() for _ in range(count)][::-1]

    def extend(self, items: list) -> None:
        """Put values into the list before them."""
        self.top(list).extend(items)

    # Instructions ---------------------------------------------------------------------------------------------

    def remember(self, key: Any) -> None:
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    def name(self, module: Any, name: Any) -> None:
        """Push a name, if it is in the list."""
        found = f"{module}.{name}"
        if found not in self.names:
            raise CheckpointError(f"got {found[:100]!r} in a pickle, expected arrays and numbers alone; nothing was "
                                  "run")
        self.stack.append(Named(found))

    def make(self, args: Any) -> None:
        """Replace the last value, a name, by an object that is not made."""
        maker = self.pop()
        if not isinstance(maker, Named) or not isinstance(args, tuple):
            raise ValueError("no name")
        ordered = maker.name == "collections.OrderedDict"
        self.stack.append(dict(*args) if ordered else Inert(maker.name, args))

    def build(self) -> None:
        """Give the object before the last value its state."""
        state = self.pop()
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):     # (__dict__, slots)
            state = {**(state[0] or {}), **state[1]}
        self.top(Inert).state = state

    def set_items(self, items: list) -> None:
        """Put keys and values, by turns, into the dict before them."""
        self.top(dict).update(zip(items[::2], items[1::2], strict=True))

    def make_dict(self, items: list) -> None:
        """Push a dict of keys and values, by turns."""
        self.stack.append({})
        self.set_items(items)


CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "MARK": lambda: MARK}
PUSHED = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"})
ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MEMOIZE": lambda self, _: self.remember(None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda self, key: self.stack.append(self.memo[key])),
    "TUPLE": lambda self, _: self.stack.append(tuple(self.since_mark())),
    **{f"TUPLE{n}": lambda self, _, n=n: self.stack.append(tuple(self.last(n))) for n in (1, 2, 3)},
    "LIST": lambda self, _: self.stack.append(self.since_mark()),
    "APPEND": lambda self, _: self.extend(self.last(1)),
    "APPENDS": lambda self, _: self.extend(self.since_mark()),
    "SETITEM": lambda self, _: self.set_items(self.last(2)),
    "SETITEMS": lambda self, _: self.set_items(self.since_mark()),
    "DICT": lambda self, _: self.make_dict(self.since_mark()),
    "GLOBAL": lambda self, arg: self.name(*arg.split(" ", 1)),
    "STACK_GLOBAL": lambda self, _: self.name(*self.last(2)),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda self, _: self.make(self.pop())),
    "BUILD": lambda self, _: self.build(),
}


# Arrays and numbers -------------------------------------------------------------------------------------------------

def as_array(value: Any) -> np.ndarray:
    """Return a number, or an array of numbers or truth values, that a pickle holds.

    Raises:
        CheckpointError: it is something else, or does not fit together.
    """
    if isinstance(value, bool | int | float):
        return np.asarray(value)
    try:
        return _numbers(value)
    except (ValueError, TypeError, AttributeError, IndexError, OverflowError, MemoryError):
        raise CheckpointError(f"got {type(value).__name__} in a pickle, expected an array of numbers") from None


def _numbers(value: Inert) -> np.ndarray:
    if value.name in SCALAR:
        dtype, data = value.args
        return np.frombuffer(_bytes(data), _dtype(dtype), 1)[0]
    if value.name in FROM_BUFFER:
        data, dtype, shape, order = value.args
    elif value.name in RECONSTRUCT:
        _, shape, dtype, fortran, data = value.state
        order = "F" if fortran else "C"
    else:
        raise TypeError(value.name)
    return np.frombuffer(_bytes(data), _dtype(dtype)).reshape(shape, order=order)


def _dtype(value: Inert) -> np.dtype:
    """Return a type of numbers, such as float64, in the order of bytes that its state says."""
    kind, (_, order, *_) = value.args[0], value.state
    if value.name != "numpy.dtype" or kind not in ("f2", "f4", "f8", "b1", *(f"{s}{n}" for s in "iu" for n in "1248")):
        raise TypeError(kind)
    return np.dtype(kind).newbyteorder(order if order in "<>" else "=")


def _bytes(value: Any) -> bytes:
    """Return bytes, which protocols before 3 hold as text in Latin-1, or as a call without arguments."""
    if isinstance(value, Inert):
        return value.args[0].encode("latin1") if value.name == "_codecs.encode" else b""
    return bytes(value) if isinstance(value, bytes | bytearray) else _refuse(value)


def _refuse(value: Any) -> bytes:
    raise TypeError(type(value).__name__)
