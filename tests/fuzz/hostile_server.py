"""A server under attack: a model that remembers what reached it, and what must hold afterwards."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from support.asking import ask, numbers
from support.custom import write_model
from support.serving import Server, serving

INFER = "/v2/models/m/infer"
# What a request says that no client has sent in a form that everybody reads alike.
SMUGGLED = 666.0
# The first element of what reached the model, one after the other.
SEEN = "open(os.path.join(HERE, 'seen'), 'a').write(f'{x.flat[0]}\\n')\nreturn x * 2"
# Of the front, over a whole test: caches and arenas fill up in the beginning.
MOST_GROWTH_MIB = 24


class Target(NamedTuple):
    """A running server, and the folder of its model."""

    server: Server
    folder: Path

    def seen(self) -> list[float]:
        """The first element of each request that reached the model."""
        file = self.folder / "seen"
        return list(map(float, file.read_text().split())) if file.exists() else []

    def require_well(self) -> None:
        """It is alive, and answers a good request rightly."""
        assert ask(self.server.http, "GET", "/v2/health/live").status == 200
        answer = ask(self.server.http, "POST", INFER, numbers(21.0))
        assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [42.0])

    def memory_mib(self) -> int:
        """What the front holds; 0 where the system does not say."""
        with suppress(OSError):
            status = Path(f"/proc/{self.server.process.pid}/status").read_text()
            return int(status.partition("VmRSS:")[2].split()[0]) // 1024
        return 0


@contextmanager
def attacked(root: Path, *arguments: object) -> Iterator[Target]:
    """A server that must be well before and afterwards, and hold no more than it did."""
    folder = write_model(root, SEEN)
    with serving(root, "--header-timeout", "5", "--body-timeout", "5", *arguments) as server:
        target = Target(server, folder)
        target.require_well()
        before = target.memory_mib()
        yield target
        target.require_well()
        assert target.memory_mib() - before <= MOST_GROWTH_MIB
        assert "this is a bug" not in server.log()
        # Of grpcio, which logs what callers do wrong, and of the model, which may raise for it.
        theirs = ('"logger":"grpc', '"logger":"asyncio"', "E1", "I1", "W1", "model m failed")
        ours = [line for line in server.log().splitlines() if not any(t in line for t in theirs)]
        assert [line for line in ours if "Traceback" in line] == []


def infer(value: float, *fields: bytes) -> bytes:
    """A request that everybody reads alike."""
    body = json.dumps(numbers(value)).encode()
    head = [b"POST %b HTTP/1.1" % INFER.encode(), b"Host: localhost", *fields]
    head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def exchanged(address: str | tuple[str, int], sent: bytes, timeout: float = 60) -> bytes:
    """Send bytes, and nothing after them; returns all that comes back until the peer closes."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    received = b""
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(address)
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            while part := sock.recv(65536):
                received += part
        except TimeoutError:
            raise
        except OSError:
            # The peer has closed before it was sent everything.
            pass
    return received


# Of answers that are not on their way only.
_STATUS = re.compile(rb"HTTP/1\.[01] ([2-5]\d\d) [A-Z]")


def statuses(received: bytes) -> list[int]:
    """The status of each answer."""
    return list(map(int, _STATUS.findall(received)))
