"""Load from h2load: gRPC calls of one message over several connections with many streams.

A gRPC error still has HTTP status 200, but no message: the bytes that came back are counted.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import LoadFailed

DONE = re.compile(r"finished in ([\d.]+)(m?s), ([\d.]+) req/s")
SUCCEEDED = re.compile(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
DATA = re.compile(r"\((\d+)\) data")
# Before a message: the flag for no compression, and its length.
PREFIX = struct.Struct(">BI")


@dataclass(frozen=True)
class Answered:
    """One run of h2load."""

    requests: int
    rate: float


def require() -> None:
    """Raises LoadFailed if h2load is not installed."""
    if shutil.which("h2load") is None:
        raise LoadFailed(
            "h2load, which makes the load over gRPC, is not installed; on Debian and Ubuntu: "
            "apt-get install nghttp2-client"
        )


def write_message(path: Path, message: bytes) -> None:
    """Write a message as gRPC frames it."""
    path.write_bytes(PREFIX.pack(0, len(message)) + message)


def run(
    address: str, method: str, body: Path, connections: int, streams: int, seconds: int, size: int
) -> Answered:
    """Load `address` for whole `seconds`; each answer has a message of `size` bytes or more.

    Raises:
        LoadFailed: a call failed or had no message, or none came back.
    """
    command = [
        *("h2load", "-D", str(seconds), "-c", str(connections), "-m", str(streams)),
        *("-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"),
        f"http://{address}{method}",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"h2load on {address} did not end") from None
    return read(done.stdout, size, done.stderr)


def read(text: str, size: int, errors: str = "") -> Answered:
    """What h2load reports in `text`.

    Raises:
        LoadFailed: as in `run`.
    """
    rate, counts, data = DONE.search(text), SUCCEEDED.search(text), DATA.search(text)
    if rate is None or counts is None or data is None:
        raise LoadFailed(f"h2load: {(errors or text)[-400:]}")
    succeeded, *failures = (int(count) for count in counts.groups())
    if any(failures) or not succeeded:
        raise LoadFailed(f"h2load: {counts[0]}")
    if int(data[1]) < succeeded * (PREFIX.size + size):
        raise LoadFailed(f"h2load: {succeeded} answers had {data[1]} bytes, {size} each expected")
    return Answered(succeeded, float(rate[3]))
