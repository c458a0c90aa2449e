"""Requests that two readers may divide differently, with another request hidden in them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

from fuzz.hostile_server import INFER, SMUGGLED, infer

HIDDEN = infer(SMUGGLED)
LINE = b"POST %b HTTP/1.1\r\n" % INFER.encode()
HOST = b"Host: localhost\r\n"
# A body of chunks that is empty, before the hidden request; and a body of its own size.
ENDED = b"0\r\n\r\n"

LENGTHS = [
    *(b"Content-Length: 5", b"Content-Length: 0", b"content-length:5", b"Content-Length: 5, 5"),
    *(b"Content-Length: 0\r\nContent-Length: 5", b"Content-Length: 5\r\nContent-Length: 5"),
    *(b"Content-Length: +5", b"Content-Length: -1", b"Content-Length: 0x5", b"Content-Length: 5e0"),
    *(b"Content-Length: 5_0", b"Content-Length: 1_", b"Content-Length:", b"Content-Length: five"),
    *(b"Content-Length : 5", b"Content-Length\t: 5", b" Content-Length: 5", b"Content-Length: 5 5"),
    *(b"Content-Length:\r\n 5", b"Content-Length: \x0b5", b"Content-Length: 5\x00"),
    *(b"Content-Length: 18446744073709551621", b"Content-Length: 99999999999999999999999"),
    b"Content-Length: \xd9\xa5",
]
CODINGS = [
    *(
        b"chunked",
        b"CHUNKED",
        b" chunked",
        b"\tchunked",
        b"chunked ",
        b"identity",
        b"gzip, chunked",
    ),
    *(
        b"chunked, identity",
        b"chunked, chunked",
        b"xchunked",
        b"chunkedx",
        b"chunk",
        b"\x0bchunked",
    ),
    *(b"chunked\x00", b"chunked;a=b", b'"chunked"', b"", b"\r\n chunked", b"cow", b"chunked,"),
    b"\xefchunked",
]
NAMES = [
    *(b"Transfer-Encoding", b"transfer-encoding", b"Transfer-Encoding ", b" Transfer-Encoding"),
    *(
        b"Transfer-Encoding\t",
        b"Transfer-Encoding\x00",
        b"Transfer\x2dEncoding\x0b",
        b"X:\nTransfer-Encoding",
    ),
    *(b"X: y\rTransfer-Encoding", b"X: y\nTransfer-Encoding"),
]
CHUNKS = [
    *(b"0x5", b"+5", b"-5", b"5 ", b" 5", b"5\n", b"5\r", b"5;\n", b"5;a=\x00", b"", b"g", b"5_"),
    *(b"fffffffffffffffff", b"10000000000000005", b"5;a\nb", b"0\n\n", b"00000000000000000000g"),
]
# Several spaces count as one, to nginx as well (RFC 9112 3), so they are not among these.
LINES = [
    *(b"POST %b HTTP/1.1 ", b"POST\t%b\tHTTP/1.1", b"POST\x0b%b HTTP/1.1"),
    *(b"POST %b HTTP/1.2", b"POST %b HTTP/2.0", b"POST %b HTTP/0.9", b"POST %b HTTP/1.10"),
    *(b"POST %b http/1.1", b"POST %b", b"post %b HTTP/1.1", b"PO ST %b HTTP/1.1"),
    *(b"POST\x00 %b HTTP/1.1", b"POST %b\x00 HTTP/1.1", b" POST %b HTTP/1.1", b"\x16\x03\x01%b"),
    *(b"PRI %b HTTP/2.0", b"CONNECT %b HTTP/1.1", b"POST /\xff%b HTTP/1.1", b"POST %b\r HTTP/1.1"),
    b"POST %b#x HTTP/1.1 HTTP/1.1",
]


def ambiguous(seed: int) -> Iterator[bytes]:
    """All of them in an order of the seed, and then again with fields around what matters."""
    rng = random.Random(seed)
    plain = [*_two_framings(), *_wrong_lengths(), *_wrong_chunks(), *_wrong_lines(), *_wrong_ends()]
    while True:
        rng.shuffle(plain)
        yield from plain
        plain = [_disturbed(rng, each) for each in plain]


def _two_framings() -> Iterator[bytes]:
    """A length and a coding: by one of them the hidden request is a part of the body."""
    whole = b"Content-Length: %d" % len(ENDED + HIDDEN)
    for name, coding in product(NAMES, CODINGS):
        field = name + b": " + coding
        for fields in ((field, whole), (whole, field)):
            yield LINE + HOST + b"\r\n".join(fields) + b"\r\n\r\n" + ENDED + HIDDEN


def _wrong_lengths() -> Iterator[bytes]:
    for length in LENGTHS:
        if length.lower() not in (b"content-length: 5", b"content-length: 0", b"content-length:5"):
            yield LINE + HOST + length + b"\r\n\r\n" + HIDDEN
            yield LINE + HOST + length + b"\r\n\r\nabcde" + HIDDEN
        yield LINE + HOST + length + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + ENDED + HIDDEN


def _wrong_chunks() -> Iterator[bytes]:
    head = LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    for size in CHUNKS:
        yield head + size + b"\r\nabcde\r\n" + ENDED + HIDDEN
        yield head + b"5\r\nabcde\r\n" + size + b"\r\n\r\n" + HIDDEN
    # Chunks that are longer or shorter than they say, and bare ends of lines.
    yield head + b"5\r\nabcdefg\r\n" + ENDED + HIDDEN
    yield head + b"5\r\nabcde" + ENDED + HIDDEN
    yield head + b"5\nabcde\n0\n\n" + HIDDEN
    yield head + b"5\r\nabcde\r\n0\r\nContent-Length: 0\n\n" + HIDDEN
    # A coding that HTTP/1.0 does not have.
    yield head.replace(b"HTTP/1.1", b"HTTP/1.0") + ENDED + HIDDEN


def _wrong_lines() -> Iterator[bytes]:
    for line in LINES:
        first = line.replace(b"%b", INFER.encode())
        yield first + b"\r\n" + HOST + b"\r\n" + HIDDEN
        yield first + b"\r\n" + HOST + b"Content-Length: 5\r\n\r\nabcde" + HIDDEN


def _wrong_ends() -> Iterator[bytes]:
    """Lines that end with less than both characters, and fields that are none."""
    for end in (b"\n", b"\r", b"\n\r", b"\r\r\n", b"\x0b\x0c"):
        yield LINE.rstrip() + end + HOST + b"\r\n" + HIDDEN
        yield LINE + HOST.rstrip() + end + b"Content-Length: 0\r\n\r\n" + HIDDEN
        yield LINE + HOST + b"X: y" + end + b"Content-Length: 0" + end + end + HIDDEN
    for field in (b"nothing", b": x", b"X\x00: y", b"X: y\x00z", b"(: x", b"X Y: z", b"\xff: x"):
        yield LINE + HOST + field + b"\r\nContent-Length: 0\r\n\r\n" + HIDDEN
    yield LINE + HOST + b"X: y\r\n folded\r\nContent-Length: 0\r\n\r\n" + HIDDEN
    yield LINE + b"Content-Length: 0\r\n\r\n" + HIDDEN
    yield LINE + HOST + b"Host: other\r\nContent-Length: 0\r\n\r\n" + HIDDEN
    yield LINE + HOST + b"A: " + b"a" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n" + HIDDEN
    yield LINE + HOST + b"A: a\r\n" * 2000 + b"Content-Length: 0\r\n\r\n" + HIDDEN


def _disturbed(rng: random.Random, request: bytes) -> bytes:
    """The same with a field that changes nothing."""
    field = b"%b: %b\r\n" % (
        bytes(rng.choices(b"abcXYZ-", k=rng.randint(1, 9))),
        bytes(rng.choices(b'abc ;,="\t', k=rng.randint(0, 9))).strip() or b"x",
    )
    return request.replace(HOST, HOST + b"X-" + field, 1)
