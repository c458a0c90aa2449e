"""`python -m benchmarks.crossings`: what the frames of a service of one runner cost by themselves.

Two processes exchange the frames of its requests, 32 at a time, as a server and its service do: a
request, the call of the runner, its answer, and the answer. They encode and decode what is in
them, and do nothing with it: no HTTP, no batches, no model, no endpoint.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import orjson
import uvloop

from headrace.worker import frames
from headrace.worker.frames import Kind

IN_FLIGHT, SECONDS = 32, 3.0
BODY = b"[[5.9, 3.0, 5.1, 1.8]]"
# As they are on their way for an endpoint with one tensor in and one out.
CONTEXT = {"endpoint": "classify", "content_type": "application/json", "deadline": 12345.678901}
META = {
    Kind.INFER: {"model": "iris_classifier-1", "id": "4f1d2c3b-1a2b", "context": CONTEXT},
    Kind.CALL: {"model": "iris", "id": "4f1d2c3b-1a2b", "timeout": 59.99912},
    Kind.CALL_RESULT: {"parameters": {"content_type": "np"}},
    Kind.RESULT: {"parameters": {"status": 200, "fields": [["content-type", "application/json"]]}},
}
TENSORS = {
    Kind.INFER: (["body", "BYTES", [], len(BODY), -1, None], BODY + bytes(-len(BODY) % 8)),
    Kind.CALL: (["input-0", "FP64", [1, 4], 32, -1, None], bytes(32)),
    Kind.CALL_RESULT: (["output-0", "INT64", [1], 8, -1, None], bytes(8)),
    Kind.RESULT: (["body", "BYTES", [], 3, -1, None], b"[2]" + bytes(5)),
}
NEXT = {Kind.INFER: Kind.CALL, Kind.CALL: Kind.CALL_RESULT, Kind.CALL_RESULT: Kind.RESULT}


def main() -> int:
    """Run both processes and print what a request costs each."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        ours.close()
        exchange(theirs, 0.0)
        os._exit(0)
    theirs.close()
    count, taken, used = exchange(ours, SECONDS)
    _, status, usage = os.wait4(child, 0)
    other = usage.ru_utime + usage.ru_stime
    print(
        f"{count / taken:,.0f} requests a second, "
        f"{1e6 * used / count:.1f} + {1e6 * other / count:.1f} us of processor time for each"
    )
    return os.waitstatus_to_exitcode(status)


def exchange(sock: socket.socket, seconds: float) -> tuple[int, float, float]:
    """Answer frames until the other end hangs up; with `seconds`, begin and end the exchange."""
    sock.setblocking(False)
    loop = uvloop.new_event_loop()
    received, done = bytearray(), 0
    began, used = time.monotonic(), time.process_time()

    def read() -> None:
        nonlocal done
        # The end that stops first leaves the other in the middle of something.
        with suppress(ConnectionError):
            if data := sock.recv(256 * 1024):
                received.extend(data)
                answers, start = [], 0
                for kind, end in _frames(received):
                    start = end
                    done += kind == Kind.RESULT
                    answers.append(_frame(NEXT.get(Kind(kind), Kind.INFER)))
                del received[:start]
                sock.sendall(b"".join(answers))
                return
        loop.stop()

    loop.add_reader(sock, read)
    if seconds:
        sock.sendall(b"".join(_frame(Kind.INFER) for _ in range(IN_FLIGHT)))
        loop.call_later(seconds, loop.stop)
    loop.run_forever()
    taken = time.monotonic() - began
    loop.remove_reader(sock)
    sock.close()
    return done, taken, time.process_time() - used


def _frames(received: bytearray) -> list[tuple[int, int]]:
    found, start, header = [], 0, frames.HEADER.size
    while len(received) - start >= header:
        kind, _, meta_size, payload_size = frames.parse_header(received, start)
        payload = start + header + meta_size
        end = payload + payload_size
        if len(received) < end:
            break
        meta = orjson.loads(received[start + header : payload])
        frames.restore(meta["tensors"], received[payload:end], _nothing_shared)
        found.append((kind, end))
        start = end
    return found


def _frame(kind: Kind) -> bytes:
    described, payload = TENSORS[kind]
    text = orjson.dumps({"tensors": [described], **META[kind]})
    return b"".join(frames.encode(kind, 1, text, [payload]))


_nothing_shared: Callable[[int, int], bytes] = lambda offset, size: b""  # noqa: E731


if __name__ == "__main__":
    sys.exit(main())
