"""A server with TLS, from its flags to those who call it and those who watch it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest

from headrace.cli.main import main
from headrace.client import AsyncClient, Client
from headrace.client.client_errors import ConnectionFailed
from support.asking import ask
from support.certificates import Authority, Pair
from support.custom import write_model
from support.serving import COMMAND, Server, serving, until
from support.tutorial import TUTORIALS, tutorial

pytestmark = pytest.mark.e2e

PAGE = TUTORIALS.parent / "how-to/tls.md"
ROWS = '{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [2]}]}\n'


class World:
    """A server whose clients need a certificate, and such a client's files."""

    def __init__(self, server: Server, authority: Authority, client: Pair) -> None:
        self.server = server
        self.authority = authority
        self.client = client
        self.addresses = [server.http, "grpcs://" + server.announced["grpc"]]


@pytest.fixture(scope="module", params=["--native-grpc", "--no-native-grpc"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    root = tmp_path_factory.mktemp("tls")
    write_model(root / "models")
    authority = Authority(root)
    flags = (*authority.issue().flags, "--ssl-ca-certs", authority.file, "--host", "0.0.0.0")
    with serving(root / "models", request.param, *flags) as server:
        yield World(server, authority, authority.issue("client"))


def test_the_clients_call_it_with_their_certificate(world: World) -> None:
    files = {"verify": world.authority.file, "cert": (world.client.certificate, world.client.key)}

    async def awaited(url: str) -> object:
        async with AsyncClient(url, **files) as client:
            return await client.predict("m", np.array([2.0]))

    for url in world.addresses:
        with Client(url, **files) as client:
            assert client.predict("m", np.array([2.0])) == [4.0]
        assert asyncio.run(awaited(url)) == [4.0]


def test_a_server_that_knows_its_clients_does_not_warn_of_others(world: World) -> None:
    assert "whoever reaches this server" not in world.server.log()


def test_a_client_without_a_certificate_cannot_even_ask(world: World) -> None:
    for url in world.addresses:
        with Client(url, verify=world.authority.file, retries=0) as client:
            assert client.live() is False
            with pytest.raises(ConnectionFailed):
                client.metadata()


def test_a_client_does_not_trust_a_server_of_another_authority(
    world: World, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    for url in world.addresses:
        with (
            Client(url, verify=other.file, retries=0) as client,
            pytest.raises(ConnectionFailed),
        ):
            client.metadata()


def test_the_metrics_are_behind_it_and_have_its_end(world: World) -> None:
    context = world.authority.context(world.client)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(world.server.metrics, "GET", "/metrics", context=world.authority.context())

    text = ask(world.server.metrics, "GET", "/metrics", context=context).body.decode()

    values = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
    assert float(values["headrace_certificate_expiry_timestamp_seconds"]) > 2e9
    assert float(values["headrace_tls_handshake_failures_total"]) >= 1


def test_the_health_command_shows_the_servers_own_certificate(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    own = Pair(
        world.authority.file.with_name("server.crt"), world.authority.file.with_name("server.key")
    )
    port = str(urlsplit(world.server.http).port)
    flags = [*own.flags, "--ssl-ca-certs", str(world.authority.file), "--http-port", port]

    assert main(["health", *flags]) == 0
    assert main(["health", "--live", *flags]) == 0
    assert main(["health", "--http-port", port]) == 1
    *both, without = capsys.readouterr().out.splitlines()
    assert both == ["ready", "live"]
    assert "--ssl-certfile" in without


@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_a_file_is_scored(world: World, transport: str, tmp_path: Path) -> None:
    rows, scored = tmp_path / "rows.jsonl", tmp_path / "scored.jsonl"
    rows.write_text(ROWS * 3)
    address = {"rest": urlsplit(world.server.http).netloc, "grpc": world.server.announced["grpc"]}
    flags = [*world.client.flags, "--ssl-ca-certs", str(world.authority.file), "-t", transport]

    code = main(
        ["infer", "-u", address[transport], "-m", "m", "-i", str(rows), "-o", str(scored), *flags]
    )

    assert code == 0
    answers = [json.loads(line) for line in scored.read_text().splitlines()]
    assert [answer["outputs"][0]["data"] for answer in answers] == [[4.0]] * 3


def test_a_caller_that_speaks_no_tls_is_told_so_and_leaves_no_trace(world: World) -> None:
    plain = world.server.http.replace("https", "http")

    assert (
        ask(plain, "GET", "/v2").body == b"this port speaks TLS: its addresses begin with https\n"
    )
    with grpc.insecure_channel(world.server.announced["grpc"]) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        with pytest.raises(grpc.RpcError) as refused:
            live(b"", timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "Traceback" not in world.server.log()


def test_a_caller_with_tls_of_a_server_without_leaves_no_trace(
    tmp_path: Path, world: World
) -> None:
    with serving(write_model(tmp_path)) as server:
        for url in (server.http.replace("http", "https"), "grpcs://" + server.announced["grpc"]):
            with (
                Client(url, verify=world.authority.file, retries=0) as client,
                pytest.raises(ConnectionFailed),
            ):
                client.metadata()
        assert ask(server.http, "GET", "/v2/health/ready").status == 200
        assert "Traceback" not in server.log()


def test_a_renewed_certificate_is_shown_by_the_running_server(tmp_path: Path) -> None:
    write_model(tmp_path / "models")
    authority = Authority(tmp_path)

    def shown(address: str) -> str:
        host, port = address.rsplit(":", 1)
        return ssl.get_server_certificate((host, int(port)))

    with serving(tmp_path / "models", *authority.issue().flags) as server:
        places = [urlsplit(server.http).netloc, server.announced["grpc"]]
        places.append(urlsplit(server.metrics).netloc)
        before = [shown(place) for place in places]
        with Client(server.http, verify=authority.file) as client:
            assert client.ready()
            authority.issue()
            until(lambda: shown(places[0]) != before[0], 60, "the new certificate is shown")
            # Over the connection from before.
            assert client.predict("m", np.array([2.0])) == [4.0]

        after = [shown(place) for place in places]
        assert len(set(before)) == len(set(after)) == 1
        assert before != after
        assert "the certificates were read again" in server.log()


def test_a_certificate_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    write_model(tmp_path / "models")
    missing = tmp_path / "missing.crt"

    done = subprocess.run(
        [*COMMAND, "serve", str(tmp_path / "models"), "--ssl-certfile", str(missing)],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 2
    assert f"--ssl-certfile: '{missing}': No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_every_block_of_the_page_shows_what_the_page_shows(tmp_path: Path) -> None:
    with tutorial(PAGE, tmp_path) as page:
        assert len(page.follow_all()) >= 4
        assert os.path.exists(page.folder / "tls.crt")
