"""A loop that reads a worker's socket, and lets go of it."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from headrace.worker.loop_reader import LoopReader

# Ends a hang; no test takes as long.
FAR = 20


def test_a_reader_that_is_stopped_before_it_runs_needs_no_loop() -> None:
    loop = asyncio.new_event_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as pool:
        reader = LoopReader(ours, loop, lambda: True, lambda: None)
        reader.stop()
        loop.close()

        assert pool.submit(reader.run).result(FAR) is None
