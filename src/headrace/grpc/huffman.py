"""The Huffman code of HPACK (RFC 7541, appendix B), for reading."""

from __future__ import annotations

# The length of each symbol's code in bits; the last one is the end of a string. The code is
# canonical, so the lengths determine it.
# fmt: off
LENGTHS = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
)
# fmt: on
END = 256
# Where a prefix of a code leads with the next bit: the number of a longer prefix or, from LEAF on,
# a symbol.
LEAF = 1024


def _tree() -> list[list[int]]:
    nodes = [[0, 0]]
    code = previous = 0
    for symbol in sorted(range(len(LENGTHS)), key=lambda each: (LENGTHS[each], each)):
        length = LENGTHS[symbol]
        code <<= length - previous
        node = 0
        for place in range(length - 1, 0, -1):
            bit = code >> place & 1
            if not nodes[node][bit]:
                nodes[node][bit] = len(nodes)
                nodes.append([0, 0])
            node = nodes[node][bit]
        nodes[node][code & 1] = LEAF + symbol
        previous = length
        code += 1
    return nodes


TREE = _tree()


def _ends() -> set[int]:
    """The prefixes that a string may end with: at most seven bits of padding, all of them ones."""
    ends = {0}
    node = 0
    for _ in range(7):
        node = TREE[node][1]
        ends.add(node)
    return ends


ENDS = _ends()
# What a byte decodes to after a prefix, and the prefix after it: at most 256 for each prefix.
_steps: dict[tuple[int, int], tuple[int, bytes]] = {}


def decode(coded: bytes) -> bytes:
    """A string that is coded.

    Raises:
        ValueError: it contains the end of a string, or ends within a symbol.
    """
    node = 0
    decoded = []
    for byte in coded:
        step = _steps.get((node, byte))
        if step is None:
            step = _steps[node, byte] = _step(node, byte)
        node, symbols = step
        decoded.append(symbols)
    if node not in ENDS:
        raise ValueError("a Huffman code is cut off")
    return b"".join(decoded)


def _step(node: int, byte: int) -> tuple[int, bytes]:
    symbols = bytearray()
    for place in range(7, -1, -1):
        node = TREE[node][byte >> place & 1]
        if node >= LEAF:
            if node == LEAF + END:
                raise ValueError("a Huffman code contains the end of a string")
            symbols.append(node - LEAF)
            node = 0
    return node, bytes(symbols)
