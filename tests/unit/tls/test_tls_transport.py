"""TLS on the listeners: who is let in, how the others are turned away, and how it all ends."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop

from headrace.grpc.core import core
from headrace.settings import ServerSettings
from headrace.sockets import bind
from headrace.tls.certificates import HTTP, Certificates
from headrace.tls.tls_transport import HANDSHAKES_IN_TURN, TlsDoor
from support.certificates import Authority

HINT = b"speak TLS"
Address = tuple[str, int]


class Echo(asyncio.Protocol):
    """Sends back what it gets; `peer` is the certificate of its client."""

    has_echoed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.peer = transport.get_extra_info("peercert")

    def data_received(self, data: bytes) -> None:
        if data == b"end":
            self.transport.close()
        else:
            self.transport.write(data)
            self.has_echoed = True


class World:
    """An authority, a server's certificates, and a server that echoes."""

    def __init__(self, folder: Path, needs_client: bool = False) -> None:
        self.authority = Authority(folder)
        pair = self.authority.issue()
        self.settings = ServerSettings(
            ssl_certfile=str(pair.certificate),
            ssl_keyfile=str(pair.key),
            ssl_ca_certs=str(self.authority.file) if needs_client else None,
        )
        self.certificates = Certificates(self.settings)
        self.echoes: list[Echo] = []

    def connect(self) -> Echo:
        self.echoes.append(Echo())
        return self.echoes[-1]

    @asynccontextmanager
    async def serving(
        self, timeout: float = 60, most: int = 100
    ) -> AsyncIterator[tuple[TlsDoor, Address]]:
        door = TlsDoor(
            *(self.certificates, HTTP, self.connect),
            hint=HINT,
            timeout=timeout,
            most=most,
        )
        sock = bind("127.0.0.1", 0)
        server = await asyncio.get_running_loop().create_server(door, sock=sock)
        try:
            yield door, sock.getsockname()
        finally:
            door.abort()
            server.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def strict(tmp_path: Path) -> World:
    """One whose clients need a certificate."""
    return World(tmp_path, needs_client=True)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Awaitable[Any]], Any]]:
    """Runs a test on each event loop, in which no callback may fail."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None
    failures: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: failures.append(context))
        yield lambda main: runner.run(asyncio.wait_for(main, 60))
    assert failures == []


async def ask(address: Address, context: ssl.SSLContext | None, sent: bytes = b"hello") -> bytes:
    """Send bytes over a connection, and read what comes back first."""
    reader, writer = await asyncio.open_connection(*address, ssl=context)
    try:
        writer.write(sent)
        return await reader.read(1000)
    finally:
        writer.close()


async def shown(address: Address, context: ssl.SSLContext) -> bytes:
    """The certificate that a server shows."""
    _, writer = await asyncio.open_connection(*address, ssl=context)
    writer.close()
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return found


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_today_are_spoken(world: World, run: Any, version: ssl.TLSVersion) -> None:
    context = world.authority.context()
    context.minimum_version = context.maximum_version = version

    async def main() -> bytes:
        async with world.serving() as (_, address):
            return await ask(address, context)

    assert run(main()) == b"hello"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_older_versions_are_not(world: World, run: Any) -> None:
    context = world.authority.context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    # Without this, the client itself would refuse.
    context.set_ciphers("ALL:@SECLEVEL=0")

    async def main() -> None:
        async with world.serving() as (_, address):
            with pytest.raises((ssl.SSLError, ConnectionError), match="(?i)protocol version|reset"):
                await ask(address, context)

    run(main())
    assert world.certificates.failed_handshakes == 1


def test_a_client_that_speaks_no_tls_is_told_so(world: World, run: Any) -> None:
    async def main() -> bytes:
        async with world.serving() as (_, address):
            return await ask(address, None, b"GET / HTTP/1.1\r\n\r\n")

    assert run(main()) == HINT
    assert world.echoes == []
    assert world.certificates.failed_handshakes == 1


def test_a_certificate_of_the_right_authority_is_let_in(strict: World, run: Any) -> None:
    context = strict.authority.context(strict.authority.issue("client", common_name="billing"))

    async def main() -> bytes:
        async with strict.serving() as (_, address):
            return await ask(address, context)

    assert run(main()) == b"hello"
    subject = dict(part for parts in strict.echoes[0].peer["subject"] for part in parts)
    assert subject["commonName"] == "billing"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("named", ["none", "foreign"])
def test_other_clients_are_told_why_they_are_not(
    strict: World, run: Any, tmp_path: Path, version: ssl.TLSVersion, named: str
) -> None:
    context = strict.authority.context()
    if named == "foreign":
        foreign = Authority(tmp_path, "foreign").issue("stranger")
        context.load_cert_chain(foreign.certificate, foreign.key)
    context.minimum_version = context.maximum_version = version

    async def main() -> None:
        async with strict.serving() as (_, address):
            with pytest.raises(ssl.SSLError, match="(?i)alert"):
                await ask(address, context)

    run(main())
    assert strict.echoes == []
    assert strict.certificates.failed_handshakes == 1


def test_a_client_that_does_not_shake_hands_is_hung_up_on(world: World, run: Any) -> None:
    async def main() -> bytes:
        async with world.serving(timeout=0.05) as (_, address):
            reader, writer = await asyncio.open_connection(*address)
            # The head of a record, and nothing of what is to be in it.
            writer.write(b"\x16\x03\x01\x02\x00")
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            return b""

    run(main())
    assert world.certificates.failed_handshakes == 1


def test_handshakes_count_as_connections(world: World, run: Any) -> None:
    async def main() -> None:
        async with world.serving(most=2) as (door, address):
            silent = [await asyncio.open_connection(*address) for _ in range(2)]
            while len(door.handshakes) < 2:
                await asyncio.sleep(0)
            reader, third = await asyncio.open_connection(*address)
            with suppress(ConnectionError):
                assert await reader.read() == b""
            for _, writer in [*silent, (reader, third)]:
                writer.close()
            while door.handshakes:
                await asyncio.sleep(0)
            assert await ask(address, world.authority.context()) == b"hello"

    run(main())


def test_many_handshakes_at_once_all_succeed(world: World, run: Any) -> None:
    context = world.authority.context()

    async def main() -> list[bytes]:
        async with world.serving() as (_, address):
            count = 3 * HANDSHAKES_IN_TURN
            return await asyncio.gather(*(ask(address, context, b"%d" % n) for n in range(count)))

    assert run(main()) == [b"%d" % n for n in range(3 * HANDSHAKES_IN_TURN)]


def test_the_server_says_that_it_ends_a_connection(world: World, run: Any) -> None:
    context = world.authority.context()

    async def main() -> bytes:
        async with world.serving() as (_, address):
            return await ask(address, context, b"end")

    # Without that, an answer without a length could have been cut short by anybody.
    assert run(main()) == b""


def test_a_large_answer_waits_for_its_client_and_arrives_whole(world: World, run: Any) -> None:
    sent = bytes(range(256)) * 160_000
    reads_on = threading.Event()

    def client(address: Address) -> bytes:
        with world.authority.context().wrap_socket(
            socket.create_connection(address),
            server_hostname="localhost",
            suppress_ragged_eofs=False,
        ) as connection:
            connection.sendall(b"begin")
            assert connection.recv(5) == b"begin"
            assert reads_on.wait(60)
            return b"".join(iter(lambda: connection.recv(100_000), b""))

    async def main() -> tuple[bytes, int]:
        async with world.serving() as (_, address):
            reading = asyncio.create_task(asyncio.to_thread(client, address))
            while not world.echoes:
                await asyncio.sleep(0)
            transport = world.echoes[0].transport
            while not world.echoes[0].has_echoed:
                await asyncio.sleep(0)
            transport.write(sent)
            # More than the kernel takes.
            unsent = transport.get_write_buffer_size()
            transport.close()
            reads_on.set()
            return await reading, unsent

    answer, unsent = run(main())
    assert answer == sent
    assert 0 < unsent < len(sent)


@pytest.mark.parametrize("says_so", [True, False])
def test_a_client_that_ends_its_side_has_left(world: World, run: Any, says_so: bool) -> None:
    def client(address: Address) -> None:
        connection = world.authority.context().wrap_socket(
            socket.create_connection(address), server_hostname="localhost"
        )
        connection.sendall(b"hello")
        assert connection.recv(5) == b"hello"
        raw = connection.unwrap() if says_so else connection
        raw.shutdown(socket.SHUT_WR)
        with raw:
            # The server ends its side too.
            while raw.recv(1000):
                pass

    async def main() -> None:
        async with world.serving() as (_, address):
            await asyncio.to_thread(client, address)

    run(main())
    assert not world.echoes[0].transport.can_write_eof()


def test_what_is_no_tls_in_the_middle_ends_the_connection_alone(world: World, run: Any) -> None:
    context = world.authority.context()

    async def main() -> bytes:
        async with world.serving() as (_, address):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            reader, writer = await asyncio.open_connection(*address)
            while True:
                with suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                    writer.write(outgoing.read())
                    break
                writer.write(outgoing.read())
                incoming.write(await reader.read(10_000))
            writer.write(b"\x17\x03\x03\x00\x20" + bytes(32))
            incoming.write(await reader.read())
            writer.close()
            with pytest.raises(ssl.SSLError, match="(?i)alert bad record mac"):
                tls.read(1000)
            return await ask(address, context)

    assert run(main()) == b"hello"


def test_a_new_certificate_is_for_new_connections(world: World, run: Any) -> None:
    context = world.authority.context()

    async def main() -> tuple[bytes, bytes, bytes]:
        async with world.serving() as (_, address):
            reader, writer = await asyncio.open_connection(*address, ssl=context)
            before = await shown(address, context)
            world.authority.issue()
            world.certificates.look()
            writer.write(b"still here")
            open_before = await reader.read(100)
            writer.close()
            return before, await shown(address, context), open_before

    before, after, answer = run(main())
    assert before != after
    assert answer == b"still here"


@pytest.mark.parametrize("is_native", [True, False], ids=["native", "grpcio"])
def test_a_new_certificate_is_for_new_connections_of_grpc(world: World, is_native: bool) -> None:
    given = ServerSettings(
        ssl_certfile=world.settings.ssl_certfile,
        ssl_keyfile=world.settings.ssl_keyfile,
        native_grpc=is_native,
    )
    context = world.authority.context()
    context.set_alpn_protocols(["h2"])

    async def main() -> tuple[bytes, bytes]:
        certificates = Certificates(given)
        made = core(given, certificates=certificates)
        made.register("test.Test", {"Echo": grpc.unary_unary_rpc_method_handler(_same)})
        address = ("127.0.0.1", await made.start("127.0.0.1", 0))
        before = await shown(address, context)
        world.authority.issue()
        certificates.look()
        after = await shown(address, context)
        await made.stop(None)
        return before, after

    before, after = asyncio.run(asyncio.wait_for(main(), 60))
    assert before != after


async def _same(body: bytes, _: Any) -> bytes:
    return body
