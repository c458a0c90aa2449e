"""No secret is in a log or in an answer: one is planted in every place where there can be one."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from headrace.access.keys_file import digest_of
from support.asking import Answer, Client, numbers
from support.certificates import Authority
from support.custom import write_model
from support.serving import COMMAND, FREE_PORTS, Server, serving, until

pytestmark = pytest.mark.e2e

SCOPES = ["infer", "read", "admin"]
# What each place holds, so that a failure says which one leaks.
PLANTED = {
    place: f"planted-{number:02d}"
    for number, place in enumerate(
        (
            *("key", "wrong key", "wrong bearer", "basic", "cookie", "proxy", "query", "token"),
            *("webhook secret", "signature", "TLS password", "jwks password", "jwks query"),
            *("database of a load", "database of a request", "assigned", "header in an error"),
            *("parameter", "s3 password", "https password", "https query"),
            *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_URI"),
            *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCESS_KEY"),
            *("HF_TOKEN", "DB_PASSWORD", "PGPASSWORD", "MY_CREDENTIALS", "SIGNING_SECRET"),
            *("DATABASE_URL", "SMTP_PASS", "SSH_PRIVATE_KEY", "HEADRACE_API_KEY"),
            *("index password", "key in its file", "key as a name"),
            *("key as a digest", "key as a member", "sent line", "gRPC key", "gRPC cookie"),
        )
    )
}
URLS = {
    "DATABASE_URL": "postgres://admin:{}@127.0.0.1:1/models",
    "MLFLOW_TRACKING_URI": "http://admin:{}@127.0.0.1:1",
}
VARIABLES = {
    **{
        place: URLS.get(place, "{}").format(value)
        for place, value in PLANTED.items()
        if place.isupper() and " " not in place
    },
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}
DATABASE = "postgres://admin:{}@127.0.0.1:1/models"


def key(place: str) -> str:
    """A key of ours, as long as all of them are."""
    return f"hr_{PLANTED[place]:x<43}"


WRONG_ENTRIES = (
    {"name": "x", "sha256": key("key as a digest"), "scopes": SCOPES},
    {"name": key("key as a name"), "sha256": "", "scopes": SCOPES, "models": [1]},
    {"name": "x", "key": key("key as a member"), "scopes": SCOPES},
    key("key in its file"),
)
HAPPENED = (
    *(
        "no answer: postgres://admin:***@127.0.0.1:1/models",
        "'password': '***'",
        "'HF_TOKEN': '***'",
    ),
    *("'Authorization': 'Bearer ***'", "MLflow cannot fetch 's3://me:***@", "X-Amz-Signature=***"),
    *(
        "an unknown API key",
        "a token that is not valid",
        "--jwt-keys: 'http://127.0.0.1:1/jwks?token=***'",
    ),
    *("the signature is not that of the secret", "its requirements could not be installed"),
)
STAY = "keys from before stay in force"
MODELS = (
    *("good", "database", "assigned", "header", "variables", "asked", "environment"),
    *("s3", "https", "registered"),
)
PAGES = (
    *("/", "/v2", "/v2/models", "/v1/models", "/openapi.json", "/api/swagger", "/api/status"),
    *("/metrics", "/v2/health/ready", "/v2/health/live", "/v2/models/stats", "/docs", "/v2/docs"),
    *("/nothing", "/v2/models/nothing"),
    *(
        f"/v2/models/{name}{page}"
        for name in MODELS
        for page in ("", "/ready", "/config", "/stats", "/docs/dataplane.json")
    ),
)


def write_models(root: Path) -> None:
    of_load, of_request = (
        DATABASE.format(PLANTED[f"database of a {what}"]) for what in ("load", "request")
    )
    assigned = {"password": PLANTED["assigned"], "user": "me"}
    header = {"Authorization": f"Bearer {PLANTED['header in an error']}"}
    write_model(root, name="good", parameters={"extra": {"password": PLANTED["parameter"]}})
    write_model(root, name="database", load=f"raise ConnectionError('no answer: {of_load}')")
    write_model(root, name="assigned", load=f"raise ConnectionError({assigned!r})")
    write_model(root, name="header", load=f"raise ConnectionError({header!r})")
    write_model(root, name="variables", load="raise RuntimeError(dict(os.environ))")
    write_model(root, f"raise ConnectionError('no answer: {of_request}')", name="asked")
    index = f"https://me:{PLANTED['index password']}@127.0.0.1:1/simple"
    lines = [f"--index-url {index}", "nothing-of-that-name==1"]
    write_model(root, name="environment", environment={"requirements": lines})
    for name, uri in (
        ("s3", f"s3://me:{PLANTED['s3 password']}@127.0.0.1:1/bucket"),
        (
            "https",
            f"https://me:{PLANTED['https password']}@127.0.0.1:1/model"
            f"?X-Amz-Signature={PLANTED['https query']}",
        ),
        ("registered", "models:/nobody/1"),
    ):
        settings = {"name": name, "implementation": "mlflow", "parameters": {"uri": uri}}
        (root / name).mkdir()
        (root / name / "model-settings.json").write_text(json.dumps(settings))


def write_keys_with(path: Path, *entries: Any) -> Path:
    """The file of keys with one that counts, and further entries."""
    good = {"name": "it", "sha256": digest_of(key("key").encode()), "scopes": SCOPES}
    path.with_suffix(".new").write_text(json.dumps({"keys": [good, *entries]}))
    path.with_suffix(".new").chmod(0o600)
    path.with_suffix(".new").replace(path)
    return path


def replace_keys(server: Server, folder: Path, entry: Any) -> None:
    """Add a wrong entry to the file of keys, and wait until the server has read it."""
    before = server.log().count(STAY)
    write_keys_with(folder / "keys.json", entry)
    until(lambda: server.log().count(STAY) > before, 60, "the file is read again")


def flags(folder: Path) -> list[object]:
    authority = Authority(folder)
    pair = authority.issue()
    private = load_pem_private_key(pair.key.read_bytes(), None)
    password = PLANTED["TLS password"]
    sealed = BestAvailableEncryption(password.encode())
    pair.key.write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, sealed)
    )
    (folder / "password").write_text(password)
    (folder / "webhook").write_text(PLANTED["webhook secret"])
    return [
        *("--log-level", "debug", "--access-log", *pair.flags),
        *("--ssl-keyfile-password-file", folder / "password"),
        *("--mlflow-webhook-secret-file", folder / "webhook"),
        *("--api-keys-file", write_keys_with(folder / "keys.json")),
        *("--jwt-issuer", "http://127.0.0.1:1/", "--jwt-audience", "headrace", "--jwt-keys"),
        f"http://127.0.0.1:1/jwks?token={PLANTED['jwks query']}",
    ]


@pytest.fixture(scope="module", params=["json", "text"])
def told(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All that a server logs, prints and answers."""
    root, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("secrets")
    write_models(root)
    given = [*flags(folder), "--log-format", request.param]
    with serving(root, *given, env=VARIABLES) as server:
        answers = [*asked(server, folder), *asked_by_rpc(server, folder)]
        for wrong in WRONG_ENTRIES:
            replace_keys(server, folder, wrong)
        answers.append(server.output())
        log = server.log()
    return log, answers


