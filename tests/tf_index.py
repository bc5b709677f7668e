"""Indices of TensorFlow checkpoints that are made byte by byte, with checksums that match any content.

An index is a table of LevelDB's: blocks of (key, value) with a checksum each, and a footer with their positions.
Its values are protocol buffers: type, shape, and which bytes of the data file are the variable's.
"""

from __future__ import annotations

MAGIC = bytes.fromhex("57fb808b247547db")
HEADER = bytes.fromhex("08011a020801")              # one data file, little-endian, version 1
END = (0).to_bytes(4, "little") + (1).to_bytes(4, "little")         # a block's only place to jump to, and their number


def enveloped(block: bytes, listed: int = 1) -> bytes:
    """An index of this one block, which it lists so often."""
    handle = varint(0) + varint(len(block))
    rows = b"".join(b"\0" + bytes([1, len(handle)]) + b"z" + handle for _ in range(listed))
    footer = b"".join(map(varint, (0, 0, len(block) + 5, len(rows + END))))
    return sealed(block) + sealed(rows + END) + footer.ljust(40, b"\0") + MAGIC


def block_of(value: bytes, *keys: bytes) -> bytes:
    """A block of the header and, under each key, this variable."""
    pairs = [(b"", HEADER), *((key, value) for key in keys or [b"a"])]
    return b"".join(b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, v in pairs) + END


def variable(dtype: int = 1, shape: tuple[int, ...] = (1,), offset: int = 0, size: int = 4) -> bytes:
    """The entry of a variable in an index; type 1 is float32. Its data have no checksum that matches."""
    dims = b"".join(b"\x12" + varint(len(dim)) + dim for dim in (b"\x08" + varint(size) for size in shape))
    return (b"\x08" + varint(dtype) + b"\x12" + varint(len(dims)) + dims
            + b"\x20" + varint(offset) + b"\x28" + varint(size) + b"\x35" + bytes(4))


def sealed(content: bytes) -> bytes:
    """A block, not compressed, with its checksum: CRC-32C, masked as LevelDB does."""
    crc = 0xFFFFFFFF
    for byte in content + b"\0":
        crc = TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return content + b"\0" + (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the last byte has no eighth bit."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [(value >> 1) ^ (0x82F63B78 if value & 1 else 0) for value in table]
    return table


TABLE = _table()
