"""What workers print is passed on, and bounded. The pipes are real, and so is the gigabyte."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

import pytest

from headrace.executors import output
from headrace.executors.output import Output
from headrace.executors.worker_program import output_pipe


def printed(capfd: pytest.CaptureFixture[str], write: Callable[[int], None]) -> str:
    """What reaches standard error when `write` prints to a worker's end of the pipe."""

    async def main() -> None:
        reading, writing = output_pipe()
        worker = Output(reading, pid=7)
        thread = threading.Thread(target=write, args=(writing,))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.001)
        os.close(writing)
        worker.close()

    asyncio.run(main())
    return capfd.readouterr().err


def test_what_a_worker_prints_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    assert printed(capfd, lambda fd: os.write(fd, b"one\ntwo\n")) == "one\ntwo\n"


def test_a_gigabyte_is_read_and_mostly_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    line = b"x" * 1023 + b"\n"

    def write(fd: int) -> None:
        for _ in range(1024):
            os.write(fd, line * 1024)

    err = printed(capfd, write)

    assert len(err) < 2 * output.BURST
    assert "bytes that worker 7 printed" in err.splitlines()[-1]
    assert all(len(row) == 1023 for row in err.splitlines() if row[0] == "x")


def test_the_last_words_of_a_dead_worker_are_heard(capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        reading, writing = output_pipe()
        worker = Output(reading, pid=7)
        os.write(writing, b"segmentation fault\n")
        os.close(writing)
        worker.close()

    asyncio.run(main())

    assert capfd.readouterr().err == "segmentation fault\n"


def test_a_process_that_holds_the_pipe_after_the_worker_is_not_waited_for() -> None:
    async def main() -> None:
        reading, writing = output_pipe()
        worker = Output(reading, pid=7)
        worker.close()
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"late")
        os.close(writing)

    asyncio.run(main())
