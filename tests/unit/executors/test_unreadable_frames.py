"""A worker that sends what no frame holds is lost, and every call to it ends."""

from __future__ import annotations

import pytest

from headrace.executors.channel import Channel
from headrace.executors.executor import WorkerLost
from headrace.worker import frames
from headrace.worker.frames import Kind
from support import virtual_time
from support.http2_servers import Transport

UNREADABLE = {
    "an error without words": (Kind.ERROR, b'{"kind": "internal"}'),
    "an error that is no object": (Kind.ERROR, b"[]"),
    "an answer that is a number": (Kind.RESULT, b"1"),
    "an answer whose tensors are cut": (Kind.RESULT, b'{"tensors": [["y"]], "parameters": null}'),
}


@pytest.mark.parametrize(("kind", "meta"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_call_ends_although_its_answer_cannot_be_read(kind: Kind, meta: bytes) -> None:
    async def main() -> None:
        channel = Channel()
        channel.connection_made(Transport())
        call = channel.request(Kind.LOAD, {"model": "m"})
        # As event loops do with whatever a protocol raises.
        with pytest.raises((LookupError, TypeError, ValueError)) as raised:
            channel.data_received(b"".join(frames.encode(kind, 1, meta)))
        channel.connection_lost(raised.value)
        assert call.done()

        with pytest.raises(WorkerLost):
            await call

    virtual_time.run(main())
