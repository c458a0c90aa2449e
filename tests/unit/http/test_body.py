"""Reading, inflating and compressing bodies, without a socket."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib

import pytest

from headrace.errors import Cancelled, InvalidInput, TooLarge, UnsupportedMedia
from headrace.http.body import compress, read_body
from headrace.http.header_fields import collect

TEXT = b"some text that is long enough to be cut " * 10


def read(chunks, limit=10_000, **headers):
    fields = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return asyncio.run(read_body(fields, sender(chunks), limit))


def sender(chunks):
    """A `receive` that returns each chunk; None stands for the client leaving."""
    left = list(chunks)

    async def receive():
        chunk = left.pop(0)
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(left)}

    return receive


def cut(data, size=7):
    return [data[start : start + size] for start in range(0, len(data), size)]


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def test_a_single_chunk_is_returned_without_a_copy():
    assert read([TEXT]) is TEXT


def test_several_chunks_are_joined():
    assert read([b"a", b"", b"bc"]) == b"abc"


def test_a_declared_length_over_the_limit_is_refused_before_reading():
    with pytest.raises(TooLarge, match="exceeds 10 bytes; --max-body-size"):
        read([], limit=10, content_length=b"11")


@pytest.mark.parametrize("chunks", [[b"x" * 11], [b"x" * 6, b"x" * 5]], ids=["one", "two"])
def test_an_undeclared_length_is_counted_while_reading(chunks):
    with pytest.raises(TooLarge):
        read(chunks, limit=10)


def test_a_body_of_exactly_the_limit_is_read():
    assert read([b"x" * 6, b"x" * 4], limit=10, content_length=b"10") == b"x" * 10


@pytest.mark.parametrize("chunks", [[None], [b"a", None]], ids=["at-once", "midway"])
@pytest.mark.parametrize("encoding", [b"identity", b"gzip"], ids=["plain", "gzip"])
def test_a_client_that_leaves_midway_cancels(chunks, encoding):
    if encoding == b"gzip":
        chunks = [chunk and gzip.compress(TEXT)[:20] for chunk in chunks]
    with pytest.raises(Cancelled):
        read(chunks, content_encoding=encoding)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        (b"gzip", gzip.compress),
        (b"X-GZIP", gzip.compress),
        (b"deflate", zlib.compress),
        (b"deflate", raw_deflate),
        (b" Identity", bytes),
    ],
    ids=["gzip", "x-gzip", "zlib", "raw-deflate", "identity"],
)
@pytest.mark.parametrize("size", [1, 7, 10_000], ids=["bytewise", "pieces", "whole"])
def test_an_encoded_body_is_decoded_however_it_is_cut(encoding, pack, size):
    assert read(cut(pack(TEXT), size), content_encoding=encoding) == TEXT


def test_an_encoded_empty_body_is_decoded():
    assert read([gzip.compress(b"")], content_encoding=b"gzip") == b""


def test_a_body_larger_than_one_inflate_step_is_decoded():
    data = bytes(range(256)) * 10_000
    assert read([gzip.compress(data)], limit=len(data), content_encoding=b"gzip") == data


def test_a_decoded_size_of_exactly_the_limit_passes_and_one_more_is_refused():
    packed = gzip.compress(b"x" * 5000)
    assert len(read([packed], limit=5000, content_encoding=b"gzip")) == 5000
    with pytest.raises(TooLarge):
        read([packed], limit=4999, content_encoding=b"gzip")


def test_a_gzip_bomb_is_refused_long_before_it_is_inflated():
    bomb = gzip.compress(bytes(100_000_000))
    with pytest.raises(TooLarge):
        read([bomb], limit=200_000, content_encoding=b"gzip")


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(TEXT) + b"garbage",
        gzip.compress(TEXT) + gzip.compress(TEXT),
        gzip.compress(TEXT)[:-1],
        gzip.compress(TEXT)[:15],
        b"",
        b"not gzip at all",
        gzip.compress(TEXT)[:-8] + bytes(8),
    ],
    ids=["trailing", "second-member", "cut", "cut-early", "empty", "other", "bad-checksum"],
)
@pytest.mark.parametrize("size", [1, 10_000], ids=["bytewise", "whole"])
def test_a_damaged_gzip_body_is_refused(data, size):
    with pytest.raises(InvalidInput, match="gzip"):
        read(cut(data, size) or [b""], content_encoding=b"gzip")


@pytest.mark.parametrize("encoding", [b"br", b"gzip, gzip", b"gzip, identity", b"zstd\x00"])
def test_other_or_several_encodings_are_not_supported(encoding):
    with pytest.raises(UnsupportedMedia, match="send gzip, deflate or identity"):
        read([b"data"], content_encoding=encoding)


def test_encodings_spread_over_two_fields_are_several():
    headers = collect([(b"content-encoding", b"gzip"), (b"content-encoding", b"gzip")])
    with pytest.raises(UnsupportedMedia):
        asyncio.run(read_body(headers, sender([gzip.compress(TEXT)]), 10_000))


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        (b"gzip", "gzip"),
        (b"gzip, deflate", "gzip"),
        (b"deflate, gzip;q=0.5", "deflate"),
        (b"deflate", "deflate"),
        (b"GZIP ; Q=1.0", "gzip"),
        (b"*", "gzip"),
        (b"gzip;q=0, *", "deflate"),
        (b"gzip;q=0", None),
        (b"*;q=0", None),
        (b"br", None),
        (b"identity", None),
        (b"gzip;q=oops", None),
        (b"", None),
    ],
)
def test_the_encoding_is_one_the_client_accepts(accepted, expected):
    packed, encoding = compress(b"x" * 2000, accepted)
    assert encoding == expected
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[encoding]
    assert unpack(packed) == b"x" * 2000


def test_small_answers_are_not_compressed():
    assert compress(b"x" * 1023, b"gzip") == (b"x" * 1023, None)


def test_an_answer_that_would_grow_is_not_compressed():
    noise = random.Random(0).randbytes(2000)
    assert compress(noise, b"gzip") == (noise, None)
