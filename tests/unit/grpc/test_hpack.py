"""Header compression; the examples are those of RFC 7541, appendix C."""

from __future__ import annotations

import pytest

from headrace.grpc.hpack import CompressionError, Decoder, indexed, literal

PLENTY = 2**20
FIRST = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"www.example.com"),
]
SECOND = [*FIRST, (b"cache-control", b"no-cache")]
THIRD = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/index.html"),
    (b":authority", b"www.example.com"),
    (b"custom-key", b"custom-value"),
]
PLAIN = (
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
)
HUFFMAN = (
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
)


@pytest.mark.parametrize("blocks", [PLAIN, HUFFMAN], ids=["plain", "Huffman"])
def test_requests_are_read_in_order(blocks: tuple[str, ...]) -> None:
    decoder = Decoder()

    assert [decoder.decode(bytes.fromhex(each), PLENTY) for each in blocks] == [
        FIRST,
        SECOND,
        THIRD,
    ]


def test_what_does_not_fit_the_table_is_forgotten() -> None:
    decoder = Decoder()
    fits, evicts = b"x" * 2000, b"y" * 3000
    decoder.decode(b"\x40" + literal(b"a", fits)[1:], PLENTY)
    decoder.decode(b"\x40" + literal(b"b", evicts)[1:], PLENTY)

    assert decoder.decode(indexed(62), PLENTY) == [(b"b", evicts)]
    with pytest.raises(CompressionError):
        decoder.decode(indexed(63), PLENTY)


def test_a_block_that_changes_the_table_counts() -> None:
    decoder = Decoder()
    decoder.decode(bytes.fromhex(PLAIN[0]), PLENTY)
    changes = decoder.changes

    decoder.decode(indexed(62), PLENTY)
    assert decoder.changes == changes
    decoder.decode(bytes.fromhex(PLAIN[1]), PLENTY)
    assert decoder.changes == changes + 1


def test_fields_over_the_limit_are_not_kept_but_read() -> None:
    decoder = Decoder()
    decoder.decode(b"\x40" + literal(b"a", b"x" * 3000)[1:], PLENTY)
    bomb = indexed(62) * 20 + b"\x40" + literal(b"b", b"y")[1:]

    assert decoder.decode(bomb, 16_384) is None
    assert decoder.decode(indexed(62), 16_384) == [(b"b", b"y")]


def test_fields_far_over_the_limit_are_not_read_to_their_end() -> None:
    decoder = Decoder()
    decoder.decode(b"\x40" + literal(b"a", b"x" * 3000)[1:], PLENTY)

    with pytest.raises(CompressionError, match="too large"):
        decoder.decode(indexed(62) * 10_000, 16_384)


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        indexed(62),
        b"\x00\x05ab",
        b"\x40",
        b"\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\x81\x00\x00",
        b"\x00\x84\xff\xff\xff\xff\x00",
        b"\x3f\xe2\x1f",
        b"\x82\x20",
    ],
    ids=[
        "field 0",
        "beyond the table",
        "cut off",
        "empty literal",
        "number",
        "padding of zeros",
        "end of string",
        "table too large",
        "resized late",
    ],
)
def test_a_malformed_block_is_refused(block: bytes) -> None:
    with pytest.raises(CompressionError):
        Decoder().decode(block, PLENTY)


def test_long_literals_are_written_with_their_length() -> None:
    for size in (0, 126, 127, 128, 300, 20_000):
        assert Decoder().decode(literal(b"a", b"x" * size), PLENTY) == [(b"a", b"x" * size)]
