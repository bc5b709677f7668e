"""The index of a TensorFlow checkpoint, read strictly and written anew.

TensorFlow ends the whole process at an index whose checksums are right and whose content is not, and takes the memory
that it claims. So `parse` refuses what no `tf.train.Saver` writes, and TensorFlow gets what `build` makes of the rest.

An index is a table of LevelDB's: blocks of (key, value) with a checksum each, and a footer that says where they lie.
Its values are protocol buffers; every variable's tells type, shape, and which bytes of the data file are its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple

MOST_BYTES = 2**20                      # of an index; one variable takes about thirty
MOST_SHARED = 16                        # times a block's size: all its names in full
MOST_ELEMENTS = 2**40
MAGIC = bytes.fromhex("57fb808b247547db")
HEADER = bytes.fromhex("08011a020801")              # one data file, little-endian, version 1
STRING = 7
SIZES = {1: 4, 2: 8, 3: 4, 4: 1, 5: 2, 6: 1, 8: 8, 9: 8, 10: 1, 14: 2, 17: 2, 18: 16, 19: 2, 22: 4, 23: 8}


class Entry(NamedTuple):
    """One variable: TensorFlow's number of its type, its shape, its bytes in the data file and their checksum."""

    dtype: int
    shape: tuple[int, ...]
    offset: int
    size: int
    checksum: bytes


def parse(index: bytes, data_size: int) -> dict[str, Entry]:
    """Every variable by name.

    Raises:
        ValueError: it is damaged, or claims what the data file cannot hold.
    """
    if len(index) < 48 or index[-8:] != MAGIC:
        raise ValueError("the index is cut or is none")
    footer = _Bytes(index[-48:-8])
    footer.varint(), footer.varint()                # a block that is always empty
    pairs = list(_all_pairs(index, footer))
    if not pairs or pairs[0] != (b"", HEADER):
        raise ValueError("the index has no header that says: one data file, little-endian, version 1")
    entries = {name.decode(): _entry(value) for name, value in pairs[1:]}
    names = [name for name, _ in pairs]
    if any(first >= second for first, second in pairwise(names)):
        raise ValueError("the names in the index are not in order")
    _check_places(entries, data_size)
    return entries


def build(entries: dict[str, Entry]) -> bytes:
    """An index of these variables."""
    pairs = [(b"", HEADER), *sorted((name.encode(), _encoded(entry)) for name, entry in entries.items())]
    data = _sealed(pairs)
    empty = _sealed([])
    where = _varint(0) + _varint(len(data) - 5)
    blocks = _sealed([(pairs[-1][0], where)])
    footer = b"".join(map(_varint, (len(data), len(empty) - 5, len(data) + len(empty), len(blocks) - 5)))
    return data + empty + blocks + footer.ljust(40, b"\0") + MAGIC


def _check_places(entries: dict[str, Entry], data_size: int) -> None:
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:4]):
        elements = math.prod(max(size, 1) for size in entry.shape)
        if len(entry.shape) > 8 or elements > MOST_ELEMENTS:
            raise ValueError(f"{name}: got shape {entry.shape[:8]}")
        wants = math.prod(entry.shape) * SIZES.get(entry.dtype, 0)
        if entry.dtype != STRING and (entry.dtype not in SIZES or entry.size != wants):
            raise ValueError(f"{name}: got type {entry.dtype}, shape {entry.shape} and {entry.size} bytes")
        if entry.offset < end or entry.offset + entry.size > data_size:
            raise ValueError(f"{name}: its bytes are another's, or beyond the data file's end")
        end = entry.offset + entry.size


# Blocks -------------------------------------------------------------------------------------------------------------