def presented() -> Iterator[dict[str, str]]:
    """The header fields of a caller who may do everything, and of some who may do nothing."""
    now = int(time.time())
    claims = {"iss": "http://127.0.0.1:1/", "aud": "headrace", "exp": now + 600}
    # With the secret as its payload, its signature and the key it is signed with.
    token = jwt.encode(claims, "x" * 64, "HS256", {"kid": "one"}) + PLANTED["token"]
    cookies = {
        "Cookie": f"session={PLANTED['cookie']}",
        "Proxy-Authorization": f"Basic {PLANTED['proxy']}",
    }
    yield {"Authorization": f"Bearer {key('key')}", **cookies}
    yield {"X-API-Key": key("wrong key"), "Authorization": f"Bearer {PLANTED['wrong bearer']}"}
    yield {"X-API-Key": key("wrong key"), **cookies}
    yield {"Authorization": f"Basic {PLANTED['basic']}"}
    yield {"Authorization": f"Bearer {token}"}


def asked(server: Server, folder: Path) -> Iterator[object]:
    """What the server answers over HTTP."""
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    query = f"?api_key={key('query')}&token={PLANTED['query']}"
    for headers in presented():
        for url in (server.http, server.metrics):
            with Client(url, context=context) as client:
                for page in PAGES if url == server.http else ("/metrics", "/nothing"):
                    yield client.ask("GET", page + query, None, headers)
        with Client(server.http, context=context) as client:
            yield client.ask("POST", f"/v2/repository/index{query}", {}, headers)
            for name in MODELS:
                yield client.ask("POST", f"/v2/models/{name}/infer{query}", numbers(1), headers)
                yield client.ask("POST", f"/v2/models/{name}/infer", b"{", headers)
            signature = {
                "X-MLflow-Delivery-Id": "one",
                "X-MLflow-Timestamp": str(int(time.time())),
                "X-MLflow-Signature": f"v1,{PLANTED['signature']}",
            }
            yield client.ask("POST", "/admin/mlflow-webhook", {}, {**headers, **signature})
    for line in ("Authorization Bearer {}", "X-API-Key : {}", " {}", "Cookie: a\0{}"):
        yield told_raw(server, context, line.format(PLANTED["sent line"]))


