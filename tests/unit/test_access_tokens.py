"""JSON Web Tokens: which are accepted, and what they grant; signed with real keys."""

from __future__ import annotations

import asyncio
import base64
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from headrace import Model
from headrace.access.grant import Grant
from headrace.access.tokens import Tokens
from headrace.errors import ConfigurationError, HeadraceError, Overloaded, Unauthenticated
from headrace.settings import ServerSettings
from headrace.testing import TestClient

ISSUER, AUDIENCE = "https://issuer.example", "headrace"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


class Double(Model):
    def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2


def jwk(key: Any, kid: str) -> dict[str, Any]:
    kind = jwt.algorithms.RSAAlgorithm if key is RSA else jwt.algorithms.ECAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": kid}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def settings(keys: object, **others: Any) -> ServerSettings:
    return ServerSettings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_keys=str(keys), **others)


def token(
    key: PrivateKeyTypes | str = RSA, algorithm: str = "RS256", kid: str = "one", **claims: Any
) -> bytes:
    now = time.time()
    given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": now + 600, "scope": "infer read"}
    given = {name: value for name, value in {**given, **claims}.items() if value is not None}
    signed = jwt.encode(given, key, algorithm, headers={"kid": kid})  # type: ignore[arg-type]
    return signed.encode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(jwk(RSA, "one"), jwk(EC, "two")))
    return path


def test_a_token_grants_the_scopes_of_its_claim_and_the_log_has_its_subject(file: Path) -> None:
    tokens = Tokens(settings(file))

    for given in (token(), token(EC, "ES256", "two"), token(scope=["infer", "read", "other"])):
        grant = tokens.find(given)
        assert (grant.name, grant.scopes, grant.models) == ("ann", {"infer", "read"}, None)
        assert tokens.find(given) is grant


@pytest.mark.parametrize(
    ("claims", "hidden"),
    [
        ({"models": ["a", "b*"]}, False),
        ({"models": "x y"}, True),
        ({}, True),
        ({"models": 1}, True),
    ],
    ids=["list", "text", "missing", "another type"],
)
def test_a_token_is_for_the_models_of_its_claim(
    file: Path, claims: dict[str, Any], hidden: bool
) -> None:
    grant = Tokens(settings(file, jwt_models_claim="models")).find(token(**claims))

    assert grant.hides is not None
    assert grant.hides("b1") is hidden


def unsigned() -> bytes:
    """A token with the algorithm `none`."""
    head = base64.urlsafe_b64encode(b'{"alg":"none","kid":"one"}').rstrip(b"=")
    return head + b"." + token().split(b".")[1] + b"."


def confused() -> bytes:
    """A token signed with the public key as if that were a shared secret."""
    n = jwk(RSA, "one")["n"]
    return token(n + "x" * 32, "HS256")


def nested() -> bytes:
    """A token whose header no parser of Python can read, as it calls itself for each bracket."""
    head = base64.urlsafe_b64encode(b'{"kid":' + b"[" * 9_000).rstrip(b"=")
    return head + b".e30.AAAA"


@pytest.mark.parametrize(
    "given",
    [
        token(exp=time.time() - 60),
        token(exp=None),
        token(nbf=time.time() + 300),
        token(iss="https://other.example"),
        token(iss=None),
        token(aud="other"),
        token(aud=None),
        token(EC, "ES256", "one"),
        token(RSA, "RS512"),
        unsigned(),
        confused(),
        token()[:-4] + b"AAAA",
        b"a.b.c",
        b"..",
        b"\xff.\xff.\xff",
        token(sub="x" * 20_000),
        nested(),
    ],
    ids=[
        *("expired", "no end", "not yet", "issuer", "no issuer", "audience", "no audience"),
        *("key of another", "algorithm", "none", "confused", "signature", "no token", "empty"),
        *("no text", "too long", "nested"),
    ],
)
def test_a_token_that_is_not_valid_is_refused_in_the_same_words(file: Path, given: bytes) -> None:
    with pytest.raises(Unauthenticated) as refused:
        Tokens(settings(file)).find(given)

    assert refused.value.message == "the token is not valid"
    assert refused.value.logged
    assert given.decode("latin-1") not in refused.value.logged


def test_a_token_ends_although_it_is_remembered(file: Path) -> None:
    now = [time.time()]
    tokens = Tokens(settings(file), clock=lambda: now[0])
    given = token()
    tokens.find(given)
    now[0] += 700

    with pytest.raises(Unauthenticated):
        tokens.find(given)


def test_a_key_that_is_gone_takes_its_tokens_with_it(file: Path) -> None:
    tokens = Tokens(settings(file))
    given = token()
    tokens.find(given)
    file.write_bytes(key_set(jwk(EC, "two")))
    asyncio.run(tokens.refresh())

    with pytest.raises(Unauthenticated):
        tokens.find(given)


class Issuer:
    """Serves a key set, and counts how often it was asked for."""

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self.asked = 0
        self.url = ""
        # What it answers instead, and where it leads those who ask.
        self.raw = b""
        self.location = ""


