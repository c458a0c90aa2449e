"""When a certificate is valid, from its PEM file."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from typing import NamedTuple

PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
SEQUENCE, UTC_TIME, GENERALIZED_TIME = 0x30, 0x17, 0x18
VERSION = 0xA0


class Validity(NamedTuple):
    """When a certificate begins and ends to be valid, in seconds since 1970."""

    begins: float
    ends: float


def validity(pem: bytes) -> Validity:
    """The validity of the first certificate of a PEM file, which is the server's own.

    Python decodes certificates of peers only, so this reads as much of it as is needed. Source:
    RFC 5280, 4.1.

    Raises:
        ValueError: there is no certificate, or it cannot be read.
    """
    found = PEM.search(pem)
    if found is None:
        raise ValueError("there is no certificate in it")
    try:
        _, certificate, _ = _element(ssl.PEM_cert_to_DER_cert(found[0].decode("ascii")))
        _, fields, _ = _element(certificate)
        # Of the fields before, only the first one may be left out: the version. Those that follow
        # are the serial number, the algorithm and the issuer.
        kind, _, rest = _element(fields)
        for _ in range(3 if kind == VERSION else 2):
            _, _, rest = _element(rest)
        kind, period, _ = _element(rest)
        if kind != SEQUENCE:
            raise ValueError
        first, begins, rest = _element(period)
        second, ends, _ = _element(rest)
        return Validity(_time(first, begins), _time(second, ends))
    except (ValueError, IndexError):
        raise ValueError("its certificate cannot be read") from None


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """The type and the content of the first element, and what follows it."""
    size, begin = der[1], 2
    if size & 0x80:
        begin += size & 0x7F
        size = int.from_bytes(der[2:begin])
    if begin + size > len(der):
        raise ValueError
    return der[0], der[begin : begin + size], der[begin + size :]


def _time(kind: int, content: bytes) -> float:
    form = {UTC_TIME: "%y%m%d%H%M%SZ", GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}.get(kind)
    if form is None:
        raise ValueError
    return datetime.strptime(content.decode("ascii"), form).replace(tzinfo=UTC).timestamp()
