"""The process that decodes: what it returns, when it ends, and what becomes of its calls."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from headrace.decoding import decoder as decoder_module
from headrace.decoding.decoder import Decoder
from headrace.errors import BY_KIND, HeadraceError, InvalidInput, WorkerCrashed
from headrace.executors.shared_memory import SharedMemory
from headrace.protocol import large_buffers
from headrace.worker.arena import SUPPORTED
from support import decoding_calls
from support.decoding_calls import (
    SIZE,
    alive,
    counted,
    die,
    hang,
    process_id,
    refuse,
    refuse_text,
    same,
    variable,
)

# Ends a hang; no test takes as long.
FAR = 60


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process find the functions that it is to run."""
    folder = str(Path(decoding_calls.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", folder, prepend=os.pathsep)


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedMemory | None]:
    """What the server shares with its workers; not that of other tests."""
    memory = SharedMemory() if SUPPORTED else None
    monkeypatch.setattr(decoder_module, "shared_memory", lambda: memory)
    yield memory
    if memory is not None:
        memory.close()


def with_decoder(test: Callable[[Decoder], Awaitable[None]]) -> None:
    async def run() -> None:
        decoder = Decoder()
        try:
            async with asyncio.timeout(FAR):
                await test(decoder)
        finally:
            await decoder.close()

    asyncio.run(run())


async def ended(pid: int) -> None:
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0)


def test_calls_run_in_one_process_that_is_not_this_one() -> None:
    async def test(decoder: Decoder) -> None:
        first, second = [await decoder.run(process_id) for _ in range(2)]

        assert first == second != os.getpid()

    with_decoder(test)


def test_nothing_is_started_before_there_is_something_to_decode() -> None:
    async def test(decoder: Decoder) -> None:
        threads = threading.active_count()
        await decoder.close()

        assert threading.active_count() == threads

    with_decoder(test)


@pytest.mark.parametrize("value", [None, b"x" * 100_000, [1, "é"], MappingProxyType({"a": 1})])
def test_values_come_back_as_they_were(value: Any) -> None:
    async def test(decoder: Decoder) -> None:
        found = await decoder.run(same, value)

        assert (type(found), found) == (type(value), value)

    with_decoder(test)


def test_every_error_comes_back_as_itself() -> None:
    async def test(decoder: Decoder) -> None:
        for kind, error in BY_KIND.items():
            with pytest.raises(HeadraceError, match="x: expected a number") as caught:
                await decoder.run(refuse, kind)

            assert type(caught.value) is error

    with_decoder(test)


def test_an_error_says_where_it_was_raised() -> None:
    async def test(decoder: Decoder) -> None:
        with pytest.raises(InvalidInput) as caught:
            await decoder.run(refuse, InvalidInput.kind)

        assert "in refuse" in "".join(caught.value.__notes__)

    with_decoder(test)


@pytest.mark.skipif(not SUPPORTED, reason="no memory can be shared here")
def test_large_buffers_are_in_the_memory_that_workers_read_and_are_given_back(
    memory: SharedMemory,
) -> None:
    async def test(decoder: Decoder) -> None:
        used = memory.used
        found = await decoder.run(counted, 2 * large_buffers.THRESHOLD)

        assert bytes(found[:3]) == b"\1\2\3"
        assert found.readonly
        assert memory.offset(found) is not None
        assert memory.used == used + 1
        del found
        assert memory.used == used

    with_decoder(test)


def test_without_room_in_that_memory_they_come_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "shared_memory", lambda: None)

    async def test(decoder: Decoder) -> None:
        found = await decoder.run(counted, 2 * large_buffers.THRESHOLD)

        assert (type(found), len(found)) == (bytes, 2 * large_buffers.THRESHOLD - 1)

    with_decoder(test)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_fails_its_call_only(number: int) -> None:
    async def test(decoder: Decoder) -> None:
        with pytest.raises(WorkerCrashed, match="decodes large bodies"):
            await decoder.run(die, number)

        assert await decoder.run(same, 1) == 1

    with_decoder(test)


def test_one_that_has_died_while_nothing_was_decoded_is_not_noticed() -> None:
    async def test(decoder: Decoder) -> None:
        pid = await decoder.run(process_id)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

        assert await decoder.run(process_id) != pid

    with_decoder(test)


def test_what_ends_the_server_of_a_terminal_does_not_end_it() -> None:
    async def test(decoder: Decoder) -> None:
        pid = await decoder.run(process_id)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            await decoder.run(die, number)

        assert await decoder.run(process_id) == pid

    with_decoder(test)


def test_one_that_hangs_is_ended(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "SILENCE", 5.0)
    os.mkfifo(tmp_path / "pipe")

    async def test(decoder: Decoder) -> None:
        pid = await decoder.run(process_id)
        with pytest.raises(WorkerCrashed):
            await decoder.run(hang, str(tmp_path / "pipe"))

        await ended(pid)

    with_decoder(test)


def test_it_ends_when_there_is_nothing_to_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "IDLE", 0.0)

    async def test(decoder: Decoder) -> None:
        await ended(await decoder.run(process_id))

    with_decoder(test)


def test_it_ends_when_it_is_closed() -> None:
    async def test(decoder: Decoder) -> None:
        pid = await decoder.run(process_id)
        await decoder.close()

        await ended(pid)

    with_decoder(test)


def test_a_call_that_was_given_up_before_it_began_is_not_run(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")

    async def test(decoder: Decoder) -> None:
        first = asyncio.create_task(decoder.run(hang, str(tmp_path / "pipe")))
        second = asyncio.create_task(decoder.run(die, signal.SIGKILL))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        # Waits until the process has opened it.
        await asyncio.to_thread(hang_up, str(tmp_path / "pipe"))

        await first
        assert await decoder.run(same, 1) == 1

    with_decoder(test)


def hang_up(path: str) -> None:
    with open(path, "w"):
        pass


def test_where_no_process_can_be_started_a_thread_decodes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    async def test(decoder: Decoder) -> None:
        assert await decoder.run(process_id) == os.getpid()

    with_decoder(test)
    assert "hold up other requests" in caplog.text


def test_the_servers_secrets_are_not_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_API_KEYS", "canary")
    monkeypatch.setenv("USUAL", "kept")

    async def test(decoder: Decoder) -> None:
        assert await decoder.run(variable, "HEADRACE_API_KEYS") is None
        assert await decoder.run(variable, "USUAL") == "kept"

    with_decoder(test)


def test_what_was_refused_is_let_go_of() -> None:
    async def test(decoder: Decoder) -> None:
        for _ in range(3):
            with pytest.raises(InvalidInput):
                await decoder.run(refuse_text, b"\xff" * SIZE)

        assert await decoder.run(alive, SIZE) == 0

    with_decoder(test)


def test_it_is_closed_while_it_hangs(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")

    async def test(decoder: Decoder) -> None:
        pid = await decoder.run(process_id)
        hanging = asyncio.create_task(decoder.run(hang, str(tmp_path / "pipe")))
        await asyncio.sleep(0)
        await decoder.close()

        await ended(pid)
        with pytest.raises(WorkerCrashed):
            await hanging

    with_decoder(test)
