"""Header compression for HTTP/2 (RFC 7541): read in all its forms, written without compression."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from headrace.grpc import huffman
from headrace.protocol.short_keys import remember_short

Field = tuple[bytes, bytes]

# fmt: off
STATIC = (
    (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"),
    (b":path", b"/index.html"), (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"),
    (b":status", b"204"), (b":status", b"206"), (b":status", b"304"), (b":status", b"400"),
    (b":status", b"404"), (b":status", b"500"), (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"), (b"accept-language", b""), (b"accept-ranges", b""),
    (b"accept", b""), (b"access-control-allow-origin", b""), (b"age", b""), (b"allow", b""),
    (b"authorization", b""), (b"cache-control", b""), (b"content-disposition", b""),
    (b"content-encoding", b""), (b"content-language", b""), (b"content-length", b""),
    (b"content-location", b""), (b"content-range", b""), (b"content-type", b""), (b"cookie", b""),
    (b"date", b""), (b"etag", b""), (b"expect", b""), (b"expires", b""), (b"from", b""),
    (b"host", b""), (b"if-match", b""), (b"if-modified-since", b""), (b"if-none-match", b""),
    (b"if-range", b""), (b"if-unmodified-since", b""), (b"last-modified", b""), (b"link", b""),
    (b"location", b""), (b"max-forwards", b""), (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""), (b"range", b""), (b"referer", b""), (b"refresh", b""),
    (b"retry-after", b""), (b"server", b""), (b"set-cookie", b""),
    (b"strict-transport-security", b""), (b"transfer-encoding", b""), (b"user-agent", b""),
    (b"vary", b""), (b"via", b""), (b"www-authenticate", b""),
)
# fmt: on
# Bytes of the dynamic table that a client may use, unless it is told otherwise.
TABLE_SIZE = 4096
# What an entry takes beside its name and value, by the protocol's rule.
OVERHEAD = 32
# How many times the limit a block and its fields may have, so that the call can be refused in
# gRPC's terms; beyond that the connection ends.
EXCESS = 4
# No number of the protocol needs more bytes than this.
MAX_INTEGER_BYTES = 5


class CompressionError(Exception):
    """A header block that cannot be read; the connection's table is unknown from then on."""


class Decoder:
    """Reads the header blocks of one connection, in their order.

    `changes` counts how often the table has changed: the same block means the same fields while
    it stays the same.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._entries: deque[Field] = deque()
        self._used = 0
        self._capacity = TABLE_SIZE

    def decode(self, block: bytes, limit: int) -> list[Field] | None:
        """The fields of a block; None if they are larger than `limit` bytes.

        Such a block is read to its end, because later ones build on it.

        Raises:
            CompressionError: the block is malformed, or its fields exceed the limit `EXCESS` times.
        """
        fields: list[Field] = []
        size = position = 0
        try:
            while position < len(block):
                first = block[position]
                if first & 0x80:
                    index, position = _integer(block, position, 0x7F)
                    field = self._entry(index)
                elif first & 0x40:
                    field, position = self._literal(block, position, 0x3F)
                    self._insert(field)
                elif first & 0x20:
                    if fields or size:
                        raise CompressionError("a table is resized between fields")
                    capacity, position = _integer(block, position, 0x1F)
                    self._resize(capacity)
                    continue
                else:
                    field, position = self._literal(block, position, 0x0F)
                size += len(field[0]) + len(field[1]) + OVERHEAD
                if size <= limit:
                    fields.append(field)
                elif size > EXCESS * limit:
                    raise CompressionError("the fields are too large")
        except (IndexError, ValueError) as error:
            raise CompressionError(str(error) or "a header block is cut off") from None
        return fields if size <= limit else None

    def _literal(self, block: bytes, position: int, mask: int) -> tuple[Field, int]:
        index, position = _integer(block, position, mask)
        if index:
            name = self._entry(index)[0]
        else:
            name, position = _string(block, position)
        value, position = _string(block, position)
        return (name, value), position

    def _entry(self, index: int) -> Field:
        if not index:
            raise CompressionError("there is no field 0")
        if index <= len(STATIC):
            return STATIC[index - 1]
        return self._entries[index - len(STATIC) - 1]

    def _insert(self, field: Field) -> None:
        self.changes += 1
        self._entries.appendleft(field)
        self._used += len(field[0]) + len(field[1]) + OVERHEAD
        self._evict()

    def _resize(self, capacity: int) -> None:
        if capacity > TABLE_SIZE:
            raise CompressionError("a table is larger than allowed")
        self.changes += 1
        self._capacity = capacity
        self._evict()

    def _evict(self) -> None:
        while self._used > self._capacity:
            name, value = self._entries.pop()
            self._used -= len(name) + len(value) + OVERHEAD


def literal(name: bytes, value: bytes) -> bytes:
    """A field in a form that neither side needs to remember."""
    return b"\x00" + _length(name) + name + _length(value) + value


@remember_short(64)
def _name(name: str) -> bytes:
    """How a literal field with this name begins."""
    text = name.encode()
    return b"\x00" + _length(text) + text


def literals(fields: Iterable[tuple[str, str]]) -> bytes:
    """Fields of ASCII text, in the form of `literal`. Hot."""
    found = b""
    for name, value in fields:
        text = value.encode()
        found += _name(name) + _length(text) + text
    return found


def indexed(index: int) -> bytes:
    """A field of the static table."""
    return bytes((0x80 | index,))


# Lengths that fit into the first byte.
_SHORT = [bytes((size,)) for size in range(0x7F)]


def _length(text: bytes) -> bytes:
    size = len(text)
    if size < 0x7F:
        return _SHORT[size]
    encoded = bytearray((0x7F,))
    size -= 0x7F
    while size >= 0x80:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


def _integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """A number whose first bits are under the mask, and where it ends."""
    number = block[position] & mask
    position += 1
    if number < mask:
        return number, position
    for place in range(MAX_INTEGER_BYTES):
        byte = block[position]
        position += 1
        number += (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, position
    raise CompressionError("a number is too large")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    is_coded = block[position] & 0x80
    size, position = _integer(block, position, 0x7F)
    end = position + size
    if end > len(block):
        raise CompressionError("a header block is cut off")
    text = block[position:end]
    return (huffman.decode(text) if is_coded else text), end