@contextmanager
def issuing(keys: bytes) -> Iterator[Issuer]:
    issuer = Issuer(keys)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            if issuer.raw:
                self.wfile.write(issuer.raw)
                return
            leads = issuer.location and self.path == "/keys"
            self.send_response(302 if leads else 200)
            if leads:
                self.send_header("Location", issuer.location)
            self.end_headers()
            self.wfile.write(issuer.keys)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_port}/keys"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_unknown_key_is_fetched_and_strangers_cannot_make_it_fetch_often() -> None:
    async def found(tokens: Tokens, given: bytes) -> Grant:
        running = asyncio.create_task(tokens.run())
        try:
            while True:
                try:
                    return tokens.find(given)
                except Overloaded:
                    await asyncio.sleep(0.005)
        finally:
            running.cancel()

    async def main(issuer: Issuer) -> None:
        tokens = Tokens(settings(issuer.url), soonest=0.0)
        assert (await found(tokens, token())).name == "ann"
        # The issuer takes a new key into use.
        issuer.keys = key_set(jwk(RSA, "one"), jwk(EC, "two"))
        assert (await found(tokens, token(EC, "ES256", "two"))).name == "ann"
        patient = Tokens(settings(issuer.url), soonest=3600.0)
        assert (await found(patient, token())).name == "ann"
        asked = issuer.asked
        for number in range(100):
            with pytest.raises(Unauthenticated):
                patient.find(token(kid=f"stranger {number}"))
        await asyncio.sleep(0)
        assert issuer.asked == asked

    with issuing(key_set(jwk(RSA, "one"))) as issuer:
        asyncio.run(asyncio.wait_for(main(issuer), 60))


@pytest.mark.parametrize(
    "raw",
    [b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"\r\n"],
    ids=["no HTTP", "no chunk", "nothing"],
)
def test_the_keys_from_before_stay_while_the_issuer_answers_nonsense(raw: bytes) -> None:
    with issuing(key_set(jwk(RSA, "one"))) as issuer:
        tokens = Tokens(settings(issuer.url))
        asyncio.run(tokens.refresh())
        issuer.raw = raw

        asyncio.run(tokens.refresh())

        assert issuer.asked == 2
        assert tokens.find(token()).name == "ann"


def drip(listener: socket.socket, begins: bytes) -> None:
    """Answer one request with a byte now and then, until its sender leaves."""
    connection, _ = listener.accept()
    with connection, suppress(OSError):
        connection.recv(65536)
        connection.sendall(begins)
        # Long before the time for one operation is over.
        while not select.select([connection], [], [], 0.05)[0]:
            connection.sendall(b"x")


@pytest.mark.parametrize("begins", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["head", "body"])
def test_an_issuer_that_sends_a_byte_now_and_then_is_given_up(
    begins: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("headrace.access.tokens.FETCH_TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener, begins), daemon=True)
        thread.start()
        tokens = Tokens(settings(f"http://127.0.0.1:{listener.getsockname()[1]}/keys"))
        asyncio.run(asyncio.wait_for(tokens.refresh(), 60))
        thread.join(60)

    assert not thread.is_alive()
    assert "it was not read in time" in caplog.text or "timed out" in caplog.text


def test_keys_are_not_taken_from_where_others_could_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with issuing(key_set(jwk(RSA, "one"))) as issuer:
        # Here, but no address of the loopback interface.
        issuer.location = issuer.url.replace("127.0.0.1", "0.0.0.0") + "/moved"
        tokens = Tokens(settings(issuer.url))

        asyncio.run(tokens.refresh())

    assert issuer.asked == 2
    assert "--jwt-keys: expected a file or an https URL" in caplog.text
    with pytest.raises(HeadraceError):
        tokens.find(token())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"jwt_keys": None}, "--jwt-keys is missing"),
        ({"jwt_audience": None}, "--jwt-audience is missing"),
        ({"jwt_keys": "http://issuer.example/keys"}, "expected a file or an https URL"),
        ({"jwt_keys": "ftp://issuer.example/keys"}, "expected a file or an https URL"),
        ({"jwt_keys": "https://me:word@issuer.example/keys"}, "without a user"),
        ({"jwt_keys": "/nowhere.json"}, "No such file"),
        ({"jwt_algorithms": ("none",)}, "--jwt-algorithms"),
        ({"jwt_algorithms": ("HS256",)}, "--jwt-algorithms"),
    ],
)
def test_a_wrong_setting_is_said(file: Path, change: dict[str, Any], words: str) -> None:
    given = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_keys": str(file), **change}

    with pytest.raises(ConfigurationError, match=words):
        Tokens(ServerSettings(**given))


@pytest.mark.parametrize("name", ["jwt_issuer", "jwt_audience", "jwt_keys"])
def test_a_server_that_was_told_only_a_part_about_tokens_does_not_start(
    name: str, tmp_path: Path
) -> None:
    with (
        pytest.raises(ConfigurationError, match="tokens need --jwt-issuer"),
        TestClient(Double, **{name: str(tmp_path / "any")}),
    ):
        pass


def test_a_server_takes_tokens_and_keys(file: Path, tmp_path: Path) -> None:
    from support.api_keys import bearer, write_keys

    keys = write_keys(tmp_path / "api.json", one={"scopes": ["read"]})
    flags = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_keys": str(file)}
    with TestClient(Double, api_keys_file=str(keys), **flags) as client:

        def status(path: str, headers: dict[str, str] | None = None) -> int:
            return client.get(path, headers=headers).status_code

        given = {"Authorization": f"Bearer {token(scope='infer').decode()}"}
        assert [status("/v2", each) for each in (None, given, bearer("one"))] == [401, 200, 200]
        assert status("/api/status", given) == 403
        assert status("/v2", {"Authorization": f"Bearer {token(aud='other').decode()}"}) == 401