def told_raw(server: Server, context: ssl.SSLContext, line: str) -> bytes:
    """The answer to a request with a line in its head that is not one."""
    parts = urlsplit(server.http)
    assert parts.hostname is not None
    with (
        socket.create_connection((parts.hostname, parts.port), 60) as plain,
        context.wrap_socket(plain, server_hostname=parts.hostname) as secured,
    ):
        secured.sendall(f"GET /v2 HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n".encode())
        return secured.recv(65536)


def asked_by_rpc(server: Server, folder: Path) -> Iterator[object]:
    """What it answers over gRPC."""
    credentials = grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes())
    metadata = [
        (("x-api-key", key("gRPC key")), ("cookie", PLANTED["gRPC cookie"])),
        (("authorization", f"Bearer {key('key')}"), ("cookie", PLANTED["gRPC cookie"])),
    ]
    with grpc.secure_channel(server.announced["grpc"].rpartition("/")[2], credentials) as channel:
        for given in metadata:
            for method in ("RepositoryIndex", "ServerMetadata", "ModelInfer", "Nothing"):
                call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
                try:
                    yield call(b"", metadata=given, timeout=60)
                except grpc.RpcError as error:
                    yield error.details(), error.trailing_metadata(), error.initial_metadata()


def leaks(text: str) -> dict[str, str]:
    """Where a text has the secret of a place."""
    found = {place: text.find(secret) for place, secret in PLANTED.items()}
    return {place: text[max(0, at - 200) : at + 20] for place, at in found.items() if at >= 0}


def test_no_secret_is_in_the_log(told: tuple[str, list[object]]) -> None:
    log, _ = told

    found = leaks(log)
    assert not found, json.dumps(found, indent=1)


def test_what_would_tell_a_secret_has_happened(told: tuple[str, list[object]]) -> None:
    log, answers = told

    assert [words for words in HAPPENED if words not in log] == []
    statuses = {answer.status for answer in answers if isinstance(answer, Answer)}
    assert {200, 400, 401, 404, 500, 503} <= statuses


def test_no_secret_is_in_an_answer(told: tuple[str, list[object]]) -> None:
    _, answers = told

    found = leaks(repr(answers))
    assert not found, json.dumps(found, indent=1)


@pytest.mark.parametrize(
    ("flag", "wrong"),
    [
        # A key given instead of a file, and an address that serves no set of keys.
        ("--api-keys-file", key("key")),
        ("--jwt-keys", f"https://me:{PLANTED['jwks password']}@127.0.0.1/jwks"),
    ],
)
def test_what_is_wrong_at_the_start_is_told_without_the_secret(
    tmp_path: Path, flag: str, wrong: str
) -> None:
    write_model(tmp_path)
    issuer = ("--jwt-issuer", "a", "--jwt-audience", "b") if flag == "--jwt-keys" else ()
    done = subprocess.run(
        [*COMMAND, "serve", tmp_path, *FREE_PORTS, flag, wrong, *issuer],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode != 0
    assert flag in done.stderr
    assert leaks(done.stdout + done.stderr) == {}