class _Bytes:
    """Bytes that are read from the front."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def take(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self.data):
            raise ValueError("the index claims more bytes than there are")
        return self.data[self.at - size:self.at]

    def varint(self) -> int:
        """Seven bits a byte, the lowest first; the last byte has no eighth bit."""
        value = 0
        for shift in range(0, 63, 7):
            byte, = self.take(1)
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("the index holds a number of more than 63 bits")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _block(index: bytes, handle: _Bytes) -> bytes:
    """The block at (offset, size), without its checksum."""
    start, size = handle.varint(), handle.varint()
    block, rest = index[start:start + size], index[start + size:start + size + 5]
    if len(rest) < 5 or rest[0] != 0:
        raise ValueError("the index is cut, or compressed")
    if _checksum(block + rest[:1]) != rest[1:]:
        raise ValueError("the index's checksum does not match")
    return block


def _all_pairs(index: bytes, footer: _Bytes) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of the blocks that the last block lists; none may be listed twice, or reading would take for ever."""
    end = 0
    for _, handle in _pairs(_block(index, footer)):
        start, size = _Bytes(handle).varint(), len(block := _block(index, _Bytes(handle)))
        if start < end:
            raise ValueError("the blocks of the index overlap")
        end = start + size
        yield from _pairs(block)


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value); a key says how much of the one before it begins with. Places to jump to come last."""
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    if len(block) < 4 or end < 0:
        raise ValueError("a block of the index is cut")
    rest, key, total = _Bytes(block[:end]), b"", 0
    while rest:
        shared, own, size = rest.varint(), rest.varint(), rest.varint()
        key = key[:shared] + rest.take(own)
        total += len(key)
        if total > MOST_SHARED * len(block):
            raise ValueError("the names in the index are too long")
        yield key, rest.take(size)


def _sealed(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """A block whose keys stand in full, with its checksum."""
    rows = [b"\0" + _varint(len(key)) + _varint(len(value)) + key + value for key, value in pairs]
    places = list(accumulate(map(len, rows), initial=0))[:max(len(rows), 1)]
    numbers = [place.to_bytes(4, "little") for place in [*places, len(places)]]
    block = b"".join([*rows, *numbers, b"\0"])
    return block + _checksum(block)


def _table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [(value >> 1) ^ (0x82F63B78 if value & 1 else 0) for value in table]
    return table


TABLE = _table()


def _checksum(data: bytes) -> bytes:
    """CRC-32C, masked as LevelDB does."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


# Values -------------------------------------------------------------------------------------------------------------

def _entry(value: bytes) -> Entry:
    fields = dict(_fields(value, {1: 0, 2: 2, 3: 0, 4: 0, 5: 0, 6: 5}))
    if fields.get(3, 0) != 0:
        raise ValueError("a variable lies in another data file")
    shape = tuple(dict(_fields(dim, {1: 0, 2: 2})).get(1, 0) for _, dim in _fields(fields.get(2, b""), {2: 2}, True))
    return Entry(fields.get(1, 0), shape, fields.get(4, 0), fields.get(5, 0), fields.get(6, bytes(4)))


def _fields(message: bytes, kinds: dict[int, int], repeated: bool = False) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of a protocol buffer whose fields are of these kinds: 0 a varint, 2 bytes, 5 four bytes."""
    rest, seen = _Bytes(message), set()
    while rest:
        number, kind = divmod(rest.varint(), 8)
        if kinds.get(number) != kind or (number in seen and not repeated):
            raise ValueError("a variable is described in a way that tf.train.Saver does not know")
        seen.add(number)
        yield number, rest.varint() if kind == 0 else rest.take(4 if kind == 5 else rest.varint())


def _encoded(entry: Entry) -> bytes:
    dims = b"".join(b"\x12" + _varint(len(dim)) + dim for dim in (b"\x08" + _varint(size) for size in entry.shape))
    return (b"\x08" + _varint(entry.dtype) + b"\x12" + _varint(len(dims)) + dims
            + b"\x20" + _varint(entry.offset) + b"\x28" + _varint(entry.size) + b"\x35" + entry.checksum)
